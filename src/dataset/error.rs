//! What can go wrong with a dataset, sorted by who is at fault: the world (try again), a file (lay it aside), or the data
//! (it can never be written).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of a step of the dataset.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a step of the dataset failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused. A fault of the world: try again.
    #[error("cannot {context} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        context: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not what its name says, or cannot be read as what it should be.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows can never be written. The one fault of the data.
    #[error("the rows cannot be written: {reason}")]
    Unwritable {
        /// What is wrong with them, without user data.
        reason: String,
    },
    /// The file is gone: another process finished with it.
    #[error("{} is not there", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The path of the dataset leads to another folder than the one that was opened, or to none. A fault of the world.
    #[error(
        "{} is not the folder that this process opened: mount its disk or put it back, or else start anew",
        path.display()
    )]
    Elsewhere {
        /// The dataset's folder.
        path: PathBuf,
    },
    /// The folder holds no dataset, and this command does not make one.
    #[error("there is no dataset in {}: {advice}", path.display())]
    NoDataset {
        /// The folder.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// Written by a newer Systole. A fault of the world: a newer binary can read it.
    #[error("{} has format version {found}, and this binary knows up to {known}: use a newer one", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that this binary reads.
        known: u64,
    },
    /// Others held a lock for longer than the deadline: one of them hangs or is stopped. A fault of the world.
    #[error("no lock on {} within {after:?}: another process holds it", path.display())]
    LockTimeout {
        /// The lock file.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// The file system cannot do what is needed.
    #[error("{advice}")]
    Unsupported {
        /// What it lacks and what to do.
        advice: String,
    },
    /// What was asked contradicts what stands in the dataset; nothing was changed.
    #[error("{advice}")]
    Conflict {
        /// The contradiction, and what to do.
        advice: String,
    },
}

impl Error {
    /// Whether the rows themselves are at fault, so that trying again can never help.
    pub fn is_fault_of_data(&self) -> bool {
        matches!(self, Self::Unwritable { .. })
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}

/// Says of an I/O error what was being done to which path.
pub(super) trait At<T> {
    fn at(self, context: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, context: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { context, path: path.to_owned(), source })
    }
}

/// Takes a missing file as `Error::NotFound`, for files that another process may rightly have finished with.
pub(super) fn or_not_found<T>(result: io::Result<T>, context: &'static str, path: &Path) -> Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound { path: path.to_owned() }),
        other => other.at(context, path),
    }
}

/// Takes a missing file as done, for deletes that an earlier attempt may have finished.
pub(super) fn tolerate_gone(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
