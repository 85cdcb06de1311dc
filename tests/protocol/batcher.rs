//! One batcher's worker of the partition (`src/batcher/{worker,write}.rs`).
//!
//! It never looks at a clock: the check whether its lease may have expired (`Standing` in `src/batcher/lease.rs`) can be
//! outrun by a pause right behind it, so the model leaves it out. A worker whose lease another has taken is a zombie that
//! goes on step by step until a script refuses it.

use std::collections::BTreeMap;

use crate::buffer::{ClaimId, Epoch, Refused, Row, Slot};
use crate::disk::{Content, Fragment};
use crate::guards::Guard;
use crate::scenario::{Judges, Scenario};
use crate::situations::{Note, Situation};
use crate::world::{Request, World};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Batcher {
    /// Dead, or without the lease.
    #[default]
    Idle,
    Leased(Epoch),
    /// Has the frames.
    Claimed(Job),
    /// Has encoded, and found what the buffer has to be told of first.
    Condemning(Job),
    /// What is left out stands in the claim; stores the fragment of one date after the other.
    Storing(Job),
    /// Has renamed the fragment of its date.
    Renamed(Job),
}

/// A claim in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    pub epoch: Epoch,
    pub claim: ClaimId,
    pub frames: Vec<Row>,
    /// What it does not write, by the frame's index.
    pub left_out: BTreeMap<u8, Row>,
    /// What of that the buffer was not told yet.
    pub untold: BTreeMap<u8, Row>,
    /// The date whose fragment is next.
    pub date: u8,
    pub acked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Lease,
    Claim,
    /// Encodes; `condemn` where the frame that writers may stumble over cannot be written this time.
    Encode {
        condemn: bool,
    },
    /// A lost answer needs no step of its own, here and below: what was done stays done, and the worker fails.
    Condemn(Delivery),
    /// Writes a temp file, syncs it, renames it; or finds the fragment there.
    Store,
    SyncFolder,
    /// The folder's sync answers with an error, and the file system takes the names for written since.
    SyncFolderInVain,
    Ack(Delivery),
    /// A fault of the world: nothing is kept of the claim, and the next turn begins.
    Fail,
    Die,
}

/// What becomes of a request to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    Answered,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Given up by its sender; it may arrive later, or never.
    Late,
}

impl Batcher {
    /// The steps that its phase may take, in the order of the work.
    pub fn steps(&self) -> &'static [Step] {
        const CONDEMN: [Step; 2] = [Step::Condemn(Delivery::Answered), Step::Condemn(Delivery::Late)];
        match self {
            Self::Idle => &[Step::Lease],
            Self::Leased(_) => &[Step::Claim, Step::Die],
            Self::Claimed(_) => {
                &[Step::Encode { condemn: false }, Step::Encode { condemn: true }, Step::Fail, Step::Die]
            }
            Self::Condemning(_) => &[CONDEMN[0], CONDEMN[1], Step::Fail, Step::Die],
            Self::Storing(_) => &[
                Step::Store,
                CONDEMN[0],
                CONDEMN[1],
                Step::Ack(Delivery::Answered),
                Step::Ack(Delivery::Late),
                Step::Fail,
                Step::Die,
            ],
            Self::Renamed(_) => &[Step::SyncFolder, Step::SyncFolderInVain, Step::Fail, Step::Die],
        }
    }

    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Idle | Self::Leased(_) => None,
            Self::Claimed(job) | Self::Condemning(job) | Self::Storing(job) | Self::Renamed(job) => Some(job),
        }
    }

    /// Whether it has looked at a fragment and will not look again before it acknowledges.
    pub fn trusts(&self, claim: ClaimId) -> bool {
        matches!(self, Self::Storing(job) | Self::Renamed(job) if job.claim == claim)
    }
}

impl Job {
    fn fragment(&self, scenario: &Scenario, slot: Slot, date: u8) -> Fragment {
        let written = (0..).zip(&self.frames).filter(|(frame, _)| !self.left_out.contains_key(frame));
        let mut rows: Vec<Row> = written.map(|(_, row)| *row).filter(|row| scenario.date_of(*row) == date).collect();
        rows.sort_unstable();
        Fragment { claim: self.claim, rows, writer: if scenario.writers_differ { slot } else { 0 } }
    }

    /// Frames that may turn out unwritable.
    fn suspects(&self, scenario: &Scenario) -> BTreeMap<u8, Row> {
        let is_suspect =
            |(frame, row): &(u8, &Row)| scenario.unwritable == Some(row.identity) && !self.left_out.contains_key(frame);
        (0..).zip(&self.frames).filter(is_suspect).map(|(frame, row)| (frame, *row)).collect()
    }

    /// Passes over dates of which it has no rows.
    fn at_next_date(mut self, scenario: &Scenario, slot: Slot) -> Batcher {
        while self.date < scenario.dates && self.fragment(scenario, slot, self.date).rows.is_empty() {
            self.date += 1;
        }
        Batcher::Storing(self)
    }
}

/// The world after a step, if the worker can take it.
pub fn step(scenario: &Scenario, world: &mut World, slot: Slot, step: Step, note: &mut Note) -> Option<()> {
    let worker = world.batchers.get_mut(usize::from(slot)).map(std::mem::take)?;
    let next = match (step, worker) {
        (Step::Lease, Batcher::Idle) => Batcher::Leased(world.buffer.lease(slot)),
        (Step::Claim, Batcher::Leased(epoch)) => claim(scenario, world, slot, epoch, note)?,
        (Step::Encode { condemn }, Batcher::Claimed(job)) => encode(scenario, slot, job, condemn)?,
        (Step::Condemn(delivery), Batcher::Condemning(job) | Batcher::Storing(job)) => {
            condemn(scenario, world, slot, job, delivery, note)?
        }
        (Step::Store, Batcher::Storing(job)) => store(scenario, world, slot, job, note)?,
        (Step::SyncFolder, Batcher::Renamed(job)) => sync_folder(scenario, world, slot, job),
        (Step::SyncFolderInVain, Batcher::Renamed(job)) => {
            world.disk[usize::from(job.date)].staging.sync_in_vain();
            Batcher::Leased(job.epoch)
        }
        (Step::Ack(delivery), Batcher::Storing(job)) => ack(scenario, world, slot, job, delivery, note)?,
        (Step::Fail, worker) => Batcher::Leased(worker.job()?.epoch),
        (Step::Die, Batcher::Idle) => return None,
        (Step::Die, _) => Batcher::Idle,
        _ => return None,
    };
    world.batchers[usize::from(slot)] = next;
    Some(())
}

fn claim(scenario: &Scenario, world: &mut World, slot: Slot, epoch: Epoch, note: &mut Note) -> Option<Batcher> {
    let stood = world.buffer.claim.is_some();
    let most = usize::from(scenario.claim_frames);
    match world.buffer.claim(scenario.guards, (slot, epoch), world.spent.claims, most) {
        Ok(Some(claim)) => {
            if stood {
                note.reached(Situation::StandingClaimHandedOn);
            } else {
                world.spent.claims += 1;
            }
            let (left_out, untold) = (claim.condemned, BTreeMap::new());
            let job = Job { epoch, claim: claim.id, frames: claim.frames, left_out, untold, date: 0, acked: false };
            // Where all frames can be written for sure, encoding is no step of its own.
            let is_sure = job.suspects(scenario).is_empty();
            Some(if is_sure { job.at_next_date(scenario, slot) } else { Batcher::Claimed(job) })
        }
        Ok(None) => None,
        Err(refused) => Some(refuse(refused, epoch)),
    }
}

fn encode(scenario: &Scenario, slot: Slot, mut job: Job, condemn: bool) -> Option<Batcher> {
    let found = job.suspects(scenario);
    let possible = match scenario.judges {
        Judges::Agree => condemn != found.is_empty(),
        Judges::Differ => !condemn || !found.is_empty(),
    };
    if !possible {
        return None;
    }
    if !condemn {
        return Some(job.at_next_date(scenario, slot));
    }
    job.left_out.extend(&found);
    job.untold = found;
    if scenario.guards.has(Guard::CondemnedBeforeFirstRename) {
        Some(Batcher::Condemning(job))
    } else {
        Some(job.at_next_date(scenario, slot))
    }
}

fn condemn(
    scenario: &Scenario,
    world: &mut World,
    slot: Slot,
    job: Job,
    delivery: Delivery,
    note: &mut Note,
) -> Option<Batcher> {
    if job.untold.is_empty() {
        return None;
    }
    let (claim, condemned) = (job.claim, job.untold.clone());
    if delivery == Delivery::Late {
        world.send_late(scenario, Request::Condemn { lease: (slot, job.epoch), claim, condemned })?;
        return Some(Batcher::Leased(job.epoch));
    }
    let answer = world.buffer.condemn(scenario.guards, (slot, job.epoch), claim, &condemned);
    Some(match answer {
        Ok(()) => {
            note.reached(Situation::Condemned);
            Job { untold: BTreeMap::new(), ..job }.at_next_date(scenario, slot)
        }
        Err(refused) => refuse(refused, job.epoch),
    })
}

/// `Dataset::store_fragment`.
fn store(scenario: &Scenario, world: &mut World, slot: Slot, mut job: Job, note: &mut Note) -> Option<Batcher> {
    if job.date >= scenario.dates {
        return None;
    }
    let fragment = job.fragment(scenario, slot, job.date);
    let bucket = &mut world.disk[usize::from(job.date)];
    let stands = match bucket.staging.content(&fragment) {
        Some(Content::Torn) => !scenario.guards.has(Guard::StandingFragmentIsRead),
        Some(_) => true,
        None => false,
    };
    let is_late = world.buffer.claim.as_ref().is_none_or(|standing| standing.id != job.claim);
    if is_late && bucket.files().any(|file| file.named.contains(&fragment)) {
        note.reached(Situation::ZombieStoresWhatIsMerged);
    }
    if is_late
        && bucket.files().any(|file| file.named.iter().any(|named| named.claim == job.claim && *named != fragment))
    {
        note.reached(Situation::ZombieStoresOtherBytesOfWhatIsMerged);
    }
    if stands {
        note.reached(Situation::FragmentFoundStanding);
        if !scenario.guards.has(Guard::FolderOfStandingFragmentIsSynced) {
            job.date += 1;
            return Some(job.at_next_date(scenario, slot));
        }
    } else {
        let synced = scenario.guards.has(Guard::FragmentIsSyncedBeforeRename);
        bucket.staging.put(fragment, if synced { Content::Synced } else { Content::Written });
    }
    Some(if scenario.syncs_matter() { Batcher::Renamed(job) } else { sync_folder(scenario, world, slot, job) })
}

fn sync_folder(scenario: &Scenario, world: &mut World, slot: Slot, job: Job) -> Batcher {
    if scenario.guards.has(Guard::FragmentFolderIsSynced) {
        world.disk[usize::from(job.date)].staging.sync();
    }
    Job { date: job.date + 1, ..job }.at_next_date(scenario, slot)
}

fn ack(
    scenario: &Scenario,
    world: &mut World,
    slot: Slot,
    job: Job,
    delivery: Delivery,
    note: &mut Note,
) -> Option<Batcher> {
    let due_at = if !scenario.guards.has(Guard::AckComesAfterWriting) {
        0
    } else if !scenario.guards.has(Guard::AckComesAfterAllDates) {
        scenario.dates.min(1)
    } else {
        scenario.dates
    };
    if job.acked || job.date < due_at || !job.untold.is_empty() {
        return None;
    }
    let (lease, claim) = ((slot, job.epoch), job.claim);
    if delivery == Delivery::Late {
        world.send_late(scenario, Request::Ack { lease, claim, left_out: job.left_out })?;
        return Some(Batcher::Leased(job.epoch));
    }
    match world.ack(scenario, lease, claim, &job.left_out, note) {
        Err(refused) => Some(refuse(refused, job.epoch)),
        Ok(()) if job.date < scenario.dates => Some(Batcher::Storing(Job { acked: true, ..job })),
        Ok(()) => Some(Batcher::Leased(job.epoch)),
    }
}

/// Fenced: the worker ends. Not standing: done before or fenced, so it claims anew.
fn refuse(refused: Refused, epoch: Epoch) -> Batcher {
    match refused {
        Refused::Fenced => Batcher::Idle,
        Refused::NotStanding => Batcher::Leased(epoch),
    }
}
