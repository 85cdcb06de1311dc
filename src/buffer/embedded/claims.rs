//! The steps of a claim: made or handed back, worked on, closed.
//!
//! Constraint: frames are read while their partition is free for others, because reading 64 MiB of them would hold up every
//! push. A frame that stands in the record never changes, so it is enough to look again, before the claim is recorded,
//! whether the record is still the one that was read by.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::{Claim, ClaimBudget, Condemned, DeadLetter, Error, InHand, Lease, Result, letter};
use super::engine::{Engine, Write};
use super::keys;
use super::state::{Load, State};
use super::store::{Draft, Store};
use crate::heartbeat::{ClaimId, FrameHeader, Partition};

/// Frames that one claim holds at most: as on Redis, so that what one backend claimed the other can hold.
const MAX_CLAIM_FRAMES: u64 = 1_000;
/// Bytes at which a claim ends at the latest: what is read into memory at once.
const MAX_CLAIM_BYTES: u64 = 64 << 20;
/// Only the holder of the lease claims, so finding the record changed once is rare already.
const ATTEMPTS: u32 = 5;

/// A frame of a claim, and a row of it or all of them.
type Place = (u32, Option<u32>);

/// Hands back the standing claim, or makes one under `id`.
pub(super) fn claim(store: &Store, lease: &Lease, id: ClaimId, budget: ClaimBudget, now: i64) -> Result<Option<Claim>> {
    let partition = lease.partition;
    for _ in 0..ATTEMPTS {
        let seen = store.step(partition, |draft| {
            draft.state.check_lease(lease)?;
            draft.state.hand_over();
            Ok(draft.state.clone())
        })?;
        let engine = store.engine()?;
        let claimed = match &seen.claim {
            Some(_) => hand_back(&engine, partition, &seen),
            None if seen.pending == seen.next => return Ok(None),
            None => make(store, &engine, lease, &seen, id, budget, now),
        };
        drop(engine);
        match claimed {
            Ok(Some(claim)) => return Ok(Some(claim)),
            Ok(None) => {}
            // Frames go missing where the claim was closed meanwhile; else they are lost.
            Err(error @ Error::Corrupt { .. }) => {
                let same = store.look(partition, |kept, _| Ok(kept.state.first == seen.first))?;
                if same {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Refused { reason: format!("partition {partition} changes faster than it can be claimed; try again") })
}

fn hand_back(engine: &Engine, partition: Partition, seen: &State) -> Result<Option<Claim>> {
    let Some(standing) = &seen.claim else { return Ok(None) };
    let frames = engine.frames(partition, seen.first..seen.pending).collect::<Result<_>>()?;
    let in_hand = standing.last_hand.map(|frame| InHand { frame, deaths: standing.deaths_with(frame) });
    Ok(Some(Claim {
        id: standing.id,
        frames,
        rows: standing.rows,
        standing: true,
        deaths: standing.deaths,
        in_hand,
        condemned: condemned_of(engine, partition)?.into_values().collect(),
    }))
}

/// Claims what waited when it was looked at. `None` when the partition has changed since.
fn make(
    store: &Store,
    engine: &Engine,
    lease: &Lease,
    seen: &State,
    id: ClaimId,
    budget: ClaimBudget,
    now: i64,
) -> Result<Option<Claim>> {
    let (frames, load) = read_up_to(engine, lease.partition, seen.pending..seen.next, budget)?;
    let made = store.step(lease.partition, |draft| {
        draft.state.check_lease(lease)?;
        let unchanged = draft.state.claim.is_none() && draft.state.pending == seen.pending;
        if unchanged {
            draft.state.begin_claim(id, frames.len() as u64, load, now);
        }
        Ok(unchanged)
    })?;
    let claim = Claim { id, frames, rows: load.rows, standing: false, deaths: 0, in_hand: None, condemned: Vec::new() };
    Ok(made.then_some(claim))
}

/// Frames until one of the bounds is reached, at least one, and what the ledger counts for them.
fn read_up_to(
    engine: &Engine,
    partition: Partition,
    range: Range<u64>,
    budget: ClaimBudget,
) -> Result<(Vec<bytes::Bytes>, Load)> {
    let most_frames = u64::from(budget.frames).clamp(1, MAX_CLAIM_FRAMES);
    let most_bytes = budget.bytes.min(MAX_CLAIM_BYTES);
    let range = range.start..range.end.min(range.start.saturating_add(most_frames));
    let (mut frames, mut size, mut load) = (Vec::new(), 0, Load::default());
    for frame in engine.frames(partition, range) {
        let frame = frame?;
        let Load { rows, bytes } = Load::of(&frame);
        size += FrameHeader::peek(&frame).map_or(frame.len() as u64, |header| header.raw.into());
        load = Load { rows: load.rows + rows, bytes: load.bytes + bytes };
        frames.push(frame);
        if load.rows >= budget.rows || size >= most_bytes {
            break;
        }
    }
    Ok((frames, load))
}

/// What the standing claim condemned, by frame and row; whole frames come before their rows.
fn condemned_of(engine: &Engine, partition: Partition) -> Result<BTreeMap<Place, Condemned>> {
    let entries = engine.under(&keys::condemned_of(partition)).map(|entry| {
        let (key, text) = entry?;
        let place = keys::read_condemned(&key)?;
        let DeadLetter { id, rows, reason, bytes, .. } = letter::read(&text)?;
        Ok((place, Condemned { id, frame: place.0, row: place.1, rows, reason, bytes }))
    });
    entries.collect()
}

/// Records which frame is being worked on.
pub(super) fn take_in_hand(store: &Store, lease: &Lease, claim: ClaimId, frame: Option<u32>) -> Result<()> {
    store.step(lease.partition, |draft| {
        draft.state.check_lease(lease)?;
        draft.state.standing(claim)?.hand = frame;
        Ok(())
    })
}

/// Adds to the condemned. A whole frame stands for all of its rows: rows of it that were condemned before go in its favour,
/// and none is added behind it, so that no heartbeat is counted twice.
pub(super) fn condemn(store: &Store, lease: &Lease, claim: ClaimId, list: Vec<Condemned>, now: i64) -> Result<()> {
    store.step(lease.partition, |draft| {
        draft.state.check_lease(lease)?;
        draft.state.standing(claim)?;
        let frames = draft.state.pending - draft.state.first;
        if let Some(beyond) = list.iter().find(|entry| u64::from(entry.frame) >= frames) {
            let detail = format!("frame {} is condemned in a claim of {frames}", beyond.frame);
            return Err(Error::Corrupt { detail });
        }
        let mut standing: Vec<_> = condemned_of(draft.engine, lease.partition)?.into_keys().collect();
        for entry in list {
            let place = (entry.frame, entry.row);
            if standing.contains(&place) || standing.contains(&(entry.frame, None)) {
                continue;
            }
            if entry.row.is_none() {
                let rows = standing.extract_if(.., |(frame, _)| *frame == entry.frame);
                draft.writes.extend(rows.map(|row| Write::Remove(keys::condemned(lease.partition, row))));
            }
            standing.push(place);
            let Load { rows, bytes } = Load::of(&entry.bytes);
            let Condemned { id, reason, bytes: kept, .. } = entry;
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            let text = letter::write(&DeadLetter { id, claim, since: now, rows, reason, bytes: kept }, bytes);
            draft.writes.push(Write::Put(keys::condemned(lease.partition, place), text));
        }
        Ok(())
    })
}

/// Closes the claim: what was condemned becomes dead letters, the frames become garbage, the ledger is settled.
pub(super) fn ack(store: &Store, lease: &Lease, claim: ClaimId, left_out: &BTreeSet<Place>) -> Result<()> {
    store.step(lease.partition, |draft| {
        draft.state.check_lease(lease)?;
        draft.state.standing(claim)?;
        if !condemned_of(draft.engine, lease.partition)?.keys().eq(left_out) {
            return Err(Error::NotStanding);
        }
        let dead = bury_condemned(draft)?;
        draft.state.close_claim(dead);
        Ok(())
    })
}

fn bury_condemned(draft: &mut Draft<'_>) -> Result<Load> {
    let mut dead = Load::default();
    for entry in draft.engine.under(&keys::condemned_of(draft.partition)) {
        let (key, text) = entry?;
        let DeadLetter { id, bytes, .. } = letter::read(&text)?;
        let Load { rows, bytes } = Load::of(&bytes);
        dead = Load { rows: dead.rows + rows, bytes: dead.bytes + bytes };
        draft.writes.push(Write::Put(keys::dead(draft.partition, id), text.to_vec()));
        draft.writes.push(Write::Remove(key));
    }
    Ok(dead)
}
