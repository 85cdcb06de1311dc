//! The words of the buffer's contract.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::heartbeat::{BatcherId, ClaimId, DatasetId, Partition, uuid_id};

/// What an acknowledged push survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// One of `always`, `everysec`, `no`, `volatile`: as `/health` names it.
    pub level: &'static str,
    /// What can be lost, in words.
    pub window: String,
    /// Replicas that must hold a push before it is acknowledged.
    pub wait_replicas: u32,
}

/// Which dataset a buffer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its number of partitions, at least 1.
    pub partitions: Partition,
}

/// Whether something would fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It would fit now.
    Fits,
    /// The partition's cap is reached.
    Full,
}

/// The living batchers, each with the time since its last sign of life.
pub type Batchers = Vec<(BatcherId, Duration)>;

/// A batcher's right to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The partition.
    pub partition: Partition,
    /// Who holds it.
    pub batcher: BatcherId,
    /// Rises with each taking; a step with an older one is refused.
    pub epoch: u64,
}

/// The answer to asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// It is yours.
    Taken(Lease),
    /// Another batcher holds it for about this long still.
    Held {
        /// The holder.
        by: BatcherId,
        /// Time until it expires unless renewed.
        expires_in: Duration,
    },
}

/// How much one claim may hold; a claim ends with the frame that reaches one of the bounds, and holds at least one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimBudget {
    /// Heartbeats.
    pub rows: u64,
    /// Bytes that the rows take once their frames are opened.
    pub bytes: u64,
    /// Frames; a backend may hold to a smaller bound, so that one call stays short.
    pub frames: u32,
}

/// Frames handed to a batcher to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The claim.
    pub id: ClaimId,
    /// Encoded frames in the order of their push.
    pub frames: Vec<Bytes>,
    /// Heartbeats in them, by their headers.
    pub rows: u64,
    /// Whether it stood before this call.
    pub standing: bool,
    /// How often an owner died with it.
    pub deaths: u32,
    /// The frame that was being worked on when the last owner died, if it had recorded one.
    pub in_hand: Option<InHand>,
    /// Rows and frames that earlier attempts condemned.
    pub condemned: Vec<Condemned>,
}

/// The frame that a dead owner had in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InHand {
    /// Index of the frame in the claim.
    pub frame: u32,
    /// How often an owner died with exactly this frame in hand.
    pub deaths: u32,
}

/// A frame, or one row of it, that can never be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// The id of the dead letter that it becomes.
    pub id: DeadLetterId,
    /// Index of the frame in the claim.
    pub frame: u32,
    /// Index of the row in the frame; `None` condemns the whole frame.
    pub row: Option<u32>,
    /// Heartbeats condemned: 1 for a row, the header's count for a frame.
    pub rows: u32,
    /// Why, in one sentence without user data.
    pub reason: String,
    /// What is kept: the frame as it was, or a frame of just this row.
    pub bytes: Bytes,
}

impl Condemned {
    /// Where it stands in its claim: the frame, and the row or `None` for all of them.
    pub fn place(&self) -> (u32, Option<u32>) {
        (self.frame, self.row)
    }
}

uuid_id!(
    /// The address of a dead letter; ordered by time of birth.
    DeadLetterId
);

/// A dead letter as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its address.
    pub id: DeadLetterId,
    /// The claim that it came from.
    pub claim: ClaimId,
    /// When it was laid aside, ms since the Unix epoch, by the buffer's clock.
    pub since: i64,
    /// Heartbeats in it.
    pub rows: u32,
    /// Why it could not be written.
    pub reason: String,
    /// The frame.
    pub bytes: Bytes,
}

/// What is said of a dead letter, without its frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// Its address.
    pub id: DeadLetterId,
    /// When it was laid aside, ms since the Unix epoch, by the buffer's clock.
    pub since: i64,
    /// Heartbeats in it.
    pub rows: u32,
    /// Why it could not be written.
    pub reason: String,
}

impl From<DeadLetter> for DeadLetterNote {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, since, rows, reason, .. } = letter;
        Self { id, since, rows, reason }
    }
}

/// The books of one partition, in heartbeats: `accepted = pending + claimed + acked + dead + dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Ever accepted by a push.
    pub accepted: u64,
    /// Waiting for a claim.
    pub pending: u64,
    /// In the standing claim.
    pub claimed: u64,
    /// In claims that were acknowledged, without what became dead letters. A retried dead letter is pending again.
    pub acked: u64,
    /// Kept as dead letters.
    pub dead: u64,
    /// Dead letters that a person dropped.
    pub dropped: u64,
    /// Bytes of frames pending, claimed and dead: what the byte cap is held against.
    pub bytes: u64,
}

impl std::ops::Add for Ledger {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            pending: self.pending + other.pending,
            claimed: self.claimed + other.claimed,
            acked: self.acked + other.acked,
            dead: self.dead + other.dead,
            dropped: self.dropped + other.dropped,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Ledger {
    /// Whether the books of the partition balance.
    pub fn balances(&self) -> bool {
        self.accepted == self.pending + self.claimed + self.acked + self.dead + self.dropped
    }
}

/// The standing claim of a partition, without its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingClaim {
    /// The claim.
    pub id: ClaimId,
    /// Heartbeats in it.
    pub rows: u64,
    /// How long it has stood.
    pub age: Duration,
    /// How often an owner died with it.
    pub deaths: u32,
}

/// What is known of one partition at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: Partition,
    /// Its books.
    pub ledger: Ledger,
    /// How long the oldest pending heartbeat has waited.
    pub oldest_pending: Option<Duration>,
    /// Who may work on it, if anyone.
    pub owner: Option<BatcherId>,
    /// The standing claim.
    pub claim: Option<StandingClaim>,
    /// Caps in force for this partition: heartbeats and bytes.
    pub cap_rows: u64,
    /// See `cap_rows`.
    pub cap_bytes: u64,
    /// Devices that are remembered.
    pub devices: u64,
    /// Devices that were forgotten for want of room, rising; an embedded buffer counts from its opening.
    pub devices_forgotten: u64,
    /// Heartbeats that the ledger counts as pending or claimed while the list that should hold them is empty: somebody else
    /// than Systole took them away. An embedded buffer keeps both in one place.
    pub vanished: u64,
}

/// What a process has seen of a partition itself, to hold the buffer's word against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Witness {
    /// Heartbeats that the partition had accepted, by its last answer that told.
    pub accepted: u64,
    /// Heartbeats of what it had accepted that it later knew nothing of, summed over every time that it went back.
    pub gone_back: u64,
}

/// Where a walk over the frames of a partition goes on. What it means is the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameMark {
    /// Which of several lists, one walked after the other.
    pub(super) list: u8,
    /// How far the walk has come in it.
    pub(super) at: u64,
    /// Where it ends, if that is fixed.
    pub(super) end: u64,
}

/// Some frames of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FramePage {
    /// The frames, in no order that means anything.
    pub frames: Vec<Bytes>,
    /// Where to go on; `None` at the end.
    pub next: Option<FrameMark>,
}

/// A device, and when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeenDevice {
    /// Ms since the Unix epoch.
    pub last_seen: i64,
    /// Its user.
    pub user_id: String,
    /// The device.
    pub device_id: String,
}
