//! The flow as it is now, for people: one answer made of what the monitor, the health board, the counters, the files and the
//! books know.
//!
//! Constraints:
//! - Nothing is gathered while nobody looks, but a step of the history every ten seconds, made of what others have looked at.
//!   Several who look share one gathering (`shared`): at most one a second, and each of its costlier pieces more seldom.
//! - It only looks. The buffer is asked for dead letters and silent devices alone; its state is the monitor's last snapshot, so
//!   that every number agrees with `/metrics`.
//! - A gathering ends within [`PATIENCE`]: a piece that takes longer is told as it was before, or as null the first time.
//! - Memory is bounded whatever is stored: the history takes 30 KiB, the files (`inventory`) at most 12 MiB, and 2 MiB for a
//!   month of 16 partitions; the rest is what one answer takes.
//!
//! Operations: [`Overview::new`], [`Overview::run`] beside the other parts, [`Overview::status`], [`Overview::history`].

mod advice;
mod exceptions;
mod gather;
mod history;
mod inventory;
mod problems;
mod refusals;
pub mod report;
mod shared;
#[cfg(test)]
mod test_support;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus::{IntCounterVec, Registry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::advice::Situation;
use self::history::Flow;
use self::inventory::{Inventory, Looked, NotSeen};
use self::refusals::Refusals;
use self::report::{BooksOfFiles, DeadLetters, History, Rates, Refused, Role, Silent, Status};
use self::shared::Shared;
use crate::books::audit::{self, Verdict};
use crate::buffer::monitor::Snapshot;
use crate::buffer::{self, Devices, Inspect};
use crate::dataset::Awaited;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Register;

/// An answer is good for so long: browsers look every second or two.
const FRESH: Duration = Duration::from_secs(1);
/// Files, dead letters and silent devices are looked at no more often.
const PIECE_FRESH: Duration = Duration::from_secs(5);
/// The books of the files are counted no more often: it takes the footer of every file.
const BOOKS_FRESH: Duration = Duration::from_secs(60);
/// Beyond so many published files their books are left to `systole audit`: counting them would take more than some seconds.
const BOOKS_MAX_FILES: u64 = 4_000;
/// How long a gathering waits for one of its pieces.
const PIECE_PATIENCE: Duration = Duration::from_secs(1);
/// How long who looks waits for a gathering. Longer than [`PIECE_PATIENCE`]: the pieces are gathered side by side.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it looks at.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Which process tells.
    pub role: Role,
    /// Asked for dead letters, and for the books.
    pub buffer: Arc<dyn Inspect>,
    /// Asked for silent devices.
    pub devices: Arc<dyn Devices>,
    /// The files; none where this process was given none to look at.
    pub dataset: Option<Awaited>,
    /// A fragment that waits for longer is overdue.
    pub publish_lag: Duration,
    /// What the monitor sees.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Why it could not look the last time.
    pub fault: watch::Receiver<Option<buffer::Error>>,
    /// A batcher without a sign of life for so long counts as dead.
    pub batcher_ttl: Duration,
    /// How the parts are.
    pub health: Health,
}

/// See the module. A cheap handle.
#[derive(Debug, Clone)]
pub struct Overview {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sources: Sources,
    registry: Registry,
    started: Instant,
    flow: Mutex<Flow>,
    refusals: Mutex<Refusals>,
    inventory: Arc<Mutex<Inventory>>,
    status: Shared<Status>,
    files: Shared<Result<Arc<Looked>, String>>,
    dead_letters: Shared<DeadLetters>,
    silent: Shared<Silent>,
    books: Shared<BooksOfFiles>,
    gatherings: IntCounterVec,
}

impl Overview {
    /// An overview of these, with the counters of `registry`.
    ///
    /// # Errors
    /// The name of its metric is taken.
    pub fn new(sources: Sources, registry: &Registry) -> Result<Self, prometheus::Error> {
        let gatherings = Register(registry).counters(
            "overview_gatherings_total",
            "How often something was gathered because somebody looked at the overview, by what it was.",
            &["of"],
        )?;
        for of in ["status", "files", "dead_letters", "silent", "books"] {
            gatherings.with_label_values(&[of]);
        }
        let inner = Inner {
            sources,
            registry: registry.clone(),
            started: Instant::now(),
            flow: Mutex::default(),
            refusals: Mutex::default(),
            inventory: Arc::default(),
            status: Shared::default(),
            files: Shared::default(),
            dead_letters: Shared::default(),
            silent: Shared::default(),
            books: Shared::default(),
            gatherings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps the history until `shutdown`. It may be called again should it have failed.
    pub async fn run(&self, shutdown: CancellationToken) {
        let inner = &*self.inner;
        let mut snapshot = inner.sources.snapshot.clone();
        let refused = inner.mark_refused();
        inner.flow().begin(Instant::now(), refused);
        let mut next = Box::pin(tokio::time::sleep(history::until_next(now_ms())));
        let mut watching = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                seen = snapshot.changed(), if watching => match seen {
                    Ok(()) => if let Some(snapshot) = snapshot.borrow_and_update().as_deref() {
                        inner.flow().look(snapshot);
                    },
                    // The monitor is gone; refusals are counted all the same.
                    Err(_) => watching = false,
                },
                () = &mut next => {
                    let refused = inner.mark_refused();
                    inner.flow().step(Instant::now(), now_ms(), refused);
                    next.set(tokio::time::sleep(history::until_next(now_ms())));
                }
            }
        }
    }

    /// The last hour, up to the last step.
    pub fn history(&self) -> History {
        self.inner.flow().history(now_ms())
    }

    /// The flow as it is now, or was within the last second. `None` when it cannot be told in time.
    pub async fn status(&self) -> Option<Arc<Status>> {
        let inner = self.inner.clone();
        self.inner.status.get(FRESH, PATIENCE, || async move { Some(inner.gather().await) }).await
    }
}

impl Inner {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        // What could panic in there are sums of counters; a step more or less in a line for people.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, of: &str) {
        self.gatherings.with_label_values(&[of]).inc();
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process refused since it started.
    fn refused(&self) -> Vec<Refused> {
        gather::refused(&self.registry.gather())
    }

    /// In heartbeats; remembers it by reason.
    fn mark_refused(&self) -> u64 {
        let refused = self.refused();
        self.refusals().mark(Instant::now(), &refused);
        refused.iter().map(|refused| refused.heartbeats).sum()
    }

    async fn gather(self: Arc<Self>) -> Status {
        self.count("status");
        let snapshot = self.sources.snapshot.borrow().clone();
        let (files, dead_letters, silent) =
            tokio::join!(self.files(), self.dead_letters(snapshot.clone()), self.silent(snapshot.clone()));
        let (books, books_unknown) = self.books(&files).await;
        // The buffer as it is by now, and not before the parts that tell of it.
        let (parts, fault) = (self.sources.health.snapshot(), self.sources.fault.borrow().clone());
        let snapshot = self.sources.snapshot.borrow().clone();
        let (now, refused, role) = (Instant::now(), self.refused(), self.sources.role);
        let situation = Situation::of(role, fault.as_ref(), snapshot.as_deref());
        let verdict = gather::verdict(parts, &situation)
            .and(self.refusals().look(now, &refused))
            .and(problems::of_files(&files, self.sources.publish_lag, &situation));
        let flow = self.flow().rates(now);
        let rates = Rates {
            r#in: flow.map(|(rate_in, _)| rate_in),
            out: flow.map(|(_, rate_out)| rate_out),
            published: files.as_ref().ok().map(|looked| looked.published_a_second),
        };
        let snapshot = snapshot.as_deref();
        Status {
            now: now_ms(),
            version: env!("CARGO_PKG_VERSION"),
            role,
            uptime_s: self.started.elapsed().as_secs(),
            verdict,
            rates,
            refused,
            buffer: snapshot.map(|snapshot| gather::buffer(role, snapshot, now)),
            batchers: snapshot
                .filter(|_| fault.is_none())
                .map(|seen| gather::batchers(seen, self.sources.batcher_ttl, now)),
            files: files.as_ref().ok().map(|looked| looked.files.clone()),
            files_unknown: files.err().map(|why| why.to_string()),
            dead_letters: dead_letters.map(|letters| (*letters).clone()),
            silent: silent.map(|silent| (*silent).clone()),
            books: snapshot.map(|snapshot| gather::books(snapshot, books, books_unknown)),
        }
    }

    async fn files(self: &Arc<Self>) -> Result<Arc<Looked>, NotSeen> {
        let awaited = self.sources.dataset.as_ref().ok_or(NotSeen::NotGiven)?;
        let dataset = awaited.get().ok_or(NotSeen::NotThere)?.clone();
        let (inner, inventory) = (self.clone(), self.inventory.clone());
        let look = move || async move {
            inner.count("files");
            let look = move || {
                // Whatever panicked in there has left whole buckets, or none of one.
                let mut inventory = inventory.lock().unwrap_or_else(PoisonError::into_inner);
                inventory.look(&dataset, Timestamp::now())
            };
            let found = tokio::task::spawn_blocking(look).await.ok()?;
            Some(found.map(Arc::new).map_err(|error| error.to_string()))
        };
        match self.files.get(PIECE_FRESH, PIECE_PATIENCE, look).await.as_deref() {
            Some(Ok(looked)) => Ok(looked.clone()),
            Some(Err(why)) => Err(NotSeen::Unreadable(why.clone())),
            None => Err(NotSeen::Counting),
        }
    }

    async fn dead_letters(self: &Arc<Self>, snapshot: Option<Arc<Snapshot>>) -> Option<Arc<DeadLetters>> {
        let (inner, snapshot) = (self.clone(), snapshot?);
        let list = move || async move {
            inner.count("dead_letters");
            told("dead letters", exceptions::dead_letters(&*inner.sources.buffer, &snapshot.partitions).await)
        };
        self.dead_letters.get(PIECE_FRESH, PIECE_PATIENCE, list).await
    }

    async fn silent(self: &Arc<Self>, snapshot: Option<Arc<Snapshot>>) -> Option<Arc<Silent>> {
        let (inner, partitions) = (self.clone(), u16::try_from(snapshot?.partitions.len()).ok()?);
        let list = move || async move {
            inner.count("silent");
            told("silent devices", exceptions::silent(inner.sources.devices.clone(), partitions, now_ms()).await)
        };
        self.silent.get(PIECE_FRESH, PIECE_PATIENCE, list).await
    }

    /// The books of the files, or why they are not known.
    async fn books(
        self: &Arc<Self>,
        files: &Result<Arc<Looked>, NotSeen>,
    ) -> (Option<BooksOfFiles>, Option<&'static str>) {
        let Some(dataset) = self.sources.dataset.as_ref().and_then(Awaited::get).cloned() else {
            return (None, Some("this process sees no files"));
        };
        let files = match files {
            Ok(files) => files,
            Err(NotSeen::Unreadable(_)) => return (None, Some("the files cannot be read now")),
            Err(_) => return (None, Some("the files are not known yet")),
        };
        if !files.files.complete || files.files.published_files > BOOKS_MAX_FILES {
            return (None, Some("there are many files; `systole audit` counts them"));
        }
        let inner = self.clone();
        let count = move || async move {
            inner.count("books");
            let at = now_ms();
            let report = told("the books", audit::audit(inner.sources.buffer.clone(), dataset).await)?;
            Some(BooksOfFiles {
                at,
                staged: report.sum(|books| books.files.staged),
                merged: report.sum(|books| books.files.merged),
                quarantined: report.sum(|books| books.files.quarantined),
                balanced: report.verdict == Verdict::Balanced,
            })
        };
        match self.books.get(BOOKS_FRESH, Duration::ZERO, count).await {
            Some(books) => (Some(*books), None),
            None => (None, Some("they are being counted, or cannot be; see the log at debug level")),
        }
    }
}

/// What was found; says at debug level why nothing was: the board and the log have said so of whatever is unwell.
fn told<T, E: std::fmt::Display>(what: &str, found: Result<T, E>) -> Option<T> {
    found.inspect_err(|error| tracing::debug!(%error, "cannot look at {what} for the overview")).ok()
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
