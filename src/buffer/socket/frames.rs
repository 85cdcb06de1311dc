//! What readers ask of the buffer: the frames that lie in it.

use async_trait::async_trait;

use super::super::{FrameMark, FramePage, Frames, Result};
use super::SocketBuffer;
use super::client::strange;
use super::wire::{self, Answer, Call};
use crate::heartbeat::Partition;

#[async_trait]
impl Frames for SocketBuffer {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> Result<FramePage> {
        match self.call(Call::Frames { partition, from }).await? {
            (Answer::Frames { bytes, next }, tail) => Ok(FramePage { frames: wire::join_frames(bytes, tail)?, next }),
            (other, _) => strange(&other),
        }
    }
}
