//! What readers ask of the buffer: the frames that lie in it, by their numbers, from the oldest to what was the newest when
//! the walk began.
//!
//! A frame keeps its number from its push to its acknowledgement, claimed or not; so a walk along the numbers passes none
//! over. What is acknowledged on the way is no longer to be had, and is left out; what is missing without that is an error.
//! A dead letter that is put back gets a number of its own, as one that was just pushed.

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{Error, FrameMark, FramePage, Frames, Result};
use super::EmbeddedBuffer;
use super::store::Store;
use crate::heartbeat::Partition;

/// Frames in a page at most.
const PAGE_FRAMES: usize = 1_000;
/// Bytes at which a page ends at the latest.
const PAGE_BYTES: usize = 1 << 20;

#[async_trait]
impl Frames for EmbeddedBuffer {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> Result<FramePage> {
        self.step(move |store, _| page(store, partition, from)).await
    }
}

fn page(store: &Store, partition: Partition, from: Option<FrameMark>) -> Result<FramePage> {
    store.check_not_moving()?;
    let (first, next) = store.look(partition, |kept, _| Ok((kept.state.first, kept.state.next)))?;
    let end = from.map_or(next, |mark| mark.end).min(next);
    let begin = from.map_or(first, |mark| mark.at.max(first));
    // Read while the partition is free for others: only what is acknowledged meanwhile goes.
    let (frames, at, missing) = read(store, partition, begin, end)?;
    if let Some(sequence) = missing {
        let first = store.look(partition, |kept, _| Ok(kept.state.first))?;
        if sequence >= first {
            return Err(Error::Corrupt { detail: format!("frame {sequence} of partition {partition} is missing") });
        }
    }
    let next = (at < end).then_some(FrameMark { list: 0, at, end });
    Ok(FramePage { frames, next })
}

/// The frames there are from `begin` on, up to a page; the number to go on with; and the last number that has no frame.
fn read(store: &Store, partition: Partition, begin: u64, end: u64) -> Result<(Vec<Bytes>, u64, Option<u64>)> {
    let (mut frames, mut size, mut at, mut missing) = (Vec::new(), 0, begin, None);
    for entry in store.engine()?.frames_there(partition, begin..end) {
        let (sequence, frame) = entry?;
        if sequence > at {
            missing = Some(sequence - 1);
        }
        at = sequence + 1;
        size += frame.len();
        frames.push(frame);
        if frames.len() >= PAGE_FRAMES || size >= PAGE_BYTES {
            return Ok((frames, at, missing));
        }
    }
    if at < end {
        missing = Some(end - 1);
    }
    Ok((frames, end.max(begin), missing))
}
