//! The batcher as a whole: who is alive, which partitions are ours, a worker for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::fault::Ending;
use super::health::Problems;
use super::lag::{LagWatch, Stored};
use super::lease::Held;
use super::ownership::{Ownership, Terms};
use super::worker::{Ended, Worker};
use super::{Error, Metrics, Options, Shared};
use crate::buffer::{Buffer, Lease, LeaseAnswer, PartitionStatus};
use crate::dataset::Dataset;
use crate::heartbeat::{BatcherId, Partition};
use crate::telemetry::health::{Affects, Health, Reporter};

/// Calls to the buffer under way at once, beside those of the workers.
const CALLS_AT_ONCE: usize = 8;
/// Partitions of others looked at in one round.
const FOREIGN_AT_ONCE: usize = 64;
/// A partition that nobody works on waits this many rounds for each rank before it is adopted: more than it takes a
/// living owner to take it.
const GRACE_ROUNDS: u32 = 3;
/// All workers have ended this long after being told to, or are left behind. More than a blocking step's grace and a
/// call to the buffer.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// A batcher: claims what the buffer holds and makes fragments of it. It works once it is [run](Batcher::run).
#[derive(Debug)]
pub struct Batcher {
    id: BatcherId,
    shared: Arc<Shared>,
    batcher_ttl: Duration,
    ownership: Ownership,
    workers: BTreeMap<Partition, Running>,
    tasks: JoinSet<(Partition, Ended)>,
    /// Leases that could not be given back, to be given back before they are taken anew.
    unreleased: BTreeMap<Partition, Lease>,
    next_foreign: usize,
    reporter: Reporter,
    health: Health,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    task: Id,
}

impl Batcher {
    /// A batcher on a buffer that is registered for `dataset`. `batcher_ttl` is how long the others believe in a sign of
    /// life. One that takes over from a batcher that failed in the same process goes on under its `id`: then nobody waits
    /// for the other's leases to expire, and its epochs are higher.
    pub fn new(
        id: BatcherId,
        buffer: Arc<dyn Buffer>,
        dataset: Dataset,
        options: Options,
        batcher_ttl: Duration,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        let terms = Terms {
            grace: *options.announce_every * GRACE_ROUNDS,
            adoption: *options.yield_after,
            rest: *options.yield_rest,
        };
        let places = Semaphore::new(options.claims_at_once.into());
        let shared = Shared {
            buffer,
            dataset,
            options,
            metrics,
            problems: Arc::new(Problems::new(&health, batcher_ttl)),
            places: Arc::new(places),
            alone: Arc::new(AtomicBool::new(true)),
            stored: Stored::default(),
        };
        Self {
            id,
            shared: Arc::new(shared),
            batcher_ttl,
            ownership: Ownership::new(id, terms),
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            unreleased: BTreeMap::new(),
            next_foreign: 0,
            reporter: health.part("batcher", Affects::Health, batcher_ttl),
            health,
        }
    }

    /// The name that the others know it by.
    pub fn id(&self) -> BatcherId {
        self.id
    }

    /// Works until `shutdown`; then interrupts every retry, abandons claims between two steps (they stand, on purpose),
    /// gives its leases back and takes itself off the list of the living.
    ///
    /// # Errors
    /// [`Error::Options`] before anything is done. Whatever happens later is retried, and named on `/health`.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        // The buffer checks its deadlines against each other itself; here only what this part can know.
        self.shared.options.check(Duration::ZERO, self.batcher_ttl).map_err(Error::Options)?;
        tracing::info!(batcher = %self.id, partitions = self.shared.dataset.partitions(), "batching");
        let (dataset, stored) = (self.shared.dataset.clone(), self.shared.stored.clone());
        let (metrics, publish_lag) = (self.shared.metrics.clone(), *self.shared.options.publish_lag);
        let lag = LagWatch::new(dataset, stored, publish_lag, metrics, &self.health);
        tokio::join!(self.lead(&shutdown), lag.run(shutdown.clone()));
        self.stop().await;
        tracing::info!(batcher = %self.id, "stopped batching");
        Ok(())
    }

    async fn lead(&mut self, shutdown: &CancellationToken) {
        let mut rounds = tokio::time::interval(*self.shared.options.announce_every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(ended) = self.tasks.join_next_with_id() => self.reap(ended),
                _ = rounds.tick() => self.round(shutdown).await,
            }
        }
    }

    async fn round(&mut self, shutdown: &CancellationToken) {
        if shutdown.run_until_cancelled(self.announce()).await.is_none() {
            return;
        }
        self.stop_unwanted();
        // Never dropped halfway: a lease that was taken must be known, to be given back.
        self.take_wanted(shutdown).await;
        shutdown.run_until_cancelled(self.look_at_foreign()).await;
        self.shared.metrics.partitions_owned.set(self.workers.len() as i64);
        self.shared.problems.report();
    }

    async fn announce(&mut self) {
        match self.shared.buffer.announce(self.id, self.batcher_ttl).await {
            Ok(living) => {
                let before = self.ownership.living();
                self.ownership.see_living(living);
                let living = self.ownership.living();
                if living != before {
                    tracing::info!(living, "the number of living batchers changed");
                }
                self.shared.alone.store(self.ownership.alone(), Ordering::Relaxed);
                self.reporter.well(format!("{living} batchers alive, {} partitions held here", self.workers.len()));
            }
            // The last known living stay so: others may have to wait, but nothing moves on a guess.
            Err(error) => {
                tracing::debug!(%error, "cannot announce");
                self.shared.metrics.retries.with_label_values(&["buffer"]).inc();
                self.reporter.unwell(format!("cannot tell the other batchers that this one is alive: {error}"));
            }
        }
    }

    fn stop_unwanted(&self) {
        let now = Instant::now();
        for (partition, worker) in &self.workers {
            if !self.ownership.wants(*partition, now) && !worker.stop.is_cancelled() {
                tracing::info!(partition, "handing the partition over");
                worker.stop.cancel();
            }
        }
    }

    fn not_held(&self) -> impl Iterator<Item = Partition> {
        (0..self.shared.dataset.partitions()).filter(|partition| !self.workers.contains_key(partition))
    }

    async fn take_wanted(&mut self, shutdown: &CancellationToken) {
        let now = Instant::now();
        let (wanted, foreign): (Vec<_>, Vec<_>) =
            self.not_held().partition(|partition| self.ownership.wants(*partition, now));
        for partition in foreign {
            // It may have been ours while it could not be leased.
            self.shared.problems.clear(partition);
        }
        let calls = wanted.into_iter().map(|partition| {
            let (shared, id, old) = (self.shared.clone(), self.id, self.unreleased.get(&partition).copied());
            async move { (partition, take(&shared, partition, id, old).await) }
        });
        let answers: Vec<_> = futures::stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).collect().await;
        let before = self.workers.len();
        for (partition, held) in answers {
            let Some(held) = held else { continue };
            self.unreleased.remove(&partition);
            let stop = shutdown.child_token();
            let worker = Worker::new(self.shared.clone(), held, stop.clone());
            let task = self.tasks.spawn(async move { (partition, worker.run().await) }).id();
            self.workers.insert(partition, Running { stop, task });
        }
        if self.workers.len() > before {
            tracing::info!(taken = self.workers.len() - before, held = self.workers.len(), "took partitions");
        }
    }

    /// Looks whether partitions of others are worked on, a stretch of them in turn.
    async fn look_at_foreign(&mut self) {
        if self.ownership.alone() {
            return;
        }
        let foreign: Vec<_> = self.not_held().collect();
        let stretch = foreign.iter().copied().cycle().skip(self.next_foreign).take(foreign.len().min(FOREIGN_AT_ONCE));
        let calls = stretch.map(|partition| {
            let shared = self.shared.clone();
            async move { shared.buffer.status(partition).await }
        });
        let answers: Vec<_> = futures::stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).collect().await;
        self.next_foreign = (self.next_foreign + FOREIGN_AT_ONCE) % foreign.len().max(1);
        let now = Instant::now();
        // A failed look tells nothing.
        for status in answers.into_iter().flatten() {
            self.ownership.see_foreign(status.partition, is_neglected(&status), now);
        }
    }

    fn reap(&mut self, ended: Result<(Id, (Partition, Ended)), JoinError>) {
        match ended {
            Ok((_, (partition, ended))) => {
                self.workers.remove(&partition);
                if let Some(lease) = ended.unreleased {
                    self.unreleased.insert(partition, lease);
                }
                if ended.why == Ending::Yielded {
                    self.ownership.yielded(partition, Instant::now());
                }
            }
            // Its lease is left to expire: to the buffer that is a death, and in the end the claim is handled with care.
            Err(error) => {
                self.workers.retain(|_, worker| worker.task != error.id());
                self.shared.metrics.retries.with_label_values(&["panic"]).inc();
                tracing::error!(%error, "a worker panicked");
            }
        }
    }

    async fn stop(&mut self) {
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_DEADLINE, all_ended).await.is_err() {
            tracing::warn!("some workers did not stop in time; their leases expire");
        }
        self.shared.metrics.partitions_owned.set(0);
        if let Err(error) = self.shared.buffer.retire(self.id).await {
            tracing::warn!(%error, "could not take this batcher off the list of the living; the others wait for it to expire");
        }
    }
}

/// Work waits, and nobody may do it.
fn is_neglected(status: &PartitionStatus) -> bool {
    status.owner.is_none() && (status.claim.is_some() || status.oldest_pending.is_some())
}

async fn take(shared: &Arc<Shared>, partition: Partition, id: BatcherId, old: Option<Lease>) -> Option<Held> {
    let (ttl, renew_every) = (*shared.options.lease_ttl, *shared.options.renew_every);
    let answer = async {
        if let Some(old) = old {
            shared.buffer.release(&old).await?;
        }
        let asked_at = Instant::now();
        shared.buffer.lease(partition, id, ttl).await.map(|answer| (asked_at, answer))
    };
    match answer.await {
        Ok((asked_at, LeaseAnswer::Taken(lease))) => {
            tracing::debug!(partition, epoch = lease.epoch, "took the partition");
            shared.problems.clear(partition);
            Some(Held::begin(shared.buffer.clone(), lease, asked_at, ttl, renew_every))
        }
        // The batcher before this one is about to let go, or its lease to expire.
        Ok((_, LeaseAnswer::Held { .. })) => {
            shared.problems.clear(partition);
            None
        }
        Err(error) => {
            tracing::debug!(partition, %error, "cannot lease the partition");
            shared.metrics.retries.with_label_values(&["buffer"]).inc();
            shared.problems.raise(partition, format!("cannot lease it: {error}"));
            None
        }
    }
}
