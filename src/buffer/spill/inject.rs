//! From the spill into Redis: one claim at a time, acknowledged once Redis confirmed every frame of it.
//!
//! Constraints:
//! - Redis was looked at and judged before a pass begins; the first sign that it is away, or another, ends the pass.
//! - A frame that Redis confirmed is not pushed again while Redis stays there: else a Redis that is nearly full, or far
//!   away, would be filled with the same frames at each try. After an absence all of the claim is pushed again.
//! - What failed may stand in Redis all the same (too few replicas, a lost answer), so a failure makes the next push smaller
//!   and a success makes it larger again.
//! - Nothing is dropped. Only a frame that is not what was once encoded (its own checksum says so) is laid aside, as a dead
//!   letter of the spill; whatever else Redis says of a frame, it is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{
    Buffer, Claim, ClaimBudget, Condemned, DeadLetterId, Error, Inspect, Lease, LeaseAnswer, Registration, Result,
};
use super::course::{Met, is_away};
use super::shared::Shared;
use crate::failpoint;
use crate::heartbeat::{BatcherId, ClaimId, Frame, FrameHeader, Partition};

/// What is in memory, and in one round trip to Redis, at a time: a frame more than this at most.
const BUDGET: ClaimBudget = ClaimBudget { rows: u64::MAX, bytes: 4 << 20, frames: 500 };
/// Frames in one push at most.
const AT_ONCE: usize = BUDGET.frames as usize;
/// The directory has one process, and the leases in it end with that process: none runs out, and none is given back.
const FOR_EVER: Duration = Duration::MAX;

/// How a pass over all partitions ended.
#[derive(Debug)]
pub(super) enum Pass {
    /// Nothing waits.
    Empty,
    /// Something went in; there may be more.
    Progress,
    /// Something waits and nothing went in.
    Held(Error),
    /// Redis is away, or not to be trusted any more.
    Lost,
}

/// Why a claim did not go in.
#[derive(Debug)]
enum Halt {
    Redis(Error),
    Spill(Error),
}

/// What is known of a standing claim.
#[derive(Debug)]
struct Unfinished {
    claim: ClaimId,
    /// For each frame, whether Redis confirmed it.
    confirmed: Vec<bool>,
}

/// Carries claims from the spill into Redis.
#[derive(Debug)]
pub(super) struct Injector {
    shared: Arc<Shared>,
    /// Who it is to the spill.
    name: BatcherId,
    leases: BTreeMap<Partition, Lease>,
    unfinished: BTreeMap<Partition, Unfinished>,
    /// Frames of the next push.
    at_once: usize,
}

impl Injector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (leases, unfinished) = (BTreeMap::new(), BTreeMap::new());
        Self { shared, name: BatcherId::new(), leases, unfinished, at_once: AT_ONCE }
    }

    /// Takes in that Redis was met with this error. Only one that merely did not answer in time is still the same.
    pub(super) fn met(&mut self, error: &Error) {
        if !matches!(error, Error::TimedOut { .. }) {
            self.unfinished.clear();
        }
    }

    /// Tries one claim of each partition in which something waits.
    pub(super) async fn pass(&mut self) -> Pass {
        let Some(Registration { partitions, .. }) = self.shared.store.registration() else { return Pass::Empty };
        match self.shared.store.books().await {
            Ok(books) if books.pending + books.claimed == 0 => return Pass::Empty,
            Ok(_) => {}
            Err(error) => return Pass::Held(error),
        }
        let (mut progress, mut held) = (false, None);
        for partition in 0..partitions {
            match self.inject(partition).await {
                Ok(went_in) => progress |= went_in,
                Err(Halt::Redis(error)) => {
                    // Whether it is a fault of that one push or of Redis altogether is for a look to find out.
                    let lasting = !error.is_transient() && !matches!(error, Error::Corrupt { .. });
                    if is_away(&error) || lasting {
                        self.met(&error);
                        self.shared.note(Met::ByLook, Err(&error));
                        return Pass::Lost;
                    }
                    held = Some(error);
                }
                Err(Halt::Spill(error)) => {
                    // Whatever it was, the next try asks for everything anew.
                    self.leases.remove(&partition);
                    held = Some(error);
                }
            }
        }
        match held {
            Some(error) if !progress => Pass::Held(error),
            None if !progress => Pass::Empty,
            _ => Pass::Progress,
        }
    }

    /// Takes one claim of the partition into Redis; whether there was one.
    async fn inject(&mut self, partition: Partition) -> Result<bool, Halt> {
        let shared = self.shared.clone();
        let spill = &shared.store.buffer;
        let books = spill.status(partition).await.map_err(Halt::Spill)?.ledger;
        if books.pending + books.claimed == 0 {
            return Ok(false);
        }
        let lease = self.lease(partition).await.map_err(Halt::Spill)?;
        let Some(claim) = spill.claim(&lease, ClaimId::new(), BUDGET).await.map_err(Halt::Spill)? else {
            return Ok(false);
        };
        reached("spill.claimed")?;
        let (frames, damaged) = sort_out(&claim);
        if !damaged.is_empty() {
            tracing::error!(
                partition,
                frames = damaged.len(),
                "the disk damaged frames of the spill; they are laid aside"
            );
            spill.condemn(&lease, claim.id, &damaged).await.map_err(Halt::Spill)?;
        }
        self.push_all(partition, claim.id, &frames).await.map_err(Halt::Redis)?;
        reached("spill.pushed")?;
        let left_out = [&claim.condemned[..], &damaged].concat();
        spill.ack(&lease, claim.id, &left_out).await.map_err(Halt::Spill)?;
        self.unfinished.remove(&partition);
        reached("spill.acked")?;
        let rows = frames.iter().flatten().map(|frame| u64::from(frame.rows())).sum();
        shared.metrics.injected.inc_by(rows);
        Ok(true)
    }

    async fn lease(&mut self, partition: Partition) -> Result<Lease> {
        if let Some(lease) = self.leases.get(&partition) {
            return Ok(*lease);
        }
        match self.shared.store.buffer.lease(partition, self.name, FOR_EVER).await? {
            LeaseAnswer::Taken(lease) => Ok(*self.leases.entry(partition).insert_entry(lease).get()),
            LeaseAnswer::Held { by, .. } => {
                Err(Error::Corrupt { detail: format!("partition {partition} of the spill is leased to {by}") })
            }
        }
    }

    /// Pushes until Redis confirmed every frame of the claim.
    async fn push_all(&mut self, partition: Partition, claim: ClaimId, frames: &[Option<Frame>]) -> Result<()> {
        let begin = || Unfinished { claim, confirmed: vec![false; frames.len()] };
        let unfinished = self.unfinished.entry(partition).or_insert_with(begin);
        if unfinished.claim != claim || unfinished.confirmed.len() != frames.len() {
            *unfinished = begin();
        }
        loop {
            let missing =
                frames.iter().zip(&unfinished.confirmed).enumerate().filter(|(_, (_, confirmed))| !**confirmed);
            let missing = missing.filter_map(|(place, (frame, _))| Some((place, (partition, frame.clone()?))));
            let (places, batch): (Vec<usize>, Vec<_>) = missing.take(self.at_once).unzip();
            if batch.is_empty() {
                return Ok(());
            }
            let mut worst: Option<Error> = None;
            for (place, outcome) in places.into_iter().zip(self.shared.redis.push(&batch).await) {
                match outcome {
                    Ok(()) => unfinished.confirmed[place] = true,
                    Err(error) if worst.as_ref().is_some_and(|worst| is_away(worst) || !is_away(&error)) => {}
                    Err(error) => worst = Some(error),
                }
            }
            self.at_once = next_size(self.at_once, batch.len(), worst.as_ref());
            if let Some(error) = worst {
                return Err(error);
            }
        }
    }
}

/// How many frames the next push takes after one of `pushed`.
fn next_size(at_once: usize, pushed: usize, failed: Option<&Error>) -> usize {
    match failed {
        None => at_once.saturating_mul(2).min(AT_ONCE),
        // Maybe they were too many for the line and the time.
        Some(error) if is_away(error) => (pushed / 2).max(1),
        Some(_) => 1,
    }
}

/// The frames of a claim, without those that are not what was encoded; and these, to be laid aside.
fn sort_out(claim: &Claim) -> (Vec<Option<Frame>>, Vec<Condemned>) {
    let mut damaged = Vec::new();
    let is_laid_aside = |place| claim.condemned.iter().any(|entry| entry.frame == place);
    let frames = (0_u32..).zip(&claim.frames).map(|(place, bytes)| match Frame::from_bytes(bytes.clone()) {
        // An earlier attempt has, and by that it stands.
        _ if is_laid_aside(place) => None,
        Ok(frame) => Some(frame),
        Err(error) => {
            damaged.push(Condemned {
                id: DeadLetterId::new(),
                frame: place,
                row: None,
                rows: FrameHeader::peek(bytes).map_or(0, |header| header.count),
                reason: format!("in the spill: {error}"),
                bytes: bytes.clone(),
            });
            None
        }
    });
    (frames.collect(), damaged)
}

fn reached(name: &str) -> Result<(), Halt> {
    failpoint::reached(name).map_err(|error| Halt::Spill(Error::Refused { reason: error.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::HeartbeatRef;

    #[test]
    fn a_failure_makes_the_next_push_smaller_and_a_success_larger() {
        let late = Error::TimedOut { after: Duration::from_secs(1) };
        let full = Error::Full { partition: 0 };
        assert_eq!(next_size(AT_ONCE, 40, None), AT_ONCE);
        assert_eq!(next_size(AT_ONCE, 40, Some(&late)), 20);
        assert_eq!(next_size(20, 1, Some(&late)), 1);
        assert_eq!(next_size(AT_ONCE, 40, Some(&full)), 1);
        assert_eq!(next_size(1, 1, None), 2);
    }

    #[test]
    fn only_what_is_not_as_it_was_encoded_is_laid_aside() {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 2, attributes: None };
        let whole = Frame::encode([row, row]).unwrap().bytes().clone();
        let mut flipped = whole.to_vec();
        flipped[30] ^= 1;
        let claim = Claim {
            id: ClaimId::new(),
            frames: vec![whole.clone(), flipped.into(), whole],
            rows: 6,
            standing: false,
            deaths: 0,
            in_hand: None,
            condemned: Vec::new(),
        };
        let (frames, damaged) = sort_out(&claim);
        assert_eq!(frames.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(damaged.len(), 1);
        assert_eq!((damaged[0].frame, damaged[0].row, damaged[0].rows), (1, None, 2));
        assert!(damaged[0].reason.contains("checksum"), "{}", damaged[0].reason);
    }
}
