//! Dead letters, for people: looked at, tried again, dropped.

use super::super::letter::{self, MAX_LISTED, MAX_LISTED_BYTES};
use super::super::{DeadLetter, DeadLetterId, DeadLetterNote, Result};
use super::engine::Write;
use super::keys;
use super::state::{Caps, Load};
use super::store::Store;
use crate::heartbeat::Partition;

/// Oldest first: at least one if there is one, then as many as both bounds allow.
pub(super) fn list(
    store: &Store,
    partition: Partition,
    after: Option<DeadLetterId>,
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    let engine = store.engine()?;
    let (mut letters, mut size) = (Vec::new(), 0);
    for entry in engine.within(keys::dead_after(partition, after)).take(limit.min(MAX_LISTED) as usize) {
        let (_, text) = entry?;
        size += text.len();
        letters.push(letter::read(&text)?);
        if size >= MAX_LISTED_BYTES {
            break;
        }
    }
    Ok(letters)
}

/// What is said of them, newest first. One frame at a time is in memory.
pub(super) fn newest(store: &Store, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>> {
    let letters = store.engine()?.within_from_end(keys::dead_after(partition, None));
    letters.take(limit.min(MAX_LISTED) as usize).map(|entry| Ok(letter::read(&entry?.1)?.into())).collect()
}

/// One of them.
pub(super) fn show(store: &Store, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>> {
    let found = store.engine()?.get(&keys::dead(partition, id))?;
    found.map(|text| letter::read(&text)).transpose()
}

/// Puts its frame back at the end of what waits.
pub(super) fn retry(store: &Store, partition: Partition, id: DeadLetterId, caps: Caps) -> Result<bool> {
    store.step(partition, |draft| {
        let key = keys::dead(partition, id);
        let Some(text) = draft.engine.get(&key)? else { return Ok(false) };
        let frame = letter::read(&text)?.bytes;
        let sequence = draft.state.revive(partition, Load::of(&frame), caps)?;
        draft.writes.push(Write::Frame(partition, sequence, frame));
        draft.writes.push(Write::Remove(key));
        Ok(true)
    })
}

/// Deletes it for good; the ledger keeps what was dropped in a column of its own.
pub(super) fn discard(store: &Store, partition: Partition, id: DeadLetterId) -> Result<bool> {
    store.step(partition, |draft| {
        let key = keys::dead(partition, id);
        let Some(text) = draft.engine.get(&key)? else { return Ok(false) };
        draft.state.forget(Load::of(&letter::read(&text)?.bytes));
        draft.writes.push(Write::Remove(key));
        Ok(true)
    })
}
