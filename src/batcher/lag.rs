//! Noticing that nobody compacts: fragments that wait too long to be published; and how much room the disk has left.
//!
//! Constraints: the cost of a look does not grow with the dataset. Each look visits the buckets that are known to hold
//! fragments (this process's own, and those met before) and a bounded stretch of all the others, in turn.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::dataset::{self, Bucket, Dataset};
use crate::telemetry::health::{Affects, Health, Reporter};

/// So many looks in the time that a fragment may wait, no fewer than one in [`LOOK_EVERY_MOST`].
const LOOKS: u32 = 4;
const LOOK_EVERY_MOST: Duration = Duration::from_secs(10);
const LOOK_EVERY_LEAST: Duration = Duration::from_millis(250);
/// A look that takes longer than this is a disk that hangs.
const LOOK_DEADLINE: Duration = Duration::from_secs(60);
/// Buckets visited in one look, of each of the two kinds.
const STRETCH: usize = 512;

/// The buckets that this process stored fragments in since the last look. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored(Arc<Mutex<BTreeSet<Bucket>>>);

impl Stored {
    pub(super) fn note(&self, bucket: Bucket) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not noted is met in turn.
        if buckets.len() < STRETCH {
            buckets.insert(bucket);
        }
    }

    fn take(&self) -> BTreeSet<Bucket> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks every now and then, and reports to part `publish lag`.
#[derive(Debug)]
pub(super) struct LagWatch {
    scan: Scan,
    publish_lag: Duration,
    metrics: Metrics,
    reporter: Reporter,
}

#[derive(Debug, Clone)]
struct Scan {
    dataset: Dataset,
    stored: Stored,
    holding: BTreeSet<Bucket>,
    swept_to: Option<Bucket>,
}

impl LagWatch {
    pub(super) fn new(
        dataset: Dataset,
        stored: Stored,
        publish_lag: Duration,
        metrics: Metrics,
        health: &Health,
    ) -> Self {
        metrics.disk_min_free.set(number(dataset.min_free_bytes()));
        let reporter = health.part("publish lag", Affects::Health, LOOK_DEADLINE);
        let scan = Scan { dataset, stored, holding: BTreeSet::new(), swept_to: None };
        Self { scan, publish_lag, metrics, reporter }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let pause = (self.publish_lag / LOOKS).clamp(LOOK_EVERY_LEAST, LOOK_EVERY_MOST);
        while shutdown.run_until_cancelled(self.look()).await.is_some() {
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self) {
        let mut scan = self.scan.clone();
        let look = move || {
            let (oldest, free) = (scan.look()?, scan.dataset.free_bytes()?);
            Ok::<_, dataset::Error>((scan, oldest, free))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok((scan, oldest, free))) => {
                self.scan = scan;
                self.metrics.disk_free.set(number(free));
                self.metrics.oldest_fragment_age.set(number(oldest.map_or(0, |(_, age)| age.as_secs())));
                self.report(oldest);
            }
            Ok(Err(error)) => self.reporter.unwell(format!("cannot look for fragments: {error}")),
            Err(_) => self.reporter.unwell("looking for fragments panicked; see the log"),
        }
    }

    fn report(&self, oldest: Option<(Bucket, Duration)>) {
        match oldest {
            Some((bucket, age)) if age > self.publish_lag => self.reporter.unwell(format!(
                "a fragment of {bucket} has waited for {} s to be published: is `systole compact` running?",
                age.as_secs()
            )),
            Some((_, age)) => self.reporter.well(format!("the oldest fragment is {} s old", age.as_secs())),
            None => self.reporter.well("no fragment waits"),
        }
    }
}

/// A gauge of the crate is signed; no size of a disk comes near its bound.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Scan {
    /// The bucket with the oldest fragment met, and its age.
    fn look(&mut self) -> Result<Option<(Bucket, Duration)>, dataset::Error> {
        self.holding.append(&mut self.stored.take());
        let mut visit: BTreeSet<Bucket> = self.holding.iter().copied().take(STRETCH).collect();
        visit.extend(self.next_stretch()?);
        let mut oldest = None;
        for bucket in visit {
            match self.age(bucket)? {
                None => drop(self.holding.remove(&bucket)),
                Some(age) => {
                    self.holding.insert(bucket);
                    oldest = oldest.max(Some((age, bucket)));
                }
            }
        }
        Ok(oldest.map(|(age, bucket)| (bucket, age)))
    }

    fn next_stretch(&mut self) -> Result<Vec<Bucket>, dataset::Error> {
        let all: BTreeSet<Bucket> = self.dataset.buckets()?.into_iter().collect();
        let after = self.swept_to.map_or(Bound::Unbounded, Bound::Excluded);
        let stretch: Vec<Bucket> = all.range((after, Bound::Unbounded)).copied().take(STRETCH).collect();
        // At the end of the tree the next look begins anew.
        self.swept_to = if stretch.len() < STRETCH { None } else { stretch.last().copied() };
        Ok(stretch)
    }

    /// The age of the bucket's first fragment: names begin with the claim's id, and ids are ordered by time.
    fn age(&self, bucket: Bucket) -> Result<Option<Duration>, dataset::Error> {
        let fragments = self.dataset.list_fragments(bucket)?;
        match fragments.first().map(|name| self.dataset.fragment_age(bucket, name)) {
            None | Some(Err(dataset::Error::NotFound { .. })) => Ok(None),
            Some(age) => age.map(Some),
        }
    }
}
