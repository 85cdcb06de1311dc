//! One compactor's visit to a bucket (`src/compactor/{visit,publish,consolidate,recover}.rs`, `src/dataset/replacement.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::buffer::{Identity, Row, Slot};
use crate::disk::{Content, File, FolderId, Fragment};
use crate::guards::Guard;
use crate::scenario::Scenario;
use crate::situations::{Note, Situation};
use crate::world::{Reader, World};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Compactor {
    pub phase: Phase,
    pub date: u8,
    /// Fragments listed and not merged yet.
    fresh: Vec<Fragment>,
    /// Fragments that did not read back, to be laid aside.
    damaged: Vec<Fragment>,
    /// Identities that stood when the fragments were listed; kept only where nothing is listed anew.
    stood: BTreeSet<Identity>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    #[default]
    Away,
    /// Between two publishes.
    Publishing,
    /// Has merged these fragments into a temp file.
    Prepared {
        file: File,
        merged: Vec<Fragment>,
    },
    Committed {
        merged: Vec<Fragment>,
    },
    Deleting {
        merged: Vec<Fragment>,
    },
    Deleted,
    /// Has looked at a damaged fragment once more, and lets others go on before it lays it aside.
    LayingAside {
        fragment: Fragment,
    },
    Gathered {
        next: FolderId,
    },
    Ready {
        next: FolderId,
    },
    /// Between the two steps of an exchange that is not one step.
    Parted {
        next: FolderId,
        old: FolderId,
    },
    Exchanged {
        old: FolderId,
    },
    ExchangeSynced {
        old: FolderId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Takes `.compact.lock` of a date's bucket and recovers, as every visit does, then lists its fragments.
    List {
        date: u8,
    },
    Merge,
    Commit,
    SyncPublished,
    DeleteOne,
    SyncStaging,
    LayAside,
    /// Merges published files into one, in a folder of its own; the file of this place in the listing is only linked.
    Gather {
        keep: Option<u8>,
        fold: bool,
    },
    SyncNext,
    Exchange,
    SyncParents,
    Retire,
    DeleteOld,
    CleanNext,
    Die,
}

/// All ways to consolidate few files.
const GATHER: [Step; 8] = [
    Step::Gather { keep: None, fold: false },
    Step::Gather { keep: Some(0), fold: false },
    Step::Gather { keep: Some(1), fold: false },
    Step::Gather { keep: Some(2), fold: false },
    Step::Gather { keep: None, fold: true },
    Step::Gather { keep: Some(0), fold: true },
    Step::Gather { keep: Some(1), fold: true },
    Step::Gather { keep: Some(2), fold: true },
];

impl Compactor {
    /// The steps that its phase may take, in the order of the work.
    pub fn steps(&self) -> Vec<Step> {
        let work: &[Step] = match self.phase {
            Phase::Away => {
                let work = [Step::List { date: 0 }, Step::List { date: 1 }, Step::DeleteOld, Step::CleanNext];
                return work.into_iter().chain(GATHER).collect();
            }
            // Dying in one of these is like never going on, or like dying before it came.
            Phase::Publishing => return vec![Step::Merge, Step::LayAside],
            Phase::Prepared { .. } => return vec![Step::Commit],
            Phase::Committed { .. } => &[Step::SyncPublished],
            Phase::Deleting { .. } => &[Step::DeleteOne],
            Phase::Deleted => &[Step::SyncStaging],
            Phase::LayingAside { .. } => &[Step::LayAside],
            Phase::Gathered { .. } => &[Step::SyncNext],
            Phase::Ready { .. } | Phase::Parted { .. } => &[Step::Exchange],
            Phase::Exchanged { .. } => &[Step::SyncParents],
            Phase::ExchangeSynced { .. } => &[Step::Retire],
        };
        work.iter().copied().chain([Step::Die]).collect()
    }

    fn next_folder(&self) -> Option<FolderId> {
        match self.phase {
            Phase::Gathered { next } | Phase::Ready { next } | Phase::Parted { next, .. } => Some(next),
            Phase::Exchanged { old } | Phase::ExchangeSynced { old } => Some(old),
            _ => None,
        }
    }

    /// Goes on publishing, or leaves when nothing is left to do.
    fn publish_on(self) -> Self {
        let at_rest = self.fresh.is_empty() && self.damaged.is_empty();
        if at_rest { Self::default() } else { Self { phase: Phase::Publishing, ..self } }
    }
}

/// The world after a step, if the compactor can take it.
pub fn step(scenario: &Scenario, world: &mut World, slot: Slot, step: Step, note: &mut Note) -> Option<()> {
    let visit = world.compactors.get_mut(usize::from(slot)).map(std::mem::take)?;
    let next = match (step, &visit.phase) {
        (Step::Die, phase) if *phase != Phase::Away => {
            note_death(&visit, note);
            Compactor::default()
        }
        (Step::List { date }, Phase::Away) => {
            let visit = enter(scenario, world, slot, date)?;
            list(scenario, world, visit)?
        }
        (Step::Merge, Phase::Publishing) => merge(scenario, world, visit, note)?,
        (Step::Commit, Phase::Prepared { .. }) => commit(scenario, world, visit, note)?,
        (Step::SyncPublished, Phase::Committed { .. }) => sync_published(scenario, world, visit)?,
        (Step::DeleteOne, Phase::Deleting { .. }) => delete_one(scenario, world, visit)?,
        (Step::SyncStaging, Phase::Deleted) => sync_staging(world, visit),
        (Step::LayAside, Phase::Publishing | Phase::LayingAside { .. }) => lay_aside(scenario, world, visit, note)?,
        (Step::Gather { keep, fold }, Phase::Away) => {
            let visit = enter(scenario, world, slot, 0)?;
            gather(scenario, world, visit, keep, fold, note)?
        }
        (
            _,
            Phase::Gathered { .. }
            | Phase::Ready { .. }
            | Phase::Parted { .. }
            | Phase::Exchanged { .. }
            | Phase::ExchangeSynced { .. },
        ) => exchange(scenario, world, visit, step, note)?,
        (Step::DeleteOld | Step::CleanNext, Phase::Away) => {
            let visit = enter(scenario, world, slot, 0)?;
            delete_folder(scenario, world, &visit, step, note)?
        }
        _ => return None,
    };
    world.compactors[usize::from(slot)] = next;
    Some(())
}

impl World {
    fn bucket_mut(&mut self, visit: &Compactor) -> &mut crate::disk::Bucket {
        &mut self.disk[usize::from(visit.date)]
    }

    fn bucket(&self, visit: &Compactor) -> &crate::disk::Bucket {
        &self.disk[usize::from(visit.date)]
    }
}

/// `Visit::recover`, but for what is removed: see `delete_folder`.
fn enter(scenario: &Scenario, world: &mut World, slot: Slot, date: u8) -> Option<Compactor> {
    if date >= scenario.dates {
        return None;
    }
    let is_taken = (0..).zip(&world.compactors).any(|(other, visit)| {
        let gave_it_back = match visit.phase {
            Phase::Away => true,
            Phase::Deleting { .. } | Phase::Deleted => {
                visit.fresh.is_empty() && !scenario.guards.has(Guard::CompactLockLastsToTheLastDelete)
            }
            _ => false,
        };
        other != slot && visit.date == date && !gave_it_back
    });
    if is_taken && scenario.guards.has(Guard::CompactLockIsTaken) {
        return None;
    }
    let visit = Compactor { date, ..Compactor::default() };
    if scenario.guards.has(Guard::PredecessorIsSettled) {
        let bucket = world.bucket_mut(&visit);
        bucket.published_mut().into_iter().for_each(crate::disk::Folder::sync);
        bucket.sync_names();
    }
    Some(visit)
}

/// Lists the fragments, and begins with the deletion of those that are merged already.
fn list(scenario: &Scenario, world: &World, visit: Compactor) -> Option<Compactor> {
    let bucket = world.bucket(&visit);
    let staged: Vec<Fragment> = bucket.staging.list().cloned().collect();
    if staged.is_empty() || bucket.is_held_back() {
        return None;
    }
    let (known, fresh): (Vec<_>, Vec<_>) =
        staged.into_iter().partition(|fragment| bucket.knows(scenario.guards, fragment));
    let stood = bucket.published_identities();
    let stood = if scenario.guards.has(Guard::StandingIsListedAnew) { BTreeSet::new() } else { stood };
    let phase = if known.is_empty() { Phase::Publishing } else { Phase::Deleting { merged: known } };
    Some(Compactor { phase, fresh, stood, ..visit })
}

/// Merges the next slice: those of its fragments that open.
fn merge(scenario: &Scenario, world: &mut World, mut visit: Compactor, note: &mut Note) -> Option<Compactor> {
    if visit.fresh.is_empty() {
        return None;
    }
    let slice: Vec<Fragment> = visit.fresh.drain(..usize::from(scenario.slice).min(visit.fresh.len())).collect();
    let guards = scenario.guards;
    let bucket = world.bucket_mut(&visit);
    let (mut opened, mut rows) = (Vec::new(), Vec::new());
    for fragment in slice {
        match bucket.staging.content(&fragment) {
            None => {}
            Some(Content::Torn) if guards.has(Guard::FragmentIsCheckedBeforeMerging) => visit.damaged.push(fragment),
            Some(Content::Torn) => opened.push(fragment),
            Some(_) => {
                rows.extend(fragment.rows.iter().copied());
                opened.push(fragment);
            }
        }
    }
    if opened.is_empty() {
        return Some(visit.publish_on());
    }
    let standing =
        if guards.has(Guard::StandingIsListedAnew) { bucket.published_identities() } else { visit.stood.clone() };
    let rows = without_repeats(scenario, rows, &standing);
    let merged_rows = opened.iter().map(|fragment| fragment.rows.len()).sum::<usize>();
    if rows.len() < merged_rows {
        note.reached(Situation::DuplicateDropped);
    }
    if rows.is_empty() && !guards.has(Guard::FileOfNoRowsIsPublished) {
        return Some(Compactor { phase: Phase::Deleting { merged: opened }, ..visit });
    }
    if rows.is_empty() {
        note.reached(Situation::FileOfNoRows);
    }
    let id = bucket.files_made;
    bucket.files_made += 1;
    let names = guards.has(Guard::RecordNamesClaims);
    let file = File {
        id,
        rows,
        named: if names { opened.clone() } else { Vec::new() },
        folded: if names { 0 } else { merged_rows as u8 },
        repeated: 0,
    };
    let visit = Compactor { phase: Phase::Prepared { file, merged: opened }, ..visit };
    // Nobody but another compactor could come between.
    if scenario.compactors > 1 { Some(visit) } else { commit(scenario, world, visit, note) }
}

/// Of neighbours with one identity the lowest in the sort order stays, unless the identity stands already.
fn without_repeats(scenario: &Scenario, mut rows: Vec<Row>, standing: &BTreeSet<Identity>) -> Vec<Row> {
    rows.sort_unstable();
    if scenario.guards.has(Guard::NeighboursAreCompared) {
        rows.dedup_by_key(|row| row.identity);
    }
    if scenario.guards.has(Guard::PublishedIdentitiesAreLookedUp) {
        rows.retain(|row| !standing.contains(&row.identity));
    }
    rows
}

fn commit(scenario: &Scenario, world: &mut World, visit: Compactor, note: &mut Note) -> Option<Compactor> {
    let Phase::Prepared { file, merged } = visit.phase.clone() else { return None };
    let synced = scenario.guards.has(Guard::PublishedFileIsSyncedBeforeRename);
    let bucket = world.bucket_mut(&visit);
    if file
        .named
        .iter()
        .any(|fragment| bucket.files().any(|other| other.named.iter().any(|n| n.claim == fragment.claim)))
    {
        note.reached(Situation::ClaimMergedTwice);
    }
    bucket.published_mut()?.put(file, if synced { Content::Synced } else { Content::Written });
    note.reached(Situation::Published);
    let visit = Compactor { phase: Phase::Committed { merged }, ..visit };
    if scenario.syncs_matter() { Some(visit) } else { sync_published(scenario, world, visit) }
}

fn sync_published(scenario: &Scenario, world: &mut World, visit: Compactor) -> Option<Compactor> {
    let Phase::Committed { merged } = visit.phase.clone() else { return None };
    let bucket = world.bucket_mut(&visit);
    if scenario.guards.has(Guard::PublishedFolderIsSyncedBeforeDeleting) {
        bucket.published_mut().into_iter().for_each(crate::disk::Folder::sync);
    }
    let merged = if scenario.guards.has(Guard::OnlyMergedFragmentsAreDeleted) {
        merged
    } else {
        bucket.staging.list().cloned().collect()
    };
    Some(Compactor { phase: Phase::Deleting { merged }, ..visit })
}

fn delete_one(scenario: &Scenario, world: &mut World, visit: Compactor) -> Option<Compactor> {
    let Phase::Deleting { mut merged } = visit.phase.clone() else { return None };
    if let Some(fragment) = merged.pop() {
        world.bucket_mut(&visit).staging.remove(&fragment);
    }
    let is_last = merged.is_empty();
    let phase = if is_last { Phase::Deleted } else { Phase::Deleting { merged } };
    let visit = Compactor { phase, ..visit };
    Some(if is_last && !scenario.syncs_matter() { sync_staging(world, visit) } else { visit })
}

fn sync_staging(world: &mut World, visit: Compactor) -> Compactor {
    world.bucket_mut(&visit).staging.sync();
    visit.publish_on()
}

/// Moves a damaged fragment into quarantine, unless it was written anew meanwhile.
fn lay_aside(scenario: &Scenario, world: &mut World, mut visit: Compactor, note: &mut Note) -> Option<Compactor> {
    if !visit.fresh.is_empty() && matches!(visit.phase, Phase::Publishing) {
        return None;
    }
    let fragment = match visit.phase.clone() {
        Phase::LayingAside { fragment } => fragment,
        _ => {
            let fragment = visit.damaged.pop()?;
            let content = world.bucket(&visit).staging.content(&fragment);
            let is_whole = content != Some(Content::Torn);
            if is_whole && content.is_some() {
                note.reached(Situation::DamagedFragmentWrittenAnew);
            }
            if is_whole && scenario.guards.has(Guard::DamagedIsLookedAtAgain) || content.is_none() {
                return Some(visit.publish_on());
            }
            if !scenario.guards.has(Guard::BucketLockIsTaken) {
                return Some(Compactor { phase: Phase::LayingAside { fragment }, ..visit });
            }
            fragment
        }
    };
    let bucket = world.bucket_mut(&visit);
    // Its note, the move and the syncs are one step here: dead in between, it is found damaged once more.
    bucket.staging.remove(&fragment);
    bucket.staging.sync();
    bucket.quarantine.insert(fragment);
    note.reached(Situation::Quarantined);
    Some(visit.publish_on())
}

/// `Visit::consolidate` up to the gathered folder.
fn gather(
    scenario: &Scenario,
    world: &mut World,
    visit: Compactor,
    keep: Option<u8>,
    fold: bool,
    note: &mut Note,
) -> Option<Compactor> {
    if world.spent.consolidations >= scenario.consolidations || fold && !scenario.folds {
        return None;
    }
    let standing = world.buffer.claim.as_ref().map(|claim| claim.id);
    let bucket = world.bucket_mut(&visit);
    if bucket.is_held_back() {
        return None;
    }
    let (kept, merged) = split(scenario, bucket.files().cloned().collect(), keep)?;
    let identities: Vec<Identity> = merged.iter().flat_map(|file| &file.rows).map(|row| row.identity).collect();
    if identities.len() > identities.iter().collect::<BTreeSet<_>>().len() {
        // Held back: dropping a row here would hide how it came to stand twice.
        return None;
    }
    // A claim is folded when it is old: the one that stands is its partition's newest.
    if fold && merged.iter().flat_map(|file| &file.named).any(|named| Some(named.claim) == standing) {
        return None;
    }
    let new = consolidated(bucket.files_made, &merged, fold);
    bucket.files_made += 1;
    let contents: BTreeMap<File, Content> = bucket
        .published()
        .map(|folder| kept.iter().filter_map(|file| Some((file.clone(), folder.content(file)?))).collect())
        .unwrap_or_default();
    if !contents.is_empty() {
        note.reached(Situation::FileLinked);
    }
    if new.folded > 0 {
        note.reached(Situation::ClaimFolded);
    }
    let folded = merged.iter().filter(|_| fold).flat_map(|file| &file.named).map(|named| named.claim);
    let still_named: BTreeSet<_> = kept.iter().flat_map(|file| &file.named).map(|named| named.claim).collect();
    let folded: Vec<_> = folded.filter(|claim| !still_named.contains(claim)).collect();
    let synced = scenario.guards.has(Guard::PublishedFileIsSyncedBeforeRename);
    let new = (new, if synced { Content::Synced } else { Content::Written });
    let next = bucket.new_folder(contents.into_iter().chain([new]));
    bucket.name(|names| _ = names.next.insert(next));
    world.spent.consolidations += 1;
    world.folded.extend(folded.into_iter().map(|claim| (visit.date, claim)));
    Some(Compactor { phase: Phase::Gathered { next }, ..visit })
}

/// The files to link and those to merge. Files that name one claim are merged together or not at all.
fn split(scenario: &Scenario, files: Vec<File>, keep: Option<u8>) -> Option<(Vec<File>, Vec<File>)> {
    if keep.is_some_and(|keep| usize::from(keep) >= files.len() || !scenario.keeps) {
        return None;
    }
    let (mut kept, mut merged): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for (place, file) in (0..).zip(files) {
        if keep == Some(place) { kept.push(file) } else { merged.push(file) }
    }
    let claims: BTreeSet<_> = merged.iter().flat_map(|file| &file.named).map(|named| named.claim).collect();
    let shares = |file: &mut File| file.named.iter().any(|named| claims.contains(&named.claim));
    if scenario.guards.has(Guard::FilesOfOneClaimAreMergedTogether) {
        merged.extend(kept.extract_if(.., shares));
    }
    (merged.len() >= 2).then_some((kept, merged))
}

fn consolidated(id: u8, merged: &[File], fold: bool) -> File {
    let mut file = File { id, rows: Vec::new(), named: Vec::new(), folded: 0, repeated: 0 };
    for other in merged {
        file.rows.extend(&other.rows);
        file.named.extend(other.named.iter().cloned());
        file.folded += other.folded;
        file.repeated += other.repeated;
    }
    file.rows.sort_unstable();
    if fold {
        let mut claims = BTreeSet::new();
        for named in std::mem::take(&mut file.named) {
            let total = if claims.insert(named.claim) { &mut file.folded } else { &mut file.repeated };
            *total += named.rows.len() as u8;
        }
    }
    file
}

/// `Replacement::exchange`.
fn exchange(
    scenario: &Scenario,
    world: &mut World,
    visit: Compactor,
    step: Step,
    note: &mut Note,
) -> Option<Compactor> {
    let bucket = world.bucket_mut(&visit);
    let phase = match (step, visit.phase.clone()) {
        (Step::SyncNext, Phase::Gathered { next }) => {
            if scenario.guards.has(Guard::BooksAreCheckedBeforeExchange) {
                let merged =
                    |folder: FolderId| bucket.folders.get(&folder).map(|f| f.list().map(File::merged).sum::<usize>());
                if merged(next) != merged(bucket.seen().published?) {
                    note.reached(Situation::ExchangeRefused);
                    bucket.remove_folder(next);
                    return Some(Compactor::default());
                }
            }
            if scenario.guards.has(Guard::NextFolderIsSyncedBeforeExchange) {
                bucket.folders.get_mut(&next).into_iter().for_each(crate::disk::Folder::sync);
            }
            bucket.sync_names();
            Phase::Ready { next }
        }
        (Step::Exchange, Phase::Ready { next }) => {
            let old = bucket.seen().published?;
            if scenario.guards.has(Guard::ExchangeIsOneStep) {
                bucket.name(|names| {
                    names.published = Some(next);
                    names.next.remove(&next);
                    names.next.insert(old);
                });
                note.reached(Situation::Exchanged);
                Phase::Exchanged { old }
            } else {
                bucket.name(|names| {
                    names.published = None;
                    names.next.insert(old);
                });
                Phase::Parted { next, old }
            }
        }
        (Step::Exchange, Phase::Parted { next, old }) => {
            bucket.name(|names| {
                names.published = Some(next);
                names.next.remove(&next);
            });
            Phase::Exchanged { old }
        }
        (Step::SyncParents, Phase::Exchanged { old }) => {
            if scenario.guards.has(Guard::ExchangeIsSynced) {
                bucket.sync_names();
            }
            Phase::ExchangeSynced { old }
        }
        (Step::Retire, Phase::ExchangeSynced { old }) => {
            bucket.name(|names| {
                names.next.remove(&old);
                names.old.insert(old);
            });
            return Some(Compactor::default());
        }
        _ => return None,
    };
    Some(Compactor { phase, ..visit })
}

/// `delete_retired` of a replaced folder, `clean_leftovers` of one that a dead compactor left: nobody else holds the lock,
/// and its age shows that no other is at work on it.
fn delete_folder(
    scenario: &Scenario,
    world: &mut World,
    visit: &Compactor,
    step: Step,
    note: &mut Note,
) -> Option<Compactor> {
    let at_work: BTreeSet<FolderId> = world.compactors.iter().filter_map(Compactor::next_folder).collect();
    let names = world.bucket(visit).seen();
    let folders = if step == Step::DeleteOld { &names.old } else { &names.next };
    let folder = *folders.iter().find(|folder| !at_work.contains(folder))?;
    let is_read = matches!(world.reader, Reader::Inside { folder: read, .. } if read == folder);
    if is_read && scenario.guards.has(Guard::ReadersAreGranted) {
        return None;
    }
    if is_read {
        world.reader = Reader::Robbed;
    }
    let bucket = world.bucket_mut(visit);
    if scenario.guards.has(Guard::ExchangeIsSyncedBeforeDeleting) {
        bucket.sync_names();
    }
    bucket.remove_folder(folder);
    note.reached(if step == Step::DeleteOld { Situation::OldFolderDeleted } else { Situation::LeftoverFolderDeleted });
    Some(Compactor::default())
}

fn note_death(visit: &Compactor, note: &mut Note) {
    match visit.phase {
        Phase::Committed { .. } => note.reached(Situation::DiedBeforeSyncOfPublished),
        Phase::Deleting { .. } => note.reached(Situation::DiedBeforeDeleting),
        Phase::Exchanged { .. } => note.reached(Situation::DiedBehindExchange),
        _ => {}
    }
}
