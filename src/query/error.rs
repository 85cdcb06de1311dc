//! Why nothing can be read.

use std::time::Duration;

use crate::{buffer, dataset};

/// Why nothing can be read. The texts are for whoever asks, and name no path; `source` says more to whoever runs this.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The buffer does not answer, or is not to be trusted.
    #[error(transparent)]
    Buffer(#[from] buffer::Error),
    /// Too many read already. Try again.
    #[error("too many are reading; none was done within {after:?}")]
    Busy {
        /// How long a turn was waited for.
        after: Duration,
    },
    /// A file is damaged.
    #[error("a file of the dataset is damaged, and the answer would lack its rows; `systole verify` names it")]
    Damaged(#[source] dataset::Error),
    /// A file or a frame was written by a newer Systole.
    #[error("a newer version of systole has written what is asked for; ask one of that version")]
    Newer,
    /// Files changed faster than they could be read. Try again.
    #[error("the files change faster than they can be read")]
    Moving,
    /// A file cannot be read.
    #[error("the files of the dataset cannot be read; the log of this server says why")]
    Files(#[source] dataset::Error),
    /// The machine gave no thread, or it ended before its time.
    #[error("reading was cut off: {reason}")]
    CutOff {
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Whether the same question may well be answered in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Buffer(error) => error.is_transient(),
            Self::Busy { .. } | Self::Moving | Self::CutOff { .. } => true,
            Self::Damaged(_) | Self::Newer | Self::Files(_) => false,
        }
    }
}

impl From<dataset::Error> for Error {
    fn from(error: dataset::Error) -> Self {
        match error {
            dataset::Error::Damaged { .. } => Self::Damaged(error),
            dataset::Error::NewerFormat { .. } => Self::Newer,
            dataset::Error::Conflict { .. } => Self::Moving,
            other => Self::Files(other),
        }
    }
}
