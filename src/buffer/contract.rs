//! The contract as traits, each what one kind of user needs.
//!
//! Constraint: every call has a deadline of its own and fails with [`Error::TimedOut`](super::Error::TimedOut) past it; then
//! whether it took effect is unknown.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    Batchers, Change, Claim, ClaimBudget, Condemned, DeadLetter, DeadLetterId, DeadLetterNote, Durability, FrameMark,
    FramePage, Lease, LeaseAnswer, Marks, PartitionStatus, Queued, Raised, Registration, Result, Room, SeenDevice,
    Watch, WatcherId, Witness,
};
use crate::heartbeat::{BatcherId, ClaimId, Frame, Partition};
use crate::token::{StoredToken, TokenId, TokenList, TokenVersion};

/// Whether the buffer is there, whose it is, and how well it keeps what it is given.
#[async_trait]
pub trait Reach: std::fmt::Debug + Send + Sync + 'static {
    /// What the buffer promises to survive, as found at start-up and looked up again now.
    async fn durability(&self) -> Result<Durability>;

    /// Whether the buffer can be written to at this moment: one cheap round trip.
    async fn ping(&self) -> Result<()>;

    /// The dataset that this buffer belongs to, or `None` while it belongs to none.
    ///
    /// Fails with [`Error::ForeignDataset`](super::Error::ForeignDataset) when partitions disagree with each other.
    async fn registration(&self) -> Result<Option<Registration>>;
}

/// What the door needs of a buffer: room, and a place to put frames.
#[async_trait]
pub trait Inlet: Reach {
    /// Whether each of these (partition, rows, bytes) would fit at this moment, in the order given.
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>>;

    /// Appends each frame to the pending list of its partition, all in one round trip where the backend can.
    ///
    /// The answers are in the order of the frames. A frame that would take its partition over the cap is refused whole
    /// with [`Error::Full`](super::Error::Full); the others stand.
    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>>;
}

/// What people and monitors ask of a buffer, and what people decide about its dead letters.
#[async_trait]
pub trait Inspect: Reach {
    /// The state of one partition.
    async fn status(&self, partition: Partition) -> Result<PartitionStatus>;

    /// What this process remembers of a partition, of its own answers; nothing where the buffer cannot go back.
    fn witness(&self, _partition: Partition) -> Witness {
        Witness::default()
    }

    /// Replicas that hear of pushes now, the fewest that any primary has; `None` where none has to confirm them.
    async fn replicas_online(&self) -> Result<Option<u32>> {
        Ok(None)
    }

    /// Who is alive, and how long ago each was last seen, without joining them.
    async fn batchers(&self) -> Result<Batchers>;

    /// Dead letters of a partition, oldest first, at most `limit` of them, those after `after`. Large ones may be fewer: only an
    /// empty answer says that there are no more.
    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>>;

    /// What is said of the newest dead letters of a partition, newest first, at most `limit` of them.
    async fn newest_dead_letters(&self, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>>;

    /// One dead letter.
    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>>;

    /// Puts a dead letter's frame back at the end of the pending list. `false` when there is no such letter.
    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool>;

    /// Deletes a dead letter; the ledger counts its rows as dropped. `false` when there is no such letter.
    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool>;
}

/// The tokens that say who may write and read. The buffer keeps them, since every server reaches it; it does not read them.
///
/// They belong to no dataset: they can be made before the buffer is registered, so that no door has to stand open first.
#[async_trait]
pub trait Tokens: std::fmt::Debug + Send + Sync + 'static {
    /// All of them at one instant, or `None` when they are those of the version that is known already.
    async fn tokens(&self, known: Option<TokenVersion>) -> Result<Option<TokenList>>;

    /// Keeps one more, durably. `false` when there is one of its id, which stays as it is.
    ///
    /// Fails with [`Error::Unsafe`](super::Error::Unsafe) when there are [too many](crate::token::MAX_TOKENS).
    async fn create_token(&self, token: &StoredToken) -> Result<bool>;

    /// Forgets one, durably. `false` when there is no such token.
    async fn revoke_token(&self, id: TokenId) -> Result<bool>;
}

/// What readers ask of a buffer: the frames that lie in it, which stay as they are.
#[async_trait]
pub trait Frames: Reach {
    /// Some of the frames of a partition that are pending or claimed, and where to go on; the first call begins with `None`.
    ///
    /// A frame that is pending or claimed from before the first call until after the last is in one of the pages, maybe in
    /// two. One that comes or goes meanwhile may be: one that goes has been acknowledged, and stands in a file, or is a dead
    /// letter. A page ends with the frame that reaches a bound of the backend's own, and may be empty. Nothing is changed.
    ///
    /// Fails as any other step does where the buffer belongs to no dataset, to another, or is being moved.
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> Result<FramePage>;
}

/// Which devices have beaten, and when last.
///
/// A device was last seen at the latest `timestamp` of its heartbeats, or at their arrival where that was earlier. It is
/// remembered for a bounded time, among a bounded number: the longest unseen are forgotten first. What a push was answered
/// `Ok` for is seen, at the durability of the push; what was refused is not.
///
/// An answer holds [`DEVICES_AT_ONCE`](super::DEVICES_AT_ONCE) at most: one that holds fewer than that and than `limit` is the
/// last.
#[async_trait]
pub trait Devices: Reach {
    /// Devices of one user in the order of their ids, those after `after`, at most `limit` of them.
    async fn devices_of(
        &self,
        partition: Partition,
        user_id: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>>;

    /// Devices of a partition that were last seen before `before` (ms since the Unix epoch), the longest unseen first, those
    /// after `after` in the order of (last seen, user, device), at most `limit` of them.
    async fn devices_unseen(
        &self,
        partition: Partition,
        before: i64,
        after: Option<&SeenDevice>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>>;
}

/// What is kept of silence: who watches, which devices are raised, and the events that wait to be delivered.
///
/// It belongs to no dataset, as the tokens. Every step but [`watch`](Self::watch) and the looks fails with
/// [`Error::Unwatched`](super::Error::Unwatched) for who is not, or not any more, the one that watches; so of any number of
/// processes one alone raises and clears.
#[async_trait]
pub trait Alarms: Devices {
    /// Takes the watch for `ttl` when nobody has it, or goes on with it; by the buffer's clock. `looked` is the time of the last
    /// look that came to its end, to be kept for whoever watches next.
    async fn watch(&self, watcher: WatcherId, ttl: Duration, looked: Option<i64>) -> Result<Watch>;

    /// Gives the watch back. That of another is left alone.
    async fn unwatch(&self, watcher: WatcherId) -> Result<()>;

    /// Says that these rules are in force, and no others. Answers since when each has been, without a break, in ms since the
    /// Unix epoch.
    async fn rules(&self, watcher: WatcherId, names: &[String]) -> Result<Vec<i64>>;

    /// Makes at most [`MAX_CHANGES`](super::MAX_CHANGES) changes, each with its event in the same atomic step. Made again,
    /// they change nothing. At most [`MAX_RAISED`](super::MAX_RAISED) devices are raised; of more than
    /// [`MAX_QUEUED`](super::MAX_QUEUED) events the oldest give way.
    async fn mark(&self, watcher: WatcherId, changes: &[Change]) -> Result<Marks>;

    /// When each of these devices of a partition was last seen, ms since the Unix epoch; `None` for one that is forgotten.
    async fn last_seen(&self, partition: Partition, devices: &[Raised]) -> Result<Vec<Option<i64>>>;

    /// Devices that are raised, in an order of the backend's own, those after `after`, at most `limit` of them.
    async fn raised(&self, after: Option<&Raised>, limit: u32) -> Result<Vec<Raised>>;

    /// Events that wait to be delivered, oldest first, those after the number `after`, at most `limit` of them.
    async fn outbox(&self, after: Option<u64>, limit: u32) -> Result<Vec<Queued>>;

    /// Takes events out of the outbox: they were delivered, or are given up.
    async fn settle(&self, watcher: WatcherId, numbers: &[u64]) -> Result<()>;
}

/// All that people may ask and decide: what a control socket lets another process do.
pub trait Administer: Inspect + Tokens + Frames + Devices {}

impl<B: Inspect + Tokens + Frames + Devices> Administer for B {}

/// A buffer backend: what comes in, what is looked at, and what a batcher takes out.
#[async_trait]
pub trait Buffer: Inlet + Inspect {
    /// Writes the dataset's id into every partition that has none. Idempotent; refuses a buffer of another dataset.
    ///
    /// Whether it may be called is the caller's to know: only for a dataset that never had a buffer, or to adopt.
    async fn register(&self, registration: Registration) -> Result<()>;

    /// Says that a batcher is alive, forgets the long dead, and answers who is alive. The answer always holds `batcher`.
    async fn announce(&self, batcher: BatcherId, ttl: Duration) -> Result<Vec<BatcherId>>;

    /// Takes a batcher off the list of the living at once.
    async fn retire(&self, batcher: BatcherId) -> Result<()>;

    /// Takes the lease of a partition when it is free, expired, or `batcher`'s own; the epoch rises each time.
    async fn lease(&self, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer>;

    /// Extends a lease. [`Error::Fenced`](super::Error::Fenced) when it is another's by now.
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

    /// Closes the claim: its condemned become dead letters, its frames are deleted, the ledger is settled. `left_out` is
    /// what the caller did not write: exactly the places (frame, row) that the claim holds as condemned, or a buffer that came
    /// back older, without the list or without its last entries, would take them along.
    ///
    /// [`Error::NotStanding`](super::Error::NotStanding) when no claim with this id and these condemned stands: done before,
    /// fenced, or the list is another; claim anew.
    async fn ack(&self, lease: &Lease, claim: ClaimId, left_out: &[Condemned]) -> Result<()>;
}
