//! What readers ask of the buffer: the frames that lie in it.

use async_trait::async_trait;

use super::super::Frames;
use super::SocketBuffer;

#[async_trait]
impl Frames for SocketBuffer {}
