//! One partition's loop, for as long as its lease stands: look, claim, write, acknowledge.
//!
//! Constraints:
//! - One claim at a time. Between two tries nothing of a claim is kept: the buffer hands a standing claim back, whole, so
//!   a partition in trouble occupies neither memory nor one of the places for claims at once.
//! - Faults of the world are tried again for ever; the worker ends only when it is told to, has lost its lease, or should
//!   let another batcher try.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytesize::ByteSize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::cadence::{Cadence, Next, Waiting};
use super::fault::{Ending, Fault, Halt};
use super::interrupt::{Busy, Signals};
use super::lease::Held;
use super::write::Job;
use crate::backoff::Backoff;
use crate::buffer::Lease;
use crate::failpoint::reached_by_task as reached;
use crate::heartbeat::ClaimId;

/// Works on one partition.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    held: Held,
    signals: Signals,
    cadence: Cadence,
    backoff: Backoff,
}

/// How a worker ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) why: Ending,
    /// The lease, when it could not be given back.
    pub(super) unreleased: Option<Lease>,
}

enum Turn {
    Acked,
    Idle(std::time::Duration),
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, held: Held, stop: CancellationToken) -> Self {
        let options = &shared.options;
        let signals = Signals {
            partition: held.lease().partition,
            stop,
            standing: held.standing().clone(),
            alone: shared.alone.clone(),
            yield_after: *options.yield_after,
            busy: Busy::default(),
            problems: shared.problems.clone(),
        };
        let cadence = Cadence::new(*options.max_delay, *options.look_every, options.claim_rows, Instant::now());
        // The random bits of the id, and what tells the workers of one batcher apart.
        let who = held.lease().batcher.to_u128() as u64 ^ held.lease().epoch << 16 ^ u64::from(held.lease().partition);
        let backoff = Backoff::with_jitter_of(who, *options.retry_first, *options.retry_most);
        Self { shared, held, signals, cadence, backoff }
    }

    /// Works until it must end, then gives the lease back.
    pub(super) async fn run(mut self) -> Ended {
        let why = self.work().await;
        self.shared.problems.clear(self.signals.partition);
        if why == Ending::Yielded {
            self.shared.metrics.yields.inc();
            tracing::warn!(partition = self.signals.partition, "not finished in time: leaving it to another batcher");
        }
        self.held.stop_renewing();
        // Even when it may be lost: if it is not, a claim that stands is then known to be left on purpose. A death is a
        // process that died, not a buffer that was away.
        let unreleased = self.release().await.err().map(|()| *self.held.lease());
        Ended { why, unreleased }
    }

    async fn release(&self) -> Result<(), ()> {
        let fault = |error: &dyn std::fmt::Display| {
            tracing::debug!(partition = self.signals.partition, %error, "could not give the lease back; it expires");
        };
        reached("batcher.before_release").await.map_err(|error| fault(&error))?;
        self.shared.buffer.release(self.held.lease()).await.map_err(|error| fault(&error))
    }

    async fn work(&mut self) -> Ending {
        if let Err(error) = reached("batcher.leased").await {
            self.trouble(&error.into());
            return Ending::Stopped;
        }
        loop {
            if let Err(ending) = self.signals.check() {
                return ending;
            }
            let pause = match self.turn().await {
                Ok(Turn::Acked) => {
                    self.all_is_well();
                    continue;
                }
                Ok(Turn::Idle(pause)) => {
                    self.all_is_well();
                    pause
                }
                Err(Halt::Gone) => *self.shared.options.look_every,
                Err(Halt::Fault(fault)) => {
                    self.trouble(&fault);
                    self.backoff.pause()
                }
                Err(Halt::Ended(ending)) => return ending,
            };
            if let Err(ending) = self.signals.pause(pause).await {
                return ending;
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, Halt> {
        let partition = self.signals.partition;
        let status = self.shared.buffer.status(partition).await?;
        let waiting = Waiting {
            // The ledger does not know a frame that no push wrote; it must be cleared away all the same.
            rows: status.ledger.pending.max(status.oldest_pending.is_some().into()),
            oldest: status.oldest_pending,
            standing: status.claim.map(|claim| claim.deaths),
        };
        match self.cadence.next(waiting, Instant::now()) {
            Next::LookAgainIn(pause) => Ok(Turn::Idle(pause)),
            Next::Claim => {
                // Kept across retries, so that what cannot be finished is left to another batcher in the end.
                self.signals.busy.begin();
                self.claim_and_finish().await
            }
        }
    }

    async fn claim_and_finish(&mut self) -> Result<Turn, Halt> {
        let place = self.signals.unless_ended(self.shared.places.clone().acquire_owned()).await?;
        // The places are never closed; were they, nothing could be in hand.
        let place = place.map_err(|_| Ending::Stopped)?;
        let place = self.require_room_on_disk(place).await?;
        self.signals.check()?;
        let (lease, budget) = (*self.held.lease(), self.shared.options.claim_budget());
        let Some(claim) = self.shared.buffer.claim(&lease, ClaimId::new(), budget).await? else {
            return Ok(Turn::Idle(*self.shared.options.look_every));
        };
        self.cadence.claimed(claim.rows, Instant::now());
        tracing::debug!(
            partition = lease.partition,
            claim = %claim.id,
            rows = claim.rows,
            standing = claim.standing,
            deaths = claim.deaths,
            "claimed"
        );
        Job::new(&self.shared, &self.signals, &lease, claim, place).finish().await?;
        Ok(Turn::Acked)
    }

    /// The place goes along, so that on a disk that hangs there are never more threads that wait than places.
    async fn require_room_on_disk(&self, place: OwnedSemaphorePermit) -> Result<OwnedSemaphorePermit, Halt> {
        let dataset = self.shared.dataset.clone();
        let (free, place) = self.signals.blocking(move || (dataset.free_bytes(), place)).await?;
        let free = free?;
        let least = self.shared.dataset.min_free_bytes();
        if free < least {
            return Err(Fault::LowDisk { free: ByteSize(free), least: ByteSize(least) }.into());
        }
        Ok(place)
    }

    fn all_is_well(&mut self) {
        self.signals.busy.end();
        self.backoff.reset();
        if let Some(lasted) = self.shared.problems.clear(self.signals.partition) {
            tracing::info!(partition = self.signals.partition, ?lasted, "recovered");
        }
    }

    fn trouble(&self, fault: &Fault) {
        let partition = self.signals.partition;
        self.shared.metrics.retries.with_label_values(&[fault.kind()]).inc();
        let news = self.shared.problems.raise(partition, fault.to_string());
        let alone = self.shared.alone.load(Ordering::Relaxed);
        if news {
            tracing::warn!(partition, kind = fault.kind(), alone, %fault, "cannot go on; trying again");
        } else {
            tracing::debug!(partition, kind = fault.kind(), alone, %fault, "still cannot go on");
        }
    }
}
