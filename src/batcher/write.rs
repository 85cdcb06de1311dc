//! From a claim to its acknowledgement: the one place where buffer and dataset meet.
//!
//! Constraints, in the order of the steps:
//! 1. Whatever can fail because of the data fails before anything stands on disk: all fragments are encoded first.
//! 2. What is left out is written into the claim before the first fragment is renamed, so that every later attempt, by
//!    whomever, leaves out the same and makes the same fragments.
//! 3. A claim that has lost frames is not worked on: acknowledging it would count as written what nobody has.
//! 4. Only when every fragment is safe on disk is the claim acknowledged.
//!
//! Every step may be the last: a process that dies between two of them leaves a claim that stands, and the next owner
//! does all of it again, over what is there.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Shared;
use super::cadence::CAREFUL_AFTER_DEATHS;
use super::condemn::{Encoded, Frames, add_condemned, condemn_frame, encode_claim, judge_frame};
use super::fault::{Fault, Halt};
use super::interrupt::Signals;
use crate::buffer::{Claim, Condemned, InHand, Lease};
use crate::dataset::{self, Bucket, EncodedFragment, encode_fragment};
use crate::failpoint::{self, reached_by_task as reached};
use crate::heartbeat::{ClaimId, FrameError, FrameHeader, HeartbeatRef};

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
        require_frames(&self.hand.claim)?;
        if self.hand.claim.deaths >= CAREFUL_AFTER_DEATHS {
            self.try_each_frame().await?;
        }

        let Encoded { fragments, condemned } = self.encode().await?;
        reached("batcher.encoded").await?;

        self.condemn(condemned).await?;
        reached("batcher.condemned").await?;

        for (stored, (bucket, fragment)) in (1..).zip(fragments) {
            self.signals.check()?;
            self.store(bucket, fragment).await?;
            self.signals.busy.stored(self.claim(), stored);
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

/// Fails where frames of the claim are gone. A damaged one may say of itself whatever it likes: as long as one is there, what
/// the others lack may be its.
fn require_frames(claim: &Claim) -> Result<(), Fault> {
    let counted = |frame: &Bytes| FrameHeader::plausible(frame).map_or(0, |header| u64::from(header.count));
    let found: u64 = claim.frames.iter().map(counted).sum();
    if found >= claim.rows || !claim.frames.iter().all(is_whole) {
        return Ok(());
    }
    Err(Fault::FramesGone { gone: claim.rows - found, rows: claim.rows })
}

/// Whether it is as it was encoded, by this version or a newer one.
fn is_whole(frame: &Bytes) -> bool {
    matches!(FrameHeader::verify(frame), Ok(_) | Err(FrameError::UnknownVersion(_)))
}

fn encode_or_fail(sorted: &[HeartbeatRef<'_>]) -> Result<EncodedFragment, dataset::Error> {
    failpoint::reached("batcher.encode").map_err(|source| dataset::Error::Io {
        context: "encode",
        path: Default::default(),
        source,
    })?;
    encode_fragment(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rows: usize) -> Bytes {
        let beat =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 1, attributes: None };
        crate::heartbeat::Frame::encode(vec![beat; rows]).unwrap().bytes().clone()
    }

    fn changed(frame: &Bytes, at: usize, byte: u8) -> Bytes {
        let mut bytes = frame.to_vec();
        bytes[at] = byte;
        bytes.into()
    }

    fn fault(frames: Vec<Bytes>, rows: u64) -> Option<String> {
        let id = ClaimId::from_u128(1);
        let claim = Claim { id, frames, rows, standing: true, deaths: 0, in_hand: None, condemned: Vec::new() };
        require_frames(&claim).err().map(|fault| fault.to_string())
    }

    #[test]
    fn a_claim_that_lacks_frames_is_told_from_one_that_holds_damaged_ones() {
        assert_eq!(fault(vec![frame(2), frame(3)], 5), None);
        assert_eq!(fault(Vec::new(), 0), None);
        for (frames, gone) in [(Vec::new(), 5), (vec![frame(2)], 3), (vec![frame(3)], 2)] {
            let said = fault(frames, 5).unwrap();
            assert!(said.contains(&format!("{gone} of 5 heartbeats")), "{said}");
        }
        // The count lies at 1, the length of the payload at 5: damage there makes less of it, or nothing.
        for damaged in [changed(&frame(3), 1, 1), changed(&frame(3), 5, 0), frame(3).slice(..9), Bytes::new()] {
            assert_eq!(fault(vec![frame(2), damaged], 5), None);
        }
        // The ledger never counted what no push wrote.
        assert_eq!(fault(vec![frame(5), Bytes::from_static(b"no frame at all")], 5), None);
        assert_eq!(fault(vec![frame(5), frame(1)], 5), None);
    }
}
