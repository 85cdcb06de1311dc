//! What a pass did, and what it could not do.

use std::fmt;

use serde::Serialize;

use super::Error;
use crate::dataset::{self, Bucket};

/// The sum of one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Buckets looked at.
    pub buckets: u64,
    /// Fragments merged into published files.
    pub fragments_merged: u64,
    /// Fragments whose rows had been merged before: deleted only.
    pub fragments_known: u64,
    /// Fragments laid aside as damaged by this pass.
    pub fragments_quarantined: u64,
    /// Fragments in quarantine, of this pass and of earlier ones.
    pub in_quarantine: u64,
    /// Rows merged: `rows_published + rows_deduplicated`.
    pub rows_merged: u64,
    /// Rows that became visible to readers.
    pub rows_published: u64,
    /// Rows dropped because their identity stands already.
    pub rows_deduplicated: u64,
    /// Files published, those of no rows included; not the results of consolidations.
    pub files_published: u64,
    /// Files that consolidations replaced.
    pub files_consolidated: u64,
    /// Rows that consolidations rewrote.
    pub rows_consolidated: u64,
    /// Bytes of Parquet written for readers.
    pub bytes_written: u64,
    /// Folders of replaced files deleted.
    pub retired_deleted: u64,
    /// Buckets that another compactor, or a busy batcher, had locked. Nothing is wrong: they have their turn again.
    pub skipped_locked: Vec<Skipped>,
    /// Buckets that a damaged file or a contradiction holds back until a person has looked.
    pub held_back: Vec<Skipped>,
    /// Buckets that could not be finished; trying again may help.
    pub failed: Vec<Skipped>,
    /// Whether the pass was asked to stop before its end.
    pub stopped: bool,
}

/// A bucket that was not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which one, as its path.
    pub bucket: String,
    /// Why.
    pub reason: String,
}

impl Summary {
    /// Whether everything that there was to do was done, and nothing waits for a person.
    pub fn is_clean(&self) -> bool {
        self.held_back.is_empty() && self.failed.is_empty() && self.in_quarantine == 0 && !self.stopped
    }

    pub(super) fn note(&mut self, bucket: Bucket, error: &Error) {
        let skipped = Skipped { bucket: bucket.to_string(), reason: error.to_string() };
        match Trouble::of(error) {
            Trouble::Locked => self.skipped_locked.push(skipped),
            Trouble::HeldBack => self.held_back.push(skipped),
            Trouble::Failed => self.failed.push(skipped),
            Trouble::Stopped => self.stopped = true,
        }
    }
}

/// What an error means for its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Locked,
    HeldBack,
    Failed,
    Stopped,
}

impl Trouble {
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Stopped => Self::Stopped,
            Error::HeldBack { .. } | Error::Dataset(dataset::Error::Damaged { .. }) => Self::HeldBack,
            Error::Busy | Error::Dataset(dataset::Error::LockTimeout { .. }) => Self::Locked,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for Summary {
    /// One line, and one more for each bucket that was not finished (the first few of each kind).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} buckets: {} fragments with {} rows merged, {} rows published in {} files, {} dropped as duplicates; \
             {} files consolidated; {} fragments in quarantine",
            self.buckets,
            self.fragments_merged,
            self.rows_merged,
            self.rows_published,
            self.files_published,
            self.rows_deduplicated,
            self.files_consolidated,
            self.in_quarantine,
        )?;
        for (what, skipped) in
            [("held back", &self.held_back), ("failed", &self.failed), ("locked by another", &self.skipped_locked)]
        {
            for one in skipped.iter().take(LINES) {
                write!(f, "\n{what}: {}: {}", one.bucket, one.reason)?;
            }
            if let Some(more) = skipped.len().checked_sub(LINES).filter(|more| *more > 0) {
                write!(f, "\n{what}: {more} more")?;
            }
        }
        if self.stopped {
            f.write_str("\nstopped before the end, as asked; the next pass goes on from here")?;
        }
        Ok(())
    }
}

/// Buckets of a kind that a summary names.
const LINES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_the_first_few_buckets_and_counts_the_rest() {
        let mut summary = Summary::default();
        assert!(summary.is_clean());
        for n in 0..12 {
            let error = Error::HeldBack { reason: format!("file {n} is damaged") };
            summary.note(Bucket::of(0, n), &error);
        }
        let text = summary.to_string();
        assert!(text.contains("held back: date=1970-01-01/partition=9: file 9 is damaged"), "{text}");
        assert!(text.contains("held back: 2 more"), "{text}");
        assert!(!text.contains("file 11"), "{text}");
        assert!(!summary.is_clean());
    }

    #[test]
    fn each_error_means_one_thing_for_its_bucket() {
        let path = std::path::PathBuf::from("x");
        let locked = dataset::Error::LockTimeout { path: path.clone(), after: std::time::Duration::ZERO };
        let damaged = dataset::Error::Damaged { path: path.clone(), reason: "torn".into() };
        let newer = dataset::Error::NewerFormat { path, found: 2, known: 1 };
        for (error, expected) in [
            (Error::Dataset(locked), Trouble::Locked),
            (Error::Dataset(damaged), Trouble::HeldBack),
            (Error::Dataset(newer), Trouble::Failed),
            (Error::Stopped, Trouble::Stopped),
            (Error::Unbalanced { expected: 1, found: 2 }, Trouble::Failed),
        ] {
            assert_eq!(Trouble::of(&error), expected, "{error}");
        }
    }
}
