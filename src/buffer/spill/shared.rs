//! What the inlet and the service share: Redis, the spill, and where pushes go.

use std::mem::discriminant;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::super::{Error, Inlet, Registration, Result};
use super::course::{Course, Met, is_away};
use super::metrics::Metrics;
use super::store::Store;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) redis: Arc<dyn Inlet>,
    pub(super) store: Store,
    pub(super) dir: PathBuf,
    pub(super) metrics: Metrics,
    course: watch::Sender<Course>,
    /// Why nothing went from the spill into Redis when it was tried last, although Redis is there.
    held_back: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(redis: Arc<dyn Inlet>, store: Store, dir: PathBuf, metrics: Metrics) -> Self {
        // Neither trusted nor given up before the first look.
        let unseen = Error::Refused { reason: "Redis was not looked at yet".into() };
        let (course, held_back) = (watch::Sender::new(Course::Barred(unseen)), Mutex::default());
        Self { redis, store, dir, metrics, course, held_back }
    }

    pub(super) fn course(&self) -> Course {
        self.course.borrow().clone()
    }

    pub(super) fn watch_course(&self) -> watch::Receiver<Course> {
        self.course.subscribe()
    }

    /// Takes in how Redis was met.
    pub(super) fn note(&self, met: Met, found: Result<(), &Error>) {
        self.course.send_if_modified(|course| {
            let Some(next) = course.after(met, found) else { return false };
            match &next {
                Course::Direct => {
                    self.store.forget_full();
                    tracing::info!("the buffer is there: heartbeats go into it");
                }
                Course::Spilling(error) => tracing::warn!(%error, "the buffer is away: heartbeats go into the spill"),
                Course::Barred(error) => {
                    tracing::warn!(%error, "the buffer must not be used: heartbeats are refused, the spill stands");
                }
            }
            *course = next;
            true
        });
    }

    /// Looks at everything that is asked of Redis before it is trusted, and makes the spill that of its dataset.
    ///
    /// # Errors
    /// What keeps it from being trusted.
    pub(super) async fn look(&self) -> Result<()> {
        self.redis.durability().await?;
        let found = self.redis.registration().await?.ok_or(Error::NotRegistered)?;
        self.belongs(found)?;
        if self.store.registration().is_none() {
            self.register(found).await;
        }
        self.ping().await
    }

    /// Looks whether Redis is still there, and still that of the dataset.
    pub(super) async fn ping(&self) -> Result<()> {
        match self.redis.ping().await {
            // It refuses for the moment, of which each push will be told.
            Err(error) if error.is_transient() && !is_away(&error) => Ok(()),
            found => found,
        }
    }

    /// Whether the spill keeps heartbeats of this dataset, or none yet.
    fn belongs(&self, found: Registration) -> Result<()> {
        let Some(ours) = self.store.registration().filter(|ours| *ours != found) else { return Ok(()) };
        if ours.dataset != found.dataset {
            return Err(Error::ForeignDataset { expected: ours.dataset, found: found.dataset.to_string() });
        }
        let (dir, ours, found) = (self.dir.display(), ours.partitions, found.partitions);
        let advice =
            format!("spill-dir: the spill in {dir} has {ours} partitions, the buffer {found}; give another directory");
        Err(Error::Unsafe { advice })
    }

    /// A spill whose disk fails must not keep heartbeats from a Redis that is well.
    async fn register(&self, registration: Registration) {
        match self.store.register(registration).await {
            Ok(()) => tracing::info!(dir = %self.dir.display(), dataset = %registration.dataset, "the spill is ready"),
            Err(error) => tracing::warn!(%error, "the spill cannot be made ready: without it, 503 while Redis is away"),
        }
    }

    /// Remembers what Redis, or the spill, said last when nothing went in; logs it when it is of another kind than before.
    pub(super) fn hold_back(&self, why: Option<&Error>) {
        let mut held_back = self.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        let same = held_back.as_ref().map(discriminant) == why.map(discriminant);
        if let Some(error) = why.filter(|_| !same) {
            tracing::warn!(%error, "the spill does not go into the buffer yet");
        }
        *held_back = why.cloned();
    }

    pub(super) fn held_back(&self) -> Option<Error> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
