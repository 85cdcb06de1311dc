//! The whole state, and every action that changes it.

use std::collections::{BTreeMap, BTreeSet};

use crate::batcher::{self, Batcher, Delivery};
use crate::buffer::{Buffer, ClaimId, Epoch, Identity, Refused, Row, Slot};
use crate::compactor::{self, Compactor};
use crate::disk::{Bucket, Content, Dice, File, Folder, FolderId, Fragment};
use crate::guards::Guard;
use crate::promises;
use crate::scenario::Scenario;
use crate::situations::{Note, Situation};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub clients: Clients,
    pub buffer: Buffer,
    /// As which the buffer may come back, and what had been promised by then.
    pub saved: Option<(Buffer, BTreeSet<Identity>)>,
    /// Requests whose senders do not wait any more.
    pub late: BTreeSet<Request>,
    /// One for each date.
    pub disk: Vec<Bucket>,
    pub batchers: Vec<Batcher>,
    pub compactors: Vec<Compactor>,
    pub reader: Reader,
    pub spent: Spent,
    /// Identities that readers have seen since the last power cut.
    pub seen: BTreeSet<Identity>,
    /// Claims that a consolidation folded, by date, and that no other file named.
    pub folded: BTreeSet<(u8, ClaimId)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Clients {
    /// How often each heartbeat was sent.
    pub sent: Vec<u8>,
    /// What was answered with 202, but for what a rollback took by definition.
    pub promised: BTreeSet<Identity>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    Push(Row),
    Condemn { lease: (Slot, Epoch), claim: ClaimId, condemned: BTreeMap<u8, Row> },
    Ack { lease: (Slot, Epoch), claim: ClaimId, left_out: BTreeMap<u8, Row> },
}

/// A reader that lists a folder, and reads its files later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Reader {
    #[default]
    Outside,
    Inside {
        date: u8,
        folder: FolderId,
        listed: BTreeSet<File>,
    },
    /// A file that it had listed was gone.
    Robbed,
}

/// Files that a bucket gets at most: no scenario makes more with all guards in place. Without the look at the record a
/// compactor that dies over and over would go on for ever.
const MOST_FILES: u8 = 5;

/// How much of the bounds is used up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub leases: u8,
    pub claims: u8,
    pub late: u8,
    pub retries: u8,
    pub consolidations: u8,
    pub power_cuts: u8,
    pub damages: u8,
    pub rolled_back: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A client sends a heartbeat, and is told 202 where it is answered.
    Send(Identity, Delivery),
    /// A late request arrives.
    Arrive(Request),
    Batcher(Slot, batcher::Step),
    Compactor(Slot, compactor::Step),
    /// A person puts a dead letter back.
    RetryDeadLetter,
    OpenFolder {
        date: u8,
    },
    ReadOn,
    /// Takes note of the buffer as it is; then, any time later, it comes back so.
    SaveBuffer,
    RollBack,
    /// The disk damages a fragment that nobody relies on yet.
    Damage {
        date: u8,
        place: u8,
    },
    /// The machine with the data disk loses power; what survives is one outcome of many.
    PowerCut {
        outcome: u32,
    },
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            clients: Clients { sent: vec![0; scenario.identities.into()], promised: BTreeSet::new() },
            buffer: Buffer::default(),
            saved: None,
            late: BTreeSet::new(),
            disk: vec![Bucket::default(); scenario.dates.into()],
            batchers: vec![Batcher::default(); scenario.batchers.into()],
            compactors: vec![Compactor::default(); scenario.compactors.into()],
            reader: Reader::default(),
            spent: Spent::default(),
            seen: BTreeSet::new(),
            folded: BTreeSet::new(),
        }
    }

    /// What may happen within the bounds. Not all of it can: `after` tells.
    pub fn actions(&self, scenario: &Scenario, actions: &mut Vec<Action>) {
        self.actions_of_clients(scenario, actions);
        actions.extend(self.late.iter().cloned().map(Action::Arrive));
        for (slot, worker) in (0..).zip(&self.batchers) {
            let steps = worker.steps().iter().filter(|step| self.is_within(scenario, slot, **step));
            actions.extend(steps.map(|step| Action::Batcher(slot, *step)));
        }
        for (slot, visit) in (0..).zip(&self.compactors) {
            // Of two that are away one is like the other.
            let is_like_another = slot > 0 && *visit == Compactor::default() && self.compactors[0] == *visit;
            if !is_like_another {
                let may_merge = self.disk[usize::from(visit.date)].files_made < MOST_FILES;
                let steps = visit.steps().into_iter().filter(|step| may_merge || *step != compactor::Step::Merge);
                actions.extend(steps.map(|step| Action::Compactor(slot, step)));
            }
        }
        self.actions_of_the_world(scenario, actions);
    }

    fn actions_of_clients(&self, scenario: &Scenario, actions: &mut Vec<Action>) {
        for (identity, sent) in (0..).zip(&self.clients.sent) {
            let in_turn =
                identity == 0 || !scenario.identities_are_alike() || self.clients.sent[usize::from(identity) - 1] > 0;
            if *sent < scenario.sends && in_turn {
                actions.push(Action::Send(identity, Delivery::Answered));
                if scenario.sends > 1 {
                    actions.push(Action::Send(identity, Delivery::AnswerLost));
                }
                if self.spent.late < scenario.late {
                    actions.push(Action::Send(identity, Delivery::Late));
                }
            }
        }
    }

    fn is_within(&self, scenario: &Scenario, slot: Slot, step: batcher::Step) -> bool {
        match step {
            // Of several that never had the lease one is like the other.
            batcher::Step::Lease => {
                let was_second_to_lease = slot == 0 || self.spent.leases > 0;
                self.spent.leases < scenario.leases && was_second_to_lease
            }
            batcher::Step::SyncFolderInVain => scenario.forgetful_folders,
            batcher::Step::Fail => scenario.fails,
            // Where the lease cannot be taken again, dying is like never going on.
            batcher::Step::Die => self.spent.leases < scenario.leases,
            _ => true,
        }
    }

    fn actions_of_the_world(&self, scenario: &Scenario, actions: &mut Vec<Action>) {
        if self.spent.retries < scenario.retries {
            actions.push(Action::RetryDeadLetter);
        }
        if scenario.reader {
            actions.extend([Action::OpenFolder { date: 0 }, Action::ReadOn]);
        }
        if scenario.rollback {
            actions.extend([Action::SaveBuffer, Action::RollBack]);
        }
        for (date, bucket) in (0..).zip(&self.disk) {
            if self.spent.damages < scenario.damages {
                actions.extend((0..bucket.staging.list().count() as u8).map(|place| Action::Damage { date, place }));
            }
        }
        if self.spent.power_cuts < scenario.power_cuts {
            let mut dice = Dice::new(0);
            self.disk.clone().iter_mut().for_each(|bucket| bucket.lose(&mut dice));
            actions.extend((0..dice.outcomes).map(|outcome| Action::PowerCut { outcome }));
        }
    }

    /// The world after an action, if it can happen.
    pub fn after(&self, scenario: &Scenario, action: Action, note: &mut Note) -> Option<Self> {
        let mut world = self.clone();
        let is_power_cut = matches!(action, Action::PowerCut { .. });
        match action {
            Action::Send(identity, delivery) => world.send(scenario, identity, delivery, note)?,
            Action::Arrive(request) => world.arrive(scenario, request, note),
            Action::Batcher(slot, step) => {
                world.spent.leases += u8::from(step == batcher::Step::Lease);
                batcher::step(scenario, &mut world, slot, step, note)?;
            }
            Action::Compactor(slot, step) => compactor::step(scenario, &mut world, slot, step, note)?,
            Action::RetryDeadLetter => {
                world.spent.retries += 1;
                world.buffer.retry().then_some(())?;
            }
            Action::OpenFolder { date } => world.open_folder(date)?,
            Action::ReadOn => world.read_on(note)?,
            Action::SaveBuffer => world.save_buffer()?,
            Action::RollBack => world.roll_back(note)?,
            Action::Damage { date, place } => world.damage(date, place)?,
            Action::PowerCut { outcome } => world.cut_power(outcome, note),
        }
        let published: BTreeSet<Identity> = world.disk.iter().flat_map(Bucket::published_identities).collect();
        if is_power_cut {
            world.seen = published;
        } else {
            world.seen.extend(published);
        }
        Some(world)
    }

    fn send(&mut self, scenario: &Scenario, identity: Identity, delivery: Delivery, note: &mut Note) -> Option<()> {
        let copy = self.clients.sent[usize::from(identity)];
        self.clients.sent[usize::from(identity)] += 1;
        let row = Row { identity, copy };
        if delivery == Delivery::Late {
            self.send_late(scenario, Request::Push(row))?;
        } else {
            self.buffer.push(row);
        }
        if delivery == Delivery::Answered || !scenario.guards.has(Guard::AnswerComesAfterPush) {
            if self.clients.promised.contains(&identity) {
                note.reached(Situation::CopiesHeld);
            }
            self.clients.promised.insert(identity);
        }
        Some(())
    }

    pub fn send_late(&mut self, scenario: &Scenario, request: Request) -> Option<()> {
        if self.spent.late >= scenario.late {
            return None;
        }
        self.spent.late += 1;
        self.late.insert(request);
        Some(())
    }

    fn arrive(&mut self, scenario: &Scenario, request: Request, note: &mut Note) {
        self.late.remove(&request);
        match request {
            Request::Push(row) => {
                note.reached(Situation::LatePushArrived);
                self.buffer.push(row);
            }
            Request::Condemn { lease, claim, condemned } => {
                let refused = self.buffer.condemn(scenario.guards, lease, claim, &condemned);
                if refused == Err(Refused::NotStanding) && self.buffer.claim.is_some() {
                    note.reached(Situation::OlderCondemnationRefused);
                }
            }
            Request::Ack { lease, claim, left_out } => {
                // Nobody waits for the answer.
                let _ = self.ack(scenario, lease, claim, &left_out, note);
            }
        }
    }

    pub fn ack(
        &mut self,
        scenario: &Scenario,
        lease: (Slot, Epoch),
        claim: ClaimId,
        left_out: &BTreeMap<u8, Row>,
        note: &mut Note,
    ) -> Result<(), Refused> {
        let answer = self.buffer.ack(scenario.guards, lease, claim, left_out);
        match answer {
            Err(Refused::Fenced) => note.reached(Situation::FencedAckRefused),
            Err(Refused::NotStanding) if self.buffer.claim.is_some() => note.reached(Situation::OlderAckRefused),
            _ => {}
        }
        answer
    }

    fn open_folder(&mut self, date: u8) -> Option<()> {
        if self.reader != Reader::Outside {
            return None;
        }
        let bucket = &self.disk[usize::from(date)];
        let folder = bucket.seen().published?;
        let listed: BTreeSet<File> = bucket.files().cloned().collect();
        if listed.is_empty() {
            return None;
        }
        self.reader = Reader::Inside { date, folder, listed };
        Some(())
    }

    fn read_on(&mut self, note: &mut Note) -> Option<()> {
        let Reader::Inside { date, folder, listed } = &self.reader else { return None };
        let bucket = &self.disk[usize::from(*date)];
        if bucket.seen().published != Some(*folder) {
            note.reached(Situation::ReaderInReplacedFolder);
        }
        let found: BTreeSet<File> = bucket.folders.get(folder).into_iter().flat_map(Folder::list).cloned().collect();
        self.reader = if listed.is_subset(&found) { Reader::Outside } else { Reader::Robbed };
        Some(())
    }

    fn save_buffer(&mut self) -> Option<()> {
        if self.saved.is_some() || self.spent.rolled_back {
            return None;
        }
        self.saved = Some((self.buffer.clone(), self.clients.promised.clone()));
        Some(())
    }

    /// By definition this takes what was acknowledged since and had not reached the disk; nothing else may go.
    fn roll_back(&mut self, note: &mut Note) -> Option<()> {
        let (buffer, promised) = self.saved.take()?;
        if buffer == self.buffer {
            return None;
        }
        self.spent.rolled_back = true;
        if self.buffer.closed.iter().any(|claim| !buffer.closed.contains(claim)) && !self.seen.is_empty() {
            note.reached(Situation::RolledBackBehindPublish);
        }
        self.buffer = buffer;
        let before = self.clients.promised.len();
        let on_disk: BTreeSet<Identity> = self.disk.iter().flat_map(promises::kept_on_disk).collect();
        self.clients.promised.retain(|identity| promised.contains(identity) || on_disk.contains(identity));
        if self.clients.promised.len() < before {
            note.reached(Situation::RollbackTookHeartbeats);
        }
        Some(())
    }

    /// Damage behind the acknowledgement takes the heartbeats by definition, so it hits only what the claim still stands
    /// for.
    fn damage(&mut self, date: u8, place: u8) -> Option<()> {
        self.spent.damages += 1;
        let staging = &mut self.disk[usize::from(date)].staging;
        let fragment: Fragment = staging.list().nth(place.into())?.clone();
        let stands = self.buffer.claim.as_ref().is_some_and(|standing| standing.id == fragment.claim);
        if !stands || self.batchers.iter().any(|worker| worker.trusts(fragment.claim)) {
            return None;
        }
        staging.put(fragment, Content::Torn);
        staging.sync();
        Some(())
    }

    /// All processes that use the disk die. The buffer stays: on another machine, or synced before it answered.
    fn cut_power(&mut self, outcome: u32, note: &mut Note) {
        self.spent.power_cuts += 1;
        let mut dice = Dice::new(outcome);
        for bucket in &mut self.disk {
            let before = bucket.clone();
            bucket.lose(&mut dice);
            if bucket.staging.list().count() < before.staging.list().count() {
                note.reached(Situation::PowerCutTookNames);
            }
            if bucket.seen().published != before.seen().published {
                note.reached(Situation::PowerCutUndidExchange);
            }
        }
        self.kill_all();
    }

    pub fn kill_all(&mut self) {
        self.batchers.fill_with(Batcher::default);
        self.compactors.fill_with(Compactor::default);
        self.reader = Reader::Outside;
    }
}
