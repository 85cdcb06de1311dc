//! Moving the embedded buffer into Redis, for a dataset that has outgrown its machine: frames, standing claims with their
//! ids, dead letters, ledger, tokens and all.
//!
//! Constraints:
//! - Nothing is marked before the Redis was found fit and new (`judge.rs`); nothing is copied before the embedded buffer is
//!   marked, durably, as moving. From then on it takes no step any more, in this process or another, so what is copied
//!   holds still.
//! - Redis serves nothing of a partition before all of it is there: until its last script it carries only the drain's mark
//!   and no dataset id, which every other script refuses. Partition 0 comes last, and without it a Redis counts as
//!   registered for nobody, so `serve` answers 503 until everything is there.
//! - Every call is bounded, and idempotent: it says what it expects to find (`lua/drain_*.lua`). So a drain may die
//!   anywhere and is simply run again; a finished partition is skipped, a begun one goes on where it stood.
//! - A claim moves as it stands, its epoch, deaths and frame in hand with it. The move is no death: one that its owner
//!   released is no death to the next owner either, and one that its owner died with is, as it would have been without a
//!   move. Lease epochs go on from where they were.
//! - Tokens come over before anything can be taken in, so that no door on that Redis stands open meanwhile. They are put
//!   there at every try, beside those that Redis has: what is revoked there before the drain has ended may come back.
//! - Before partition 0 is finished, the embedded buffer notes, durably, *which* Redis may take heartbeats in by itself from
//!   now on (it is *sealed*). Up to there a later try may go to any other new Redis; from there to this one alone: another
//!   one would get the same heartbeats a second time, and what was acknowledged into the first one would be forgotten.
//!
//! # Operations
//!
//! [`drain`] does it all but the last step, which is the caller's, because buffers know no datasets: to record that the
//! dataset belongs to Redis now.
//!
//! # Where it may die, and what then holds
//!
//! | it dies …                                         | what stands                                          | who completes it                             |
//! | ------------------------------------------------- | ---------------------------------------------------- | -------------------------------------------- |
//! | before the mark                                   | the embedded buffer as it was                        | `up` goes on, or a drain                     |
//! | after the mark (`drain.marked`)                   | a buffer that takes no step; nothing in Redis        | a drain, to any new Redis                    |
//! | after the first key in Redis (`drain.begun`)      | the same, and a mark in Redis                        | a drain, to this Redis or any new one        |
//! | after the tokens (`drain.tokens_copied`)          | the same, and the tokens in Redis                    | the same                                     |
//! | after a page (`drain.page_copied`)                | a part of a partition, refused by all other scripts  | the same                                     |
//! | after a partition (`drain.partition_finished`)    | it is whole in Redis; without partition 0 unused     | the same, skipping it                        |
//! | after the seal (`drain.sealed`)                   | all but partition 0's last script                    | a drain, to this Redis                       |
//! | after partition 0 (`drain.partition_finished`)    | all in Redis; `serve` may push, `batch` waits        | a drain, which only compares                 |
//! | after comparing (`drain.compared`)                | the same                                             | the same                                     |
//! | after the dataset names Redis (`drain.recorded`)  | everything; the embedded folder is no longer used    | nobody needs to; a drain says so             |
//!
//! A call whose answer was lost did or did not take effect; the next try finds out. A Redis that loses its last moments in
//! a crash (`appendfsync everysec`) comes back with fewer pages or partitions, and a drain fills them in again; so that no
//! crash takes any of it after the dataset names Redis, the comparison waits until Redis has synced.
//!
//! A `serve` that is running against that Redis already begins to accept the moment partition 0 is finished: what it pushes
//! are new heartbeats behind the moved ones, so by the comparison a partition may have accepted more than it had, never
//! less. A `batch` does not begin before the dataset names Redis, so until then no moved claim is touched. A Redis that runs
//! full (`maxmemory`) refuses the next page and no more; raised, it takes the rest at the next try.

mod judge;

use std::time::Duration;

use uuid::Uuid;

use super::embedded::EmbeddedBuffer;
use super::handover::{FrameList, Handover, Mark, Move};
use super::redis::{Begun, RedisBuffer};
use super::{Error, Inspect, Ledger, Reach, Result, Tokens};
use crate::failpoint;
use crate::heartbeat::Partition;
use crate::token::StoredToken;

/// Until Redis has synced what it has answered, under `everysec`: each second, and up to one second late.
const SYNC_PAUSE: Duration = Duration::from_secs(3);

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Progress {
    /// Partitions that are whole in Redis.
    pub partitions: u32,
    /// Heartbeats in them that wait, are claimed, or are dead letters.
    pub heartbeats: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Standing claims among them.
    pub claims: u32,
    /// Dead letters among them.
    pub dead_letters: u64,
}

/// Moves all that `from` holds into `to`, and compares. An earlier try that was cut off is completed.
///
/// `abandon_other` allows another Redis than the one that an earlier try had all but finished with: on a person's word
/// that it is lost.
///
/// # Errors
/// [`Error::Unsafe`], [`Error::ForeignDataset`] when `to` is not new or not fit, in which case nothing was changed unless an
/// earlier try had; transient ones when it is out of reach or full. It can be run again after any of them.
pub async fn drain(
    from: &EmbeddedBuffer,
    to: &RedisBuffer,
    abandon_other: bool,
    mut tell: impl FnMut(Progress),
) -> Result<Progress> {
    let registration = from.registration().await?.ok_or(Error::NotRegistered)?;
    let durability = to.startup_check().await?;
    // Two, so that a registration of another dataset that was cut short before its first partition is seen as well.
    let found = to.look_before_drain(registration.partitions.max(2)).await?;
    let known = from.mark().await?;
    let target = judge::target(&found, known, registration, abandon_other)?.unwrap_or_else(Uuid::new_v4);
    let mark = known.unwrap_or_else(|| Mark { drain: Uuid::new_v4(), sealed: None });
    if known.is_none() {
        from.set_mark(mark).await?;
    }
    reached("drain.marked").await?;

    let moving = Moving { from, to, id: Move { drain: mark.drain, target } };
    // The first partition is the first to tell whose this Redis is, and the last to be finished.
    to.begin_drain(0, moving.id).await?;
    reached("drain.begun").await?;
    moving.tokens().await?;
    reached("drain.tokens_copied").await?;
    let mut progress = Progress::default();
    for partition in (1..registration.partitions).chain([0]) {
        moving.partition(partition, &mut progress).await?;
        reached("drain.partition_finished").await?;
        tell(progress);
    }
    if !matches!(durability.level, "always" | "volatile") {
        tokio::time::sleep(SYNC_PAUSE).await;
    }
    moving.compare(registration.partitions).await?;
    moving.compare_tokens().await?;
    reached("drain.compared").await?;
    Ok(progress)
}

/// From where, to where, and in whose name.
struct Moving<'a> {
    from: &'a EmbeddedBuffer,
    to: &'a RedisBuffer,
    id: Move,
}

impl Moving<'_> {
    async fn tokens(&self) -> Result<()> {
        self.to.take_tokens(&of(self.from).await?).await
    }

    /// Fails unless every token is there: without them a door would turn away everybody, or let everybody in.
    async fn compare_tokens(&self) -> Result<()> {
        // Either comes in the order of the ids.
        let (before, after) = (of(self.from).await?, of(self.to).await?);
        match before.iter().find(|token| after.binary_search_by_key(&token.id, |other| other.id).is_err()) {
            None => Ok(()),
            Some(missing) => Err(Error::Corrupt {
                detail: format!(
                    "token {} is missing in Redis, where it was put or revoked meanwhile; run the drain again, and revoke \
                     tokens after it",
                    missing.id
                ),
            }),
        }
    }

    /// Has a partition whole in Redis, unless it is already.
    async fn partition(&self, partition: Partition, progress: &mut Progress) -> Result<()> {
        let handover = self.from.hand_over(partition).await?;
        let begun = self.to.begin_drain(partition, self.id).await?;
        let filling = begun == Begun::Filling;
        if filling {
            self.frames(partition, FrameList::Claimed, handover.claimed_frames).await?;
            self.frames(partition, FrameList::Pending, handover.pending_frames).await?;
        }
        // Counted by going through them: adding what stands already changes nothing.
        let letters = self.letters(partition, filling).await?;
        if filling {
            self.devices(partition).await?;
            let condemned = self.condemned(partition).await?;
            if partition == 0 {
                self.from.set_mark(Mark { drain: self.id.drain, sealed: Some(self.id.target) }).await?;
                reached("drain.sealed").await?;
            }
            self.to.finish_drain(partition, self.id, &handover, letters, condemned).await?;
        }
        count(progress, &handover, letters);
        Ok(())
    }

    async fn frames(&self, partition: Partition, list: FrameList, frames: u64) -> Result<()> {
        // Where an earlier try has left the list longer, the first page is one too many, and the answer says where to go on.
        let mut at = 0;
        while at < frames {
            let page = self.from.page_of_frames(partition, list, at).await?;
            let now = self.to.take_frames(partition, self.id, list, at, &page).await?;
            // Another length than this page makes is harmless: a page of an earlier try came late, and was the same.
            if now <= at || now > frames {
                let detail = format!("partition {partition} holds {now} frames after the page behind {at} of {frames}");
                return Err(Error::Corrupt { detail });
            }
            at = now;
            reached("drain.page_copied").await?;
        }
        Ok(())
    }

    /// How many dead letters there are; put into Redis where it is to be `filling`.
    async fn letters(&self, partition: Partition, filling: bool) -> Result<u64> {
        let (mut count, mut last) = (0, None);
        loop {
            let page = self.from.page_of_letters(partition, last).await?;
            let Some((id, _)) = page.last() else { return Ok(count) };
            last = Some(*id);
            count += page.len() as u64;
            if filling {
                self.to.take_letters(partition, self.id, page.iter().map(|(_, letter)| letter)).await?;
                reached("drain.page_copied").await?;
            }
        }
    }

    /// What is newer in Redis already, by what was pushed there, stays.
    async fn devices(&self, partition: Partition) -> Result<()> {
        let mut last = None;
        loop {
            let page = self.from.page_of_devices(partition, last).await?;
            let Some((name, _)) = page.last() else { return Ok(()) };
            last = Some(name.clone());
            self.to.take_devices(partition, self.id, &page).await?;
            reached("drain.page_copied").await?;
        }
    }

    async fn condemned(&self, partition: Partition) -> Result<u64> {
        let (mut count, mut last) = (0, None);
        loop {
            let page = self.from.page_of_condemned(partition, last).await?;
            let Some((place, _)) = page.last() else { return Ok(count) };
            last = Some(*place);
            count += page.len() as u64;
            self.to.take_condemned(partition, self.id, &page).await?;
            reached("drain.page_copied").await?;
        }
    }

    /// Fails unless each partition in Redis is what it is in the embedded buffer, or that and what was pushed since.
    async fn compare(&self, partitions: Partition) -> Result<()> {
        for partition in 0..partitions {
            let (before, after) = (self.from.status(partition).await?, self.to.status(partition).await?);
            if !judge::arrived(&before, &after) {
                let detail = format!(
                    "the books of partition {partition} differ: {:?} became {:?}; the dataset still belongs to the \
                     embedded buffer",
                    before.ledger, after.ledger
                );
                return Err(Error::Corrupt { detail });
            }
        }
        Ok(())
    }
}

async fn of(buffer: &dyn Tokens) -> Result<Vec<StoredToken>> {
    // Of no version that is known, so there is a list.
    Ok(buffer.tokens(None).await?.unwrap_or_default().tokens)
}

fn count(progress: &mut Progress, handover: &Handover, letters: u64) {
    let Ledger { pending, claimed, dead, bytes, .. } = handover.ledger;
    progress.partitions += 1;
    progress.heartbeats += pending + claimed + dead;
    progress.bytes += bytes;
    progress.claims += u32::from(handover.claim.is_some());
    progress.dead_letters += letters;
}

/// A place where a test may make it die.
async fn reached(name: &'static str) -> Result<()> {
    failpoint::reached_by_task(name).await.map_err(|error| Error::Unreachable { reason: error.to_string() })
}
