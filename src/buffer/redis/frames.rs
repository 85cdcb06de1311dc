//! What readers ask of the buffer: the frames that lie in it, page by page (`lua/frames.lua`).
//!
//! Constraint: a page is small, since Redis serves nobody else while it puts one together.

use async_trait::async_trait;

use super::super::{FrameMark, FramePage, Frames, Result};
use super::RedisBuffer;
use super::script;
use crate::heartbeat::Partition;

/// Frames in a page at most: a thousand hold Redis up for some milliseconds at most.
const PAGE_FRAMES: u32 = 1_000;
/// Bytes at which a page ends at the latest.
const PAGE_BYTES: u32 = 1 << 20;
/// More than a list of Redis can hold.
const ALL: u64 = 1 << 40;
/// The list of a mark that there is nothing behind.
const OVER: u32 = 2;

#[async_trait]
impl Frames for RedisBuffer {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> Result<FramePage> {
        let FrameMark { list, at, .. } = from.unwrap_or(FrameMark { list: 0, at: ALL, end: 0 });
        let reply = self.look(&script::FRAMES, partition, |command| {
            command.arg(list).arg(at).arg(PAGE_FRAMES).arg(PAGE_BYTES).arg(ALL);
        });
        let mut reply = reply.await?;
        reply.expect("frames")?;
        let (list, at, frames) = (reply.small()?, reply.count()?, reply.list()?);
        let list = u8::try_from(list).ok().filter(|_| list <= OVER).ok_or_else(|| reply.strange())?;
        let next = (u32::from(list) < OVER).then_some(FrameMark { list, at, end: 0 });
        Ok(FramePage { frames, next })
    }
}
