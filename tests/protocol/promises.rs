//! The promises, as properties of every state.

use std::collections::{BTreeMap, BTreeSet};

use crate::batcher;
use crate::buffer::{ClaimId, Identity};
use crate::compactor;
use crate::disk::Bucket;
use crate::scenario::{Judges, Scenario};
use crate::situations::Note;
use crate::world::{Action, Reader, World};

/// What must hold in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// What was acknowledged stands somewhere from where it can be published: in the buffer, in a fragment that reads back,
    /// in a published file, or among the dead letters.
    NothingIsLost,
    /// No identity stands twice in the published files of a bucket.
    NothingIsDoubled,
    /// The buffer's ledger adds up, and says what the lists hold.
    LedgerBalances,
    /// The audit misses nothing, and sees as surplus exactly what a rollback (or a claim that came back after it was folded)
    /// put into files without the buffer knowing.
    AuditIsRight,
    /// What readers see only grows, and a file that a reader has listed can be read.
    ReadersLoseNothing,
    /// If everything dies now and one batcher and one compactor work on, all that was acknowledged is published once or a
    /// dead letter, nothing stays staged, and the books say so.
    ItEndsWell,
}

impl Promise {
    pub const fn name(self) -> &'static str {
        match self {
            Self::NothingIsLost => "nothing that was acknowledged is lost",
            Self::NothingIsDoubled => "nothing is published twice",
            Self::LedgerBalances => "the buffer's ledger balances",
            Self::AuditIsRight => "the audit is right",
            Self::ReadersLoseNothing => "readers lose nothing",
            Self::ItEndsWell => "left alone, it ends well",
        }
    }

    pub fn holds(self, scenario: &Scenario, world: &World) -> bool {
        match self {
            Self::NothingIsLost => nothing_is_lost(world),
            Self::NothingIsDoubled => nothing_is_doubled(world),
            Self::LedgerBalances => world.buffer.balances(),
            Self::AuditIsRight => audit_is_right(scenario, world),
            Self::ReadersLoseNothing => readers_lose_nothing(world),
            Self::ItEndsWell => it_ends_well(scenario, world),
        }
    }
}

fn nothing_is_lost(world: &World) -> bool {
    let in_claim = world.buffer.claim.iter().flat_map(|claim| &claim.frames);
    let in_buffer = world.buffer.pending.iter().chain(in_claim).chain(&world.buffer.dead).map(|row| row.identity);
    let kept: BTreeSet<Identity> = in_buffer.chain(world.disk.iter().flat_map(kept_on_disk)).collect();
    world.clients.promised.is_subset(&kept)
}

pub fn kept_on_disk(bucket: &Bucket) -> impl Iterator<Item = Identity> {
    bucket.staged_rows().chain(bucket.published_rows()).map(|row| row.identity)
}

fn nothing_is_doubled(world: &World) -> bool {
    world.disk.iter().all(|bucket| bucket.published_rows().count() == bucket.published_identities().len())
}

fn readers_lose_nothing(world: &World) -> bool {
    let seen: BTreeSet<Identity> = world.disk.iter().flat_map(Bucket::published_identities).collect();
    world.reader != Reader::Robbed && world.seen.is_subset(&seen)
}

/// What `systole audit` would say.
#[derive(Debug, Default)]
pub struct Audit {
    pub missing: usize,
    pub surplus: usize,
}

/// `src/books/{count,audit}.rs`.
pub fn audit(world: &World) -> Audit {
    let standing = world.buffer.claim.as_ref().map(|claim| claim.id);
    let settled: usize = world.disk.iter().map(|bucket| count_bucket(bucket, standing)).sum();
    let acked = usize::from(world.buffer.ledger.acked);
    Audit { missing: acked.saturating_sub(settled), surplus: settled.saturating_sub(acked) }
}

/// Rows that stand opposite the buffer's `acked`: those of each claim once, of standing claims apart.
fn count_bucket(bucket: &Bucket, standing: Option<ClaimId>) -> usize {
    let folded: usize = bucket.files().map(|file| usize::from(file.folded)).sum();
    let of_claims = rows_by_claim(bucket).into_iter().filter(|(claim, _)| Some(*claim) != standing);
    folded + of_claims.map(|(_, rows)| rows).sum::<usize>()
}

fn rows_by_claim(bucket: &Bucket) -> BTreeMap<ClaimId, usize> {
    let mut claims = BTreeMap::new();
    let named = bucket.files().flat_map(|file| &file.named);
    for fragment in bucket.staging.list().chain(&bucket.quarantine).chain(named) {
        let rows = claims.entry(fragment.claim).or_default();
        *rows = fragment.rows.len().max(*rows);
    }
    claims
}

fn audit_is_right(scenario: &Scenario, world: &World) -> bool {
    let audit = audit(world);
    let (least, most) = expected_surplus(scenario, world);
    audit.missing == 0 && (least..=most).contains(&audit.surplus)
}

/// Rows of claims that the buffer does not know: a rollback took their acknowledgement, or made them never to have been.
fn expected_surplus(scenario: &Scenario, world: &World) -> (usize, usize) {
    let standing = world.buffer.claim.as_ref().map(|claim| claim.id);
    let is_known = |claim: &ClaimId| standing == Some(*claim) || world.buffer.closed.contains(claim);
    let (mut orphans, mut come_back) = (0, 0);
    for (date, bucket) in (0..).zip(&world.disk) {
        for (claim, rows) in rows_by_claim(bucket) {
            if !is_known(&claim) {
                orphans += rows;
            } else if world.folded.contains(&(date, claim)) {
                come_back += rows;
            }
        }
    }
    // One attempt stored a fragment with a row that a later one condemned: it is published and a dead letter. The audit
    // then tells of one row too many, never of one too few.
    let judged_both_ways = match (scenario.judges, scenario.unwritable) {
        (Judges::Differ, Some(row)) => usize::from(world.clients.sent[usize::from(row)] + world.spent.retries),
        _ => 0,
    };
    (orphans, orphans + come_back + judged_both_ways)
}

/// More steps than any world of these bounds takes to its end.
const MOST_STEPS: usize = 300;

fn it_ends_well(scenario: &Scenario, world: &World) -> bool {
    let Some(end) = left_alone(scenario, world) else { return false };
    let published: BTreeSet<Identity> = end.disk.iter().flat_map(Bucket::published_identities).collect();
    let dead: BTreeSet<Identity> = end.buffer.dead.iter().map(|row| row.identity).collect();
    let is_there = |identity: &Identity| published.contains(identity) || dead.contains(identity);
    end.clients.promised.iter().all(is_there)
        && end.buffer.claim.is_none()
        && end.buffer.pending.is_empty()
        && end.disk.iter().all(|bucket| bucket.staging.list().next().is_none())
        && nothing_is_doubled(&end)
        && end.buffer.balances()
        && audit_is_right(scenario, &end)
}

/// The world when one batcher and then one compactor have done all that there is to do. `None` when they do not come to an
/// end.
fn left_alone(scenario: &Scenario, world: &World) -> Option<World> {
    let mut world = world.clone();
    let mut note = Note::default();
    for _ in 0..MOST_STEPS {
        let next = orderly_steps(&world).into_iter().find_map(|action| world.after(scenario, action, &mut note));
        match next {
            Some(next) => world = next,
            None => return Some(world),
        }
    }
    None
}

/// What to try, the first that can be done first: the batcher's work, then the compactor's.
fn orderly_steps(world: &World) -> Vec<Action> {
    let is_work = |step: &batcher::Step| {
        use batcher::{Delivery, Step};
        !matches!(step, Step::Fail | Step::Die | Step::Ack(Delivery::Late) | Step::Condemn(Delivery::Late))
    };
    let batch = world.batchers[0].steps().iter().copied().filter(is_work).map(|step| Action::Batcher(0, step));
    let is_due = |step: &compactor::Step| !matches!(step, compactor::Step::Die | compactor::Step::Gather { .. });
    let compact = world.compactors[0].steps().into_iter().filter(is_due).map(|step| Action::Compactor(0, step));
    batch.chain(compact).collect()
}
