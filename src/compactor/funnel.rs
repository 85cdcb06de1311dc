//! The end of a merge: rows flow into the new published file, those whose identity stands already drop out.
//!
//! Merging (which decodes) and writing (which encodes) take about as long as each other, so each has a thread. Between them
//! go chunks of rows, one of them waiting at most.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Error;
use super::chunk::Chunk;
use super::merge::{Fault, Merge, Run};
use super::visit::Watcher;
use crate::dataset::PublishedBuilder;
use crate::heartbeat::HeartbeatRef;

/// Chunks that are full and wait to be written.
const CHUNKS_WAITING: usize = 1;
/// Chunks there are: one being filled, those that wait, one being written.
const CHUNKS: usize = CHUNKS_WAITING + 2;

/// The books of one merge: `merged = published + deduplicated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub merged: u64,
    pub published: u64,
    pub deduplicated: u64,
}

/// What becomes of a row that has the identity of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    Keep,
    Drop,
}

/// Pours all rows of `merge` into `file`. Of neighbours with one identity the lowest in the sort order stays, unless
/// `standing` says (one answer a row) that the identity stands elsewhere.
pub(super) fn pour<R: Run + Send>(
    merge: &mut Merge<R>,
    mut standing: impl FnMut(&[HeartbeatRef<'_>]) -> Result<Vec<bool>, Error>,
    file: &mut PublishedBuilder,
    watcher: Watcher<'_>,
) -> Result<Counts, Error>
where
    R::Batch: Send,
{
    let mut counts = Counts::default();
    drain(merge, Repeats::Drop, |rows, merged| {
        watcher.check()?;
        let answers = standing(rows)?;
        let before = counts.published;
        for (row, _) in rows.iter().zip(answers).filter(|(_, stands)| !stands) {
            file.push(*row)?;
            counts.published += 1;
        }
        counts.merged += merged;
        counts.deduplicated += merged - (counts.published - before);
        watcher.rows(merged);
        Ok(())
    })?;
    Ok(counts)
}

/// Hands over all rows of `merge` in order, some thousand at a time; beside them how many were merged to get them.
pub(super) fn drain<R: Run + Send>(
    merge: &mut Merge<R>,
    repeats: Repeats,
    mut take: impl FnMut(&[HeartbeatRef<'_>], u64) -> Result<(), Error>,
) -> Result<(), Error>
where
    R::Batch: Send,
{
    let (full, to_take) = sync_channel::<(Chunk, u64)>(CHUNKS_WAITING);
    // As many as there are: nobody waits to give one back.
    let (give_back, to_fill) = sync_channel(CHUNKS);
    thread::scope(|scope| {
        let merging = thread::Builder::new().name("merge".into());
        let merging = merging.spawn_scoped(scope, || fill(merge, repeats, full, to_fill)).map_err(Error::NoThread)?;
        let taken = (move || {
            for (chunk, merged) in to_take {
                take(&chunk.rows(), merged)?;
                // It is gone when it has ended already.
                let _ = give_back.send(chunk);
            }
            Ok(())
        })();
        match merging.join() {
            Err(panic) => resume_unwind(panic),
            Ok(filled) => taken.and(filled.map_err(Error::from)),
        }
    })
}

/// Fills chunks until the merge ends, or nobody takes them any more.
fn fill<R: Run>(
    merge: &mut Merge<R>,
    repeats: Repeats,
    full: SyncSender<(Chunk, u64)>,
    to_fill: Receiver<Chunk>,
) -> Result<(), Fault> {
    let (mut chunk, mut merged, mut made) = (Chunk::default(), 0, 1);
    while let Some(row) = merge.peek() {
        match repeats {
            Repeats::Keep => chunk.append(row),
            Repeats::Drop => _ = chunk.push(row),
        }
        merged += 1;
        merge.advance()?;
        if chunk.is_full() {
            let mut next = if made < CHUNKS {
                made += 1;
                Chunk::default()
            } else {
                let Ok(next) = to_fill.recv() else { return Ok(()) };
                next
            };
            next.follow(&chunk);
            let Ok(()) = full.send((std::mem::replace(&mut chunk, next), merged)) else { return Ok(()) };
            merged = 0;
        }
    }
    // An error of sending is the other side's, which has stopped to take.
    let _ = full.send((chunk, merged));
    Ok(())
}
