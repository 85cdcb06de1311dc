//! Giving a partition away, page by page, to the backend that it moves to (`../drain/`).
//!
//! Constraint: nothing is given away before the buffer is marked as moving. From then on nothing in it changes, so a
//! position in a list means the same frame at every try.

use bytes::Bytes;

use super::super::handover::{FrameList, Handover, Mark, Place};
use super::super::{DeadLetterId, Result, letter};
use super::buffer::EmbeddedBuffer;
use super::keys;
use super::store::Store;
use crate::heartbeat::Partition;

/// Frames or letters that one page holds at most: as many as one claim, and so as short for Redis.
const PAGE_ENTRIES: usize = 1_000;
/// Bytes at which a page ends at the latest: some ten milliseconds of Redis, and little memory here.
const PAGE_BYTES: usize = 4 << 20;

impl EmbeddedBuffer {
    /// What is known of a move. `None` when none was ever begun.
    pub(in super::super) async fn mark(&self) -> Result<Option<Mark>> {
        self.step(|store, _| store.mark()).await
    }

    /// Writes down what is known of a move from now on. From the first time on the buffer takes no step any more.
    pub(in super::super) async fn set_mark(&self, mark: Mark) -> Result<()> {
        self.step(move |store, _| store.set_mark(mark)).await
    }

    /// The record of a partition.
    pub(in super::super) async fn hand_over(&self, partition: Partition) -> Result<Handover> {
        self.step(move |store, _| {
            store.look(partition, |kept, _| {
                let state = kept.state.clone();
                Ok(Handover {
                    registration: state.registration,
                    ledger: state.ledger,
                    epoch: state.epoch,
                    claimed_frames: state.pending - state.first,
                    pending_frames: state.next - state.pending,
                    claim: state.claim,
                })
            })
        })
        .await
    }

    /// The frames of a list from position `at` on: at least one if there is one, then as many as a page holds.
    pub(in super::super) async fn page_of_frames(
        &self,
        partition: Partition,
        list: FrameList,
        at: u64,
    ) -> Result<Vec<Bytes>> {
        self.step(move |store, _| frames(store, partition, list, at)).await
    }

    /// Dead letters as they are kept, oldest first, those behind `after`; each with its id.
    pub(in super::super) async fn page_of_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
    ) -> Result<Vec<(DeadLetterId, Bytes)>> {
        self.step(move |store, _| {
            let engine = store.engine()?;
            let entries = engine.within(keys::dead_after(partition, after));
            page(entries.map(|entry| entry.and_then(|(_, text)| Ok((letter::read(&text)?.id, text)))))
        })
        .await
    }

    /// Devices in the order of their names, those behind `after`: each with the time at which it was last seen.
    pub(in super::super) async fn page_of_devices(
        &self,
        partition: Partition,
        after: Option<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, i64)>> {
        self.step(move |store, _| store.look(partition, |kept, _| Ok(kept.roll.page(after.as_deref(), PAGE_ENTRIES))))
            .await
    }

    /// What the standing claim condemned, in the order of frames and rows, behind `after`: letters as they are kept.
    pub(in super::super) async fn page_of_condemned(
        &self,
        partition: Partition,
        after: Option<Place>,
    ) -> Result<Vec<(Place, Bytes)>> {
        self.step(move |store, _| {
            let engine = store.engine()?;
            let entries = engine.within(keys::condemned_after(partition, after));
            page(entries.map(|entry| entry.and_then(|(key, text)| Ok((keys::read_condemned(&key)?, text)))))
        })
        .await
    }
}

fn frames(store: &Store, partition: Partition, list: FrameList, at: u64) -> Result<Vec<Bytes>> {
    let numbers = store.look(partition, |kept, _| {
        Ok(match list {
            FrameList::Claimed => kept.state.first..kept.state.pending,
            FrameList::Pending => kept.state.pending..kept.state.next,
        })
    })?;
    let from = numbers.start.saturating_add(at).min(numbers.end);
    let engine = store.engine()?;
    let found = engine.frames(partition, from..numbers.end);
    let page = page(found.map(|frame| Ok(((), frame?))))?;
    Ok(page.into_iter().map(|((), frame)| frame).collect())
}

fn page<K>(entries: impl Iterator<Item = Result<(K, Bytes)>>) -> Result<Vec<(K, Bytes)>> {
    let (mut page, mut size) = (Vec::new(), 0);
    for entry in entries.take(PAGE_ENTRIES) {
        let (key, bytes) = entry?;
        size += bytes.len();
        page.push((key, bytes));
        if size >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}
