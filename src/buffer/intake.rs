//! The door's side of the buffer: hand over heartbeats, learn whether they are held.

use async_trait::async_trait;

use super::Result;
use crate::heartbeat::{Block, Partition};

/// Heartbeats of one partition, ready to become part of a frame.
pub type Parcel = (Partition, Block);

/// Whose heartbeats were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway<'a> {
    /// Nobody knows: it may be anybody's.
    Anybody,
    /// Of these users, and of no others.
    Users(&'a [&'a str]),
}

/// Takes heartbeats in.
#[async_trait]
pub trait Intake: std::fmt::Debug + Send + Sync + 'static {
    /// Into how many partitions heartbeats are to be cut. Fixed for a dataset's life: asked of the buffer once.
    async fn partitions(&self) -> Result<Partition>;

    /// Holds all of `parcels`, of any mix of partitions, or says why not.
    ///
    /// `Ok` means that every heartbeat is held at the buffer's durability. After an error some may be held: identity makes
    /// sending all of them again safe. Room is checked in all partitions before anything is pushed to any.
    async fn accept(&self, parcels: Vec<Parcel>) -> Result<()>;

    /// Hears of heartbeats that the edge refused for its own sake before they came here: who is turned away has not stopped
    /// beating.
    fn turned_away(&self, _whose: TurnedAway<'_>) {}
}
