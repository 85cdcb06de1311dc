//! Which devices have beaten, and when last.

use async_trait::async_trait;

use super::super::Devices;
use super::SocketBuffer;

#[async_trait]
impl Devices for SocketBuffer {}
