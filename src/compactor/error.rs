//! What can go wrong with one bucket, sorted by what it means for the bucket.

use std::io;

use bytesize::ByteSize;

use super::merge::{Fault, Label};
use crate::dataset::{self, FragmentName};

/// Why the compactor did not finish with a bucket, or with a pass.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dataset refused a step, or a file of it is damaged.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    /// The bucket must not be touched before a person has looked at it.
    #[error("{reason}")]
    HeldBack {
        /// What was found, and where.
        reason: String,
    },
    /// A fragment turned out to be damaged while it was being merged: the merge starts again without it.
    #[error("fragment {name} is damaged: {reason}")]
    DamagedFragment {
        /// Which one.
        name: FragmentName,
        /// What is wrong with it.
        reason: String,
    },
    /// Another compactor works on the bucket.
    #[error("another compactor works on it")]
    Busy,
    /// Fragments could not be opened, through no fault of theirs. They stay where they are; the others were published.
    #[error("{left} fragments could not be opened and stay staged; the first: {reason}")]
    LeftStaged {
        /// How many.
        left: usize,
        /// Why the first could not be opened.
        reason: String,
    },
    /// A merge did not see the rows that the names and records of its sources promise. Nothing was changed.
    #[error("the books of the merge do not balance: {expected} rows were to be merged, {found} were")]
    Unbalanced {
        /// Rows by the names or records of the sources.
        expected: u64,
        /// Rows that came.
        found: u64,
    },
    /// The disk has no room for a consolidation beside what is to stay free. Nothing was changed.
    #[error(
        "consolidating takes up to {needed} of disk for a while, beside min-free ({least}), which is not there: make room"
    )]
    NoRoom {
        /// What it takes.
        needed: ByteSize,
        /// What is to stay free.
        least: ByteSize,
    },
    /// A test made a step fail.
    #[error("a failpoint stopped the step: {0}")]
    Failpoint(#[from] io::Error),
    /// The system has no thread for a merge.
    #[error("no thread for the merge could be started: {0}")]
    NoThread(#[source] io::Error),
    /// The work on the bucket panicked.
    #[error("the work on the bucket panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// A job of the watch failed as a whole.
    #[error("{message}")]
    JobFailed {
        /// Which one, and what the panic said.
        message: String,
    },
    /// The process is asked to end.
    #[error("stopped between two steps, as asked")]
    Stopped,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match (fault.label, fault.error) {
            (Label::Fragment(name), dataset::Error::Damaged { reason, .. }) => Self::DamagedFragment { name, reason },
            (_, error) => Self::Dataset(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ContentHash;
    use crate::heartbeat::ClaimId;

    #[test]
    fn only_a_damaged_fragment_is_taken_out_of_a_merge() {
        let name = FragmentName { claim: ClaimId::from_u128(1), hash: ContentHash(2), rows: 3 };
        let damaged = || dataset::Error::Damaged { path: "x".into(), reason: "torn".into() };
        let io = || dataset::Error::Io { context: "read", path: "x".into(), source: io::Error::other("gone") };
        let error = |label, error| Error::from(Fault { label, error });
        assert!(matches!(error(Label::Fragment(name), damaged()), Error::DamagedFragment { .. }));
        assert!(matches!(error(Label::Fragment(name), io()), Error::Dataset(dataset::Error::Io { .. })));
        assert!(matches!(error(Label::Intermediate, damaged()), Error::Dataset(dataset::Error::Damaged { .. })));
    }
}
