//! From a claim to its acknowledgement: the one place where buffer and dataset meet.
//!
//! Constraints, in the order of the steps:
//! 1. Whatever can fail because of the data fails before anything stands on disk: all fragments are encoded first.
//! 2. What is left out is written into the claim before the first fragment is renamed, so that every later attempt, by
//!    whomever, leaves out the same and makes the same fragments.
//! 3. Only when every fragment is safe on disk is the claim acknowledged.
//!
//! Every step may be the last: a process that dies between two of them leaves a claim that stands, and the next owner
//! does all of it again, over what is there.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Shared;
use super::cadence::CAREFUL_AFTER_DEATHS;
use super::condemn::{Encoded, Frames, add_condemned, condemn_frame, encode_claim, judge_frame};
use super::fault::Halt;
use super::interrupt::Signals;
use crate::buffer::{Claim, Condemned, InHand, Lease};
use crate::dataset::{self, Bucket, EncodedFragment, encode_fragment};
use crate::failpoint;
use crate::heartbeat::{ClaimId, HeartbeatRef};

/// After so many owners died with one frame in hand, that frame is condemned.
const CONDEMN_AFTER_DEATHS: u32 = 3;

/// One claim in the hands of one worker.
pub(super) struct Job<'a> {
    shared: &'a Shared,
    signals: &'a Signals,
    lease: &'a Lease,
    /// Shared with blocking steps, which may outlive the worker's interest in them: memory is spoken for until they end.
    hand: Arc<Hand>,
    condemned: Vec<Condemned>,
    claimed_at: Instant,
}

struct Hand {
    claim: Claim,
    _permit: OwnedSemaphorePermit,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        signals: &'a Signals,
        lease: &'a Lease,
        claim: Claim,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let condemned = claim.condemned.clone();
        let hand = Arc::new(Hand { claim, _permit: permit });
        Self { shared, signals, lease, hand, condemned, claimed_at: Instant::now() }
    }

    /// Writes the claim, then acknowledges it.
    pub(super) async fn finish(mut self) -> Result<(), Halt> {
        reached("batcher.claimed").await?;
        if self.hand.claim.deaths >= CAREFUL_AFTER_DEATHS {
            self.try_each_frame().await?;
        }

        let Encoded { fragments, condemned } = self.encode().await?;
        reached("batcher.encoded").await?;

        self.condemn(condemned).await?;
        reached("batcher.condemned").await?;

        for (bucket, fragment) in fragments {
            self.signals.check()?;
            self.store(bucket, fragment).await?;
            reached("batcher.stored_one").await?;
        }

        reached("batcher.before_ack").await?;
        // Not `signals.check`: all is stored, so an acknowledgement is the quickest way to stop, too.
        self.signals.standing.check()?;
        self.shared.buffer.ack(self.lease, self.claim(), &self.condemned).await?;
        self.count_acked();
        reached("batcher.acked").await?;
        Ok(())
    }

    fn claim(&self) -> ClaimId {
        self.hand.claim.id
    }

    async fn encode(&self) -> Result<Encoded, Halt> {
        let (hand, condemned, partition) = (self.hand.clone(), self.condemned.clone(), self.lease.partition);
        let encode = move || {
            let claim = Frames { frames: &hand.claim.frames, partition, known: &condemned };
            encode_claim(claim, &encode_or_fail)
        };
        Ok(self.signals.blocking(encode).await??)
    }

    async fn condemn(&mut self, condemned: Vec<Condemned>) -> Result<(), Halt> {
        if condemned.is_empty() {
            return Ok(());
        }
        for entry in &condemned {
            tracing::warn!(
                partition = self.lease.partition,
                claim = %self.claim(),
                frame = entry.frame,
                row = entry.row,
                letter = %entry.id,
                reason = entry.reason,
                "laying aside what can never be written"
            );
        }
        self.shared.buffer.condemn(self.lease, self.claim(), &condemned).await?;
        condemned.into_iter().for_each(|entry| add_condemned(&mut self.condemned, entry));
        Ok(())
    }

    async fn store(&self, bucket: Bucket, fragment: EncodedFragment) -> Result<(), Halt> {
        let (dataset, standing) = (self.shared.dataset.clone(), self.signals.standing.clone());
        let (hand, began) = (self.hand.clone(), Instant::now());
        let (rows, bytes) = (fragment.rows, fragment.bytes.len() as u64);
        let store = move || -> Result<(), Halt> {
            // Again here: the step may have waited for its thread.
            standing.check()?;
            dataset.store_fragment(bucket, hand.claim.id, &fragment)?;
            Ok(())
        };
        self.signals.blocking(store).await??;
        self.shared.stored.note(bucket);
        let metrics = &self.shared.metrics;
        metrics.fragment_write_seconds.observe(began.elapsed().as_secs_f64());
        metrics.fragments.inc();
        metrics.rows.inc_by(rows);
        metrics.bytes.inc_by(bytes);
        Ok(())
    }

    /// Careful mode: the frame that is tried is on record first, so that a death with it in hand can be told.
    async fn try_each_frame(&mut self) -> Result<(), Halt> {
        self.condemn_the_killer().await?;
        let frames = u32::try_from(self.hand.claim.frames.len()).unwrap_or(u32::MAX);
        for frame in 0..frames {
            self.signals.check()?;
            self.shared.buffer.take_in_hand(self.lease, self.claim(), Some(frame)).await?;
            reached("batcher.in_hand").await?;
            let (hand, condemned, partition) = (self.hand.clone(), self.condemned.clone(), self.lease.partition);
            let judge = move || {
                let claim = Frames { frames: &hand.claim.frames, partition, known: &condemned };
                judge_frame(claim, frame, &encode_or_fail)
            };
            let found = self.signals.blocking(judge).await??;
            self.condemn(found).await?;
        }
        self.shared.buffer.take_in_hand(self.lease, self.claim(), None).await?;
        Ok(())
    }

    async fn condemn_the_killer(&mut self) -> Result<(), Halt> {
        let Some(InHand { frame, deaths }) = self.hand.claim.in_hand else {
            return Ok(());
        };
        if deaths < CONDEMN_AFTER_DEATHS {
            return Ok(());
        }
        let frames = &self.hand.claim.frames;
        let claim = Frames { frames, partition: self.lease.partition, known: &self.condemned };
        let killer = condemn_frame(claim, frame, &format!("{deaths} batchers died while working on this frame"));
        self.condemn(killer.into_iter().collect()).await
    }

    fn count_acked(&self) {
        let metrics = &self.shared.metrics;
        metrics.batches.inc();
        metrics.claim_seconds.observe(self.claimed_at.elapsed().as_secs_f64());
        metrics.condemned_rows.inc_by(self.condemned.iter().map(|entry| u64::from(entry.rows)).sum());
    }
}

fn encode_or_fail(sorted: &[HeartbeatRef<'_>]) -> Result<EncodedFragment, dataset::Error> {
    failpoint::reached("batcher.encode").map_err(|source| dataset::Error::Io {
        context: "encode",
        path: Default::default(),
        source,
    })?;
    encode_fragment(sorted)
}

/// A failpoint may wait for ever, so it gets a thread where it may.
pub(super) async fn reached(name: &'static str) -> std::io::Result<()> {
    tokio::task::spawn_blocking(move || failpoint::reached(name))
        .await
        .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}
