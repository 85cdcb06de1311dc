//! The buffer: where acknowledged heartbeats wait until they are on disk as fragments.
//!
//! Constraints:
//! - What [`Buffer::push`] answered with `Ok` is held at the durability that [`Buffer::durability`] names.
//! - A frame is pending, or in the processing list under the one standing claim of its partition, or a dead letter, or
//!   gone because its claim was acknowledged; it moves between these in single atomic steps.
//! - The ledger of a partition is changed in the same steps: `accepted = pending + claimed + acked + dead + dropped`.
//! - Every step that a batcher takes carries its lease; the buffer refuses it once the lease has another epoch.
//!
//! This module is the contract: the trait and its words. Backends implement it below; they share one contract suite.
//! The buffer knows nothing of files, dates or HTTP.

pub mod committer;
pub mod drain;
pub mod embedded;
mod error;
mod handover;
mod identity;
mod intake;
mod letter;
pub mod monitor;
pub mod options;
pub mod redis;
mod types;

use std::time::Duration;

use async_trait::async_trait;

pub use error::Error;
pub use intake::Intake;
pub use types::{
    Batchers, Claim, ClaimBudget, Condemned, DeadLetter, DeadLetterId, Durability, InHand, Lease, LeaseAnswer, Ledger,
    PartitionStatus, Registration, Room, StandingClaim,
};

use crate::heartbeat::{BatcherId, ClaimId, Frame, Partition};

/// Shorthand of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A buffer backend. Every call has a deadline of its own and fails with [`Error::TimedOut`] past it; then whether it
/// took effect is unknown.
#[async_trait]
pub trait Buffer: std::fmt::Debug + Send + Sync + 'static {
    /// What the buffer promises to survive, as found at start-up and looked up again now.
    async fn durability(&self) -> Result<Durability>;

    /// Whether the buffer can be written to at this moment: one cheap round trip.
    async fn ping(&self) -> Result<()>;

    /// The dataset that this buffer belongs to, or `None` while it belongs to none.
    ///
    /// Fails with [`Error::ForeignDataset`] when partitions disagree with each other.
    async fn registration(&self) -> Result<Option<Registration>>;

    /// Writes the dataset's id into every partition that has none. Idempotent; refuses a buffer of another dataset.
    ///
    /// Whether it may be called is the caller's to know: only for a dataset that never had a buffer, or to adopt.
    async fn register(&self, registration: Registration) -> Result<()>;

    /// Whether each of these (partition, rows, bytes) would fit at this moment, in the order given.
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>>;

    /// Appends each frame to the pending list of its partition, all in one round trip where the backend can.
    ///
    /// The answers are in the order of the frames. A frame that would take its partition over the cap is refused whole
    /// with [`Error::Full`]; the others stand.
    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>>;

    /// Says that a batcher is alive, forgets the long dead, and answers who is alive. The answer always holds `batcher`.
    async fn announce(&self, batcher: BatcherId, ttl: Duration) -> Result<Vec<BatcherId>>;

    /// Takes a batcher off the list of the living at once.
    async fn retire(&self, batcher: BatcherId) -> Result<()>;

    /// Who is alive, and how long ago each was last seen, without joining them.
    async fn batchers(&self) -> Result<Batchers>;

    /// Takes the lease of a partition when it is free, expired, or `batcher`'s own; the epoch rises each time.
    async fn lease(&self, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer>;

    /// Extends a lease. [`Error::Fenced`] when it is another's by now.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<()>;

    /// Gives a lease back at once and marks a standing claim as left on purpose, so that it is not counted as a death.
    /// Releasing a lease that is another's by now is no error.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Hands back the standing claim, or claims up to `budget` of pending frames under `id`, or answers `None` when
    /// nothing waits.
    ///
    /// A standing claim that was last handed to an epoch which neither acknowledged nor released it counts one death.
    async fn claim(&self, lease: &Lease, id: ClaimId, budget: ClaimBudget) -> Result<Option<Claim>>;

    /// Records which frame of the standing claim is about to be worked on, or with `None` that none is.
    async fn take_in_hand(&self, lease: &Lease, claim: ClaimId, frame: Option<u32>) -> Result<()>;

    /// Adds to the condemned list of the standing claim; entries that it holds already (same frame, same row) stay as they
    /// are. It must be called before the claim's first fragment is renamed, so that every later attempt leaves out the
    /// same rows.
    async fn condemn(&self, lease: &Lease, claim: ClaimId, condemned: &[Condemned]) -> Result<()>;

    /// Closes the claim: its condemned become dead letters, its frames are deleted, the ledger is settled.
    ///
    /// [`Error::NotStanding`] when no claim with this id stands: done before, or fenced; claim anew.
    async fn ack(&self, lease: &Lease, claim: ClaimId) -> Result<()>;

    /// The state of one partition.
    async fn status(&self, partition: Partition) -> Result<PartitionStatus>;

    /// Dead letters of a partition, oldest first, at most `limit` of them, those after `after`.
    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>>;

    /// One dead letter.
    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>>;

    /// Puts a dead letter's frame back at the end of the pending list. `false` when there is no such letter.
    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool>;

    /// Deletes a dead letter; the ledger counts its rows as dropped. `false` when there is no such letter.
    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool>;
}
