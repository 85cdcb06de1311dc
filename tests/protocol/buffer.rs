//! One partition of the buffer: its keys and the scripts that change them (`src/buffer/redis/lua/*.lua`; the embedded
//! backend passes the same contract suite). Each script is one step, because each is atomic.

use std::collections::{BTreeMap, BTreeSet};

use crate::guards::{Guard, Guards};

pub type Identity = u8;
pub type Slot = u8;
pub type Epoch = u8;
pub type ClaimId = u8;

/// One heartbeat as it was sent, alone in its frame. A client that sends again sends the same identity as another copy:
/// `received_at` differs, and so do the bytes of every file that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub identity: Identity,
    pub copy: u8,
}

/// A standing claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub id: ClaimId,
    pub frames: Vec<Row>,
    /// What can never be written, by the frame's index.
    pub condemned: BTreeMap<u8, Row>,
}

/// The ledger's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    pub accepted: u8,
    pub pending: u8,
    pub claimed: u8,
    pub acked: u8,
    pub dead: u8,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Buffer {
    pub pending: Vec<Row>,
    pub claim: Option<Claim>,
    pub dead: Vec<Row>,
    pub owner: Option<Slot>,
    pub epoch: Epoch,
    pub ledger: Ledger,
    /// Claims that this buffer remembers to have closed. Not in the code: by it the promises tell which claims on the disk
    /// a rollback made orphans.
    pub closed: BTreeSet<ClaimId>,
    /// The counter that claim ids would come from, were they not random.
    pub next_claim: ClaimId,
}

/// Why a script refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Fenced,
    NotStanding,
}

impl Buffer {
    /// `push.lua`.
    pub fn push(&mut self, row: Row) {
        self.pending.push(row);
        self.ledger.accepted += 1;
        self.ledger.pending += 1;
    }

    /// `lease.lua`. That the lease before it has expired is always possible: the model has no clock.
    pub fn lease(&mut self, owner: Slot) -> Epoch {
        self.epoch += 1;
        self.owner = Some(owner);
        self.epoch
    }

    fn check_lease(&self, owner: Slot, epoch: Epoch) -> Result<(), Refused> {
        if self.owner == Some(owner) && self.epoch == epoch { Ok(()) } else { Err(Refused::Fenced) }
    }

    /// `claim.lua`: hands back the claim that stands, or makes one of what is pending, up to `most` frames.
    pub fn claim(
        &mut self,
        guards: Guards,
        (owner, epoch): (Slot, Epoch),
        random_id: ClaimId,
        most: usize,
    ) -> Result<Option<Claim>, Refused> {
        if guards.has(Guard::ClaimIsFenced) {
            self.check_lease(owner, epoch)?;
        }
        if self.claim.is_some() {
            return Ok(self.claim.clone());
        }
        if self.pending.is_empty() {
            return Ok(None);
        }
        let id = if guards.has(Guard::ClaimIdsAreRandom) { random_id } else { self.next_claim };
        self.next_claim += 1;
        let frames: Vec<Row> = self.pending.drain(..most.min(self.pending.len())).collect();
        self.ledger.pending -= frames.len() as u8;
        self.ledger.claimed += frames.len() as u8;
        self.claim = Some(Claim { id, frames, condemned: BTreeMap::new() });
        Ok(self.claim.clone())
    }

    /// `condemn.lua`. The caller says which frame it is, and brings its content along.
    pub fn condemn(
        &mut self,
        guards: Guards,
        (owner, epoch): (Slot, Epoch),
        claim: ClaimId,
        condemned: &BTreeMap<u8, Row>,
    ) -> Result<(), Refused> {
        if guards.has(Guard::CondemningIsFenced) {
            self.check_lease(owner, epoch)?;
        }
        let standing = self.claim.as_mut().ok_or(Refused::NotStanding)?;
        if guards.has(Guard::CondemningNamesItsClaim) && standing.id != claim {
            return Err(Refused::NotStanding);
        }
        for (frame, row) in condemned {
            if usize::from(*frame) < standing.frames.len() {
                standing.condemned.entry(*frame).or_insert(*row);
            }
        }
        Ok(())
    }

    /// `ack.lua`. The caller says what it left out.
    pub fn ack(
        &mut self,
        guards: Guards,
        (owner, epoch): (Slot, Epoch),
        claim: ClaimId,
        left_out: &BTreeMap<u8, Row>,
    ) -> Result<(), Refused> {
        if guards.has(Guard::AckIsFenced) {
            self.check_lease(owner, epoch)?;
        }
        let names_it = |standing: &Claim| {
            (standing.id == claim || !guards.has(Guard::AckNamesItsClaim))
                && (standing.condemned == *left_out || !guards.has(Guard::AckNamesWhatWasLeftOut))
        };
        let Some(closed) = self.claim.take_if(|standing| names_it(standing)) else {
            return Err(Refused::NotStanding);
        };
        let (rows, dead) = (closed.frames.len() as u8, closed.condemned.len() as u8);
        self.ledger.claimed -= rows;
        self.ledger.dead += dead;
        self.ledger.acked += rows - dead;
        self.dead.extend(closed.condemned.into_values());
        self.closed.insert(closed.id);
        Ok(())
    }

    /// `dead_retry.lua`, of the oldest dead letter.
    pub fn retry(&mut self) -> bool {
        if self.dead.is_empty() {
            return false;
        }
        self.pending.push(self.dead.remove(0));
        self.ledger.dead -= 1;
        self.ledger.pending += 1;
        true
    }

    /// Whether the columns say what the lists hold, and add up.
    pub fn balances(&self) -> bool {
        let Ledger { accepted, pending, claimed, acked, dead } = self.ledger;
        let in_claim = self.claim.as_ref().map_or(0, |claim| claim.frames.len());
        accepted == pending + claimed + acked + dead
            && usize::from(pending) == self.pending.len()
            && usize::from(claimed) == in_claim
            && usize::from(dead) == self.dead.len()
    }
}
