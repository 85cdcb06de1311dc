//! Which devices have beaten, and when last.

use async_trait::async_trait;

use super::super::Devices;
use super::RedisBuffer;

#[async_trait]
impl Devices for RedisBuffer {}
