//! The end of a merge: rows flow into the new published file, those whose identity stands already drop out.

use super::Error;
use super::chunk::Chunk;
use super::merge::{Merge, Run};
use super::visit::Watcher;
use crate::dataset::PublishedBuilder;
use crate::heartbeat::HeartbeatRef;

/// The books of one merge: `merged = published + deduplicated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub merged: u64,
    pub published: u64,
    pub deduplicated: u64,
}

/// Pours all rows of `merge` into `file`. Of neighbours with one identity the lowest in the sort order stays, unless
/// `standing` says (one answer a row) that the identity stands elsewhere.
pub(super) fn pour<R: Run>(
    merge: &mut Merge<R>,
    mut standing: impl FnMut(&[HeartbeatRef<'_>]) -> Result<Vec<bool>, Error>,
    file: &mut PublishedBuilder,
    watcher: Watcher<'_>,
) -> Result<Counts, Error> {
    let (mut counts, mut chunk, mut reported) = (Counts::default(), Chunk::default(), 0);
    let mut flush = |chunk: &mut Chunk, counts: &mut Counts| -> Result<(), Error> {
        watcher.check()?;
        let rows = chunk.rows();
        let answers = standing(&rows)?;
        for (row, stands) in rows.iter().zip(answers) {
            if stands {
                counts.deduplicated += 1;
            } else {
                file.push(*row)?;
                counts.published += 1;
            }
        }
        chunk.clear();
        watcher.rows(counts.merged - reported);
        reported = counts.merged;
        Ok(())
    };
    while let Some(row) = merge.peek() {
        counts.merged += 1;
        if !chunk.push(row) {
            counts.deduplicated += 1;
        }
        merge.advance().map_err(Error::from)?;
        if chunk.is_full() {
            flush(&mut chunk, &mut counts)?;
        }
    }
    flush(&mut chunk, &mut counts)?;
    Ok(counts)
}
