//! The door's side of the buffer: hand over heartbeats, learn whether they are held.

use async_trait::async_trait;

use super::Result;
use crate::heartbeat::Heartbeat;

/// Takes heartbeats in.
#[async_trait]
pub trait Intake: std::fmt::Debug + Send + Sync + 'static {
    /// Holds all of `heartbeats`, of any mix of partitions, or says why not.
    ///
    /// `Ok` means that every one is held at the buffer's durability. After an error some may be held: identity makes
    /// sending all of them again safe. Room is checked in all partitions before anything is pushed to any.
    async fn accept(&self, heartbeats: Vec<Heartbeat>) -> Result<()>;
}
