//! The buffer: where acknowledged heartbeats wait until they are on disk as fragments.
//!
//! Constraints:
//! - What [`Inlet::push`] answered with `Ok` is held at the durability that [`Reach::durability`] names.
//! - A frame is pending, or in the processing list under the one standing claim of its partition, or a dead letter, or
//!   gone because its claim was acknowledged; it moves between these in single atomic steps.
//! - The ledger of a partition is changed in the same steps: `accepted = pending + claimed + acked + dead + dropped`.
//! - Every step that a batcher takes carries its lease; the buffer refuses it once the lease has another epoch.
//!
//! This module is the contract: the trait and its words. Backends implement it below; they share one contract suite.
//! The buffer knows nothing of files, dates or HTTP.

mod alarm;
pub mod committer;
mod contract;
mod devices;
pub mod drain;
pub mod embedded;
mod error;
mod handover;
mod identity;
mod intake;
pub(crate) mod letter;
pub mod monitor;
pub mod options;
pub mod redis;
pub mod socket;
pub mod spill;
mod types;
mod unseen;

pub use alarm::{
    Change, Event, EventId, EventKind, MAX_CHANGES, MAX_QUEUED, MAX_RAISED, Marked, Marks, Queued, Raised, Watch,
    WatcherId,
};
pub use contract::{Administer, Alarms, Buffer, Devices, Frames, Inlet, Inspect, Reach, Tokens};
pub use devices::DEVICES_AT_ONCE;
pub use error::Error;
pub use intake::{Intake, Parcel, TurnedAway};
pub use types::{
    Batchers, Claim, ClaimBudget, Condemned, DeadLetter, DeadLetterId, DeadLetterNote, Durability, FrameMark,
    FramePage, InHand, Lease, LeaseAnswer, Ledger, PartitionStatus, Registration, Room, SeenDevice, StandingClaim,
    Witness,
};
pub use unseen::Unseen;

/// The refusal of one token more.
fn too_many_tokens() -> Error {
    Error::Unsafe {
        advice: format!(
            "there are too many tokens: at most {} of {} bytes together are kept; `systole token list` shows them, `systole token \
             revoke` makes room",
            crate::token::MAX_TOKENS,
            crate::token::MAX_TOTAL_BYTES
        ),
    }
}

/// Shorthand of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
