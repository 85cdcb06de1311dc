//! The record of one partition and the rules by which steps change it: pure, without I/O or clock.
//!
//! Constraint: each rule checks before it changes anything, and says the same as the script of that name in `redis/lua/`.
//! Frames have sequence numbers: those of the standing claim are `first..pending`, those that wait `pending..next`. So a
//! claim and its acknowledgement move numbers, never frames.

use serde::{Deserialize, Serialize};

use super::super::handover::Standing;
use super::super::{Error, Lease, Ledger, Registration, Result};
use crate::heartbeat::{BatcherId, ClaimId, FrameHeader, Partition};

/// What a partition may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    /// Heartbeats.
    pub(super) rows: u64,
    /// Bytes of frames.
    pub(super) bytes: u64,
}

/// What the ledger counts for a frame: heartbeats and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Load {
    /// Of what claims to be a frame, by its header. Nothing at all for what no push has written: it was never accepted,
    /// so it must not leave the books either.
    pub(super) fn of(frame: &[u8]) -> Self {
        FrameHeader::plausible(frame)
            .map_or(Self::default(), |header| Self { rows: header.count.into(), bytes: frame.len() as u64 })
    }
}

/// All that is kept of a partition besides frames and letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) registration: Registration,
    pub(super) ledger: Ledger,
    /// The oldest frame that is kept; what lies below is garbage.
    pub(super) first: u64,
    /// The oldest frame that no claim holds.
    pub(super) pending: u64,
    /// What the next frame will be.
    pub(super) next: u64,
    /// Rises with each taking of the lease and never falls.
    pub(super) epoch: u64,
    /// Who took it last and has not given it back. Until when, only the running process knows.
    pub(super) owner: Option<BatcherId>,
    pub(super) claim: Option<Standing>,
    /// The devices of frames from here on are not on disk by themselves yet (`roll.rs`). `None`: no device was ever seen.
    #[serde(default)]
    pub(super) unsaved_from: Option<u64>,
}

impl Standing {
    /// How often an owner died with this frame in hand.
    pub(super) fn deaths_with(&self, frame: u32) -> u32 {
        self.hand_deaths.iter().find(|(known, _)| *known == frame).map_or(0, |(_, deaths)| *deaths)
    }

    fn bury(&mut self) {
        self.deaths = self.deaths.saturating_add(1);
        self.last_hand = self.hand;
        let Some(frame) = self.hand else { return };
        match self.hand_deaths.iter_mut().find(|(known, _)| *known == frame) {
            Some((_, deaths)) => *deaths = deaths.saturating_add(1),
            None => self.hand_deaths.push((frame, 1)),
        }
    }
}

impl State {
    /// A partition in which nothing has happened yet.
    pub(super) fn new(registration: Registration) -> Self {
        Self {
            registration,
            ledger: Ledger::default(),
            first: 0,
            pending: 0,
            next: 0,
            epoch: 0,
            owner: None,
            claim: None,
            unsaved_from: None,
        }
    }

    /// Fails unless the lease is the one in force.
    pub(super) fn check_lease(&self, lease: &Lease) -> Result<()> {
        let holds = self.owner == Some(lease.batcher) && self.epoch == lease.epoch;
        if holds { Ok(()) } else { Err(Error::Fenced { partition: lease.partition }) }
    }

    /// The standing claim, if it has this id.
    pub(super) fn standing(&mut self, id: ClaimId) -> Result<&mut Standing> {
        self.claim.as_mut().filter(|claim| claim.id == id).ok_or(Error::NotStanding)
    }

    /// Heartbeats that count against the cap: dead letters among them.
    fn held(&self) -> u64 {
        self.ledger.pending + self.ledger.claimed + self.ledger.dead
    }

    /// Whether a load would fit.
    pub(super) fn fits(&self, load: Load, caps: Caps) -> bool {
        self.held().saturating_add(load.rows) <= caps.rows && self.ledger.bytes.saturating_add(load.bytes) <= caps.bytes
    }

    /// Takes in a frame, and answers its sequence number.
    pub(super) fn push(&mut self, partition: Partition, load: Load, caps: Caps) -> Result<u64> {
        if load.rows == 0 {
            return Err(Error::Corrupt { detail: "a frame whose header does not fit it".into() });
        }
        if !self.fits(load, caps) {
            return Err(Error::Full { partition });
        }
        self.ledger.accepted += load.rows;
        self.ledger.pending += load.rows;
        self.ledger.bytes += load.bytes;
        Ok(self.append())
    }

    fn append(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }

    /// Gives the lease to `batcher`; whether it is free is the caller's to know. Answers the new epoch.
    pub(super) fn take_lease(&mut self, batcher: BatcherId) -> u64 {
        self.epoch += 1;
        self.owner = Some(batcher);
        self.epoch
    }

    /// Takes the lease back, and marks the claim that its holder was handed as left on purpose. A claim that an earlier
    /// owner died with, and this one never asked for, stays a death.
    pub(super) fn give_back(&mut self, lease: &Lease) {
        if let Some(claim) = self.claim.as_mut().filter(|claim| claim.epoch == lease.epoch) {
            claim.left = true;
            claim.hand = None;
        }
        self.owner = None;
    }

    /// Claims the first `frames` of those that wait.
    pub(super) fn begin_claim(&mut self, id: ClaimId, frames: u64, load: Load, since: i64) {
        self.pending += frames;
        self.claim = Some(Standing {
            id,
            rows: load.rows,
            bytes: load.bytes,
            since,
            epoch: self.epoch,
            left: false,
            deaths: 0,
            hand: None,
            last_hand: None,
            hand_deaths: Vec::new(),
        });
        shift(&mut self.ledger.pending, &mut self.ledger.claimed, load.rows);
    }

    /// Hands the standing claim, if there is one, to the epoch in force. One that another epoch neither acknowledged nor
    /// left counts a death; handing it to the same epoch again (a lost answer) counts nothing.
    pub(super) fn hand_over(&mut self) {
        let epoch = self.epoch;
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.epoch != epoch) else { return };
        if !claim.left {
            claim.bury();
        }
        claim.hand = None;
        claim.epoch = epoch;
        claim.left = false;
    }

    /// Closes the standing claim, of which `dead` became dead letters.
    pub(super) fn close_claim(&mut self, dead: Load) {
        let Some(claim) = self.claim.take() else { return };
        let ledger = &mut self.ledger;
        shift(&mut ledger.claimed, &mut ledger.dead, dead.rows);
        shift(&mut ledger.claimed, &mut ledger.acked, claim.rows.saturating_sub(dead.rows));
        ledger.bytes = ledger.bytes.saturating_sub(claim.bytes) + dead.bytes;
        self.first = self.pending;
    }

    /// Makes a dead letter's frame the last of those that wait, and answers its sequence number. Moving it adds nothing
    /// to what is held; it is refused only where the partition holds more than its caps by now.
    pub(super) fn revive(&mut self, partition: Partition, load: Load, caps: Caps) -> Result<u64> {
        if !self.fits(Load::default(), caps) {
            return Err(Error::Full { partition });
        }
        shift(&mut self.ledger.dead, &mut self.ledger.pending, load.rows);
        Ok(self.append())
    }

    /// Forgets a dead letter for good.
    pub(super) fn forget(&mut self, load: Load) {
        shift(&mut self.ledger.dead, &mut self.ledger.dropped, load.rows);
        self.ledger.bytes = self.ledger.bytes.saturating_sub(load.bytes);
    }
}

/// Moves heartbeats from one column of the ledger to another, never more than stand in it: so the books balance whatever
/// frames and letters hold.
fn shift(from: &mut u64, to: &mut u64, rows: u64) {
    let moved = rows.min(*from);
    *from -= moved;
    *to += moved;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::{DatasetId, Frame, HeartbeatRef};

    const AMPLE: Caps = Caps { rows: u64::MAX, bytes: u64::MAX };

    fn state() -> State {
        State::new(Registration { dataset: DatasetId::from_u128(1), partitions: 2 })
    }

    fn frame() -> Vec<u8> {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 2, attributes: None };
        Frame::encode([row, row]).unwrap().bytes().to_vec()
    }

    #[test]
    fn only_what_a_push_may_have_written_weighs_anything() {
        let whole = frame();
        assert_eq!(Load::of(&whole), Load { rows: 2, bytes: whole.len() as u64 });
        let mut newer = whole.clone();
        newer[0] = 9;
        assert_eq!(Load::of(&newer).rows, 2, "a newer version has the same first fields");
        newer.push(0);
        assert_eq!(Load::of(&newer).rows, 2, "but what follows them is its own");
        for broken in [&b""[..], &whole[..25], &whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), &[0; 40]] {
            assert_eq!(Load::of(broken), Load::default());
        }
    }

    #[test]
    fn the_record_survives_its_text_form() {
        let mut state = state();
        state.push(0, Load { rows: 3, bytes: 40 }, AMPLE).unwrap();
        state.take_lease(BatcherId::new());
        state.begin_claim(ClaimId::new(), 1, Load { rows: 3, bytes: 40 }, 7);
        state.claim.as_mut().unwrap().hand = Some(0);
        state.take_lease(BatcherId::new());
        state.hand_over();
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<State>(&text).unwrap(), state);
    }

    #[test]
    fn a_record_from_before_devices_is_read() {
        let text = serde_json::to_string(&state()).unwrap().replace(",\"unsaved_from\":null", "");
        assert!(!text.contains("unsaved_from"));
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state());
    }

    #[test]
    fn more_dead_than_claimed_never_unbalances_the_books() {
        let mut state = state();
        state.push(0, Load { rows: 3, bytes: 40 }, AMPLE).unwrap();
        state.begin_claim(ClaimId::new(), 1, Load { rows: 3, bytes: 40 }, 7);
        state.close_claim(Load { rows: 9, bytes: 90 });
        assert!(state.ledger.balances());
        assert_eq!((state.ledger.dead, state.ledger.bytes, state.first), (3, 90, 1));
        state.forget(Load { rows: 9, bytes: 99 });
        assert!(state.ledger.balances());
        assert_eq!(state.ledger.bytes, 0);
    }
}
