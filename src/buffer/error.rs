//! What can go wrong with a buffer, sorted by what the caller can do about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::heartbeat::{DatasetId, Partition};

/// Why a step of the buffer failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Error {
    /// The partition's cap is reached. Nothing was kept; try again when the batchers have drained it.
    #[error("partition {partition} is full")]
    Full {
        /// Which one.
        partition: Partition,
    },
    /// What one request has for a partition is more than that may hold when it is empty. Nothing was kept, and no wait helps.
    #[error("a request holds more for partition {partition} than a partition may ever hold")]
    TooLarge {
        /// Which one.
        partition: Partition,
    },
    /// The answer did not come in time: whether the step took effect is unknown.
    #[error("the buffer did not answer within {after:?}; whether the step took effect is unknown")]
    TimedOut {
        /// The deadline that passed.
        after: Duration,
    },
    /// The buffer cannot be reached, is still on its way up, or the connection broke: whether a step under way took effect
    /// is unknown.
    #[error("the buffer is out of reach: {reason}")]
    Unreachable {
        /// What the network said, without secrets.
        reason: String,
    },
    /// The buffer refused the step with a passing fault of its own (read-only, out of memory, disk error).
    #[error("the buffer refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Too few replicas held the push in time. It may stand on the primary; identity makes a resend safe.
    #[error("{have} of {want} replicas confirmed in time")]
    TooFewReplicas {
        /// Replicas that confirmed.
        have: u32,
        /// Replicas that must.
        want: u32,
    },
    /// The buffer carries no dataset id: never registered, or erased.
    #[error("the buffer is not registered for a dataset (new, erased, or the wrong one); see `systole adopt --help`")]
    NotRegistered,
    /// The buffer belongs to another dataset.
    #[error("the buffer belongs to dataset {found}, not to {expected}")]
    ForeignDataset {
        /// The id that was expected.
        expected: DatasetId,
        /// The id that the buffer carries.
        found: String,
    },
    /// What it holds is being moved into another buffer, and until that is finished neither of them takes a step.
    #[error("the embedded buffer is being moved to Redis: finish that with `systole drain`")]
    BeingMoved,
    /// The lease has gone to another batcher.
    #[error("the lease of partition {partition} has gone to another batcher")]
    Fenced {
        /// Which one.
        partition: Partition,
    },
    /// Another process watches over silence by now.
    #[error("another process watches over silence by now")]
    Unwatched,
    /// No claim with this id stands: acknowledged before, or fenced.
    #[error("the claim does not stand any more")]
    NotStanding,
    /// The buffer's content or answer is not what this version writes. Never guessed around.
    #[error("the buffer holds something unexpected: {detail}")]
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// A setting of the buffer's server endangers data, or an option is wrong; says what to change.
    #[error("{advice}")]
    Unsafe {
        /// The line to act on.
        advice: String,
    },
}

impl Error {
    /// Whether trying again later can help without a person.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::TimedOut { .. }
                | Self::Unreachable { .. }
                | Self::Refused { .. }
                | Self::TooFewReplicas { .. }
        )
    }
}
