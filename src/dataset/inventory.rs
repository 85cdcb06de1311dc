//! What stands in the two trees, for those who only look: lengths, ages, and when a folder changed last.
//!
//! Constraint: no lock is taken and no row read. What is looked at may change or go meanwhile.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::error::{At, Result, or_not_found};
use super::{Bucket, Dataset, Error, FragmentName, PublishedName, tree};

/// A published file, by its footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Rows in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// Whether it was made of published files, not of fragments.
    pub consolidated: bool,
}

/// Whether the entries of the folders of a bucket are those of an earlier look: equal when they are. Each is the time of the
/// folder's last change; `None` for a folder that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// The published folder.
    pub published: Option<SystemTime>,
    /// The staging folder.
    pub staging: Option<SystemTime>,
    /// The quarantine in it.
    pub quarantine: Option<SystemTime>,
}

impl Changed {
    /// Whether the last change was so long ago that one after the look has another time: file systems date changes by a
    /// clock that stands still for some milliseconds.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        /// Longer than the clock of any local file system stands still.
        const TICK: Duration = Duration::from_secs(2);
        let settled = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > TICK);
        [self.published, self.staging, self.quarantine].into_iter().flatten().all(settled)
    }
}

impl Dataset {
    /// When the folders of a bucket changed last.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn changed(&self, bucket: Bucket) -> Result<Changed> {
        Ok(Changed {
            published: changed(&self.paths().published_folder(bucket))?,
            staging: changed(&self.paths().staging_folder(bucket))?,
            quarantine: changed(&self.paths().quarantine(bucket))?,
        })
    }

    /// Rows and length of a published file, and how it was made.
    ///
    /// # Errors
    /// Those of [`publish_record`](Self::publish_record).
    pub fn footer(&self, bucket: Bucket, name: &PublishedName) -> Result<Footer> {
        let record = self.publish_record(bucket, name)?;
        let bytes = self.published_len(bucket, name)?;
        Ok(Footer { rows: record.published_rows, bytes, consolidated: record.consolidated_files > 0 })
    }

    /// The length of a fragment.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn fragment_len(&self, bucket: Bucket, name: &FragmentName) -> Result<u64> {
        tree::file_len(&self.paths().fragment(bucket, name))
    }

    /// How many fragments lie in the bucket's quarantine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn quarantined_count(&self, bucket: Bucket) -> Result<usize> {
        Ok(tree::names::<FragmentName>(&self.paths().quarantine(bucket))?.len())
    }

    /// Bytes of its file system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn total_bytes(&self) -> Result<u64> {
        fs2::total_space(self.root()).at("ask for the size of", self.root())
    }
}

fn changed(folder: &Path) -> Result<Option<SystemTime>> {
    match or_not_found(fs::metadata(folder), "look at", folder) {
        Ok(metadata) => Ok(Some(metadata.modified().at("read the time of", folder)?)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Scratch;
    use super::*;

    #[test]
    fn a_folder_that_changed_just_now_may_change_once_more_unseen() {
        let scratch = Scratch::new();
        let bucket = Bucket::of(0, 1);
        assert_eq!(scratch.dataset.changed(bucket).unwrap(), Changed::default());
        assert!(Changed::default().is_settled(SystemTime::now()));
        scratch.dataset.ensure_folder(&scratch.dataset.paths().staging_folder(bucket)).unwrap();
        let changed = scratch.dataset.changed(bucket).unwrap();
        assert!(changed.staging.is_some() && changed.published.is_none());
        assert!(!changed.is_settled(SystemTime::now()));
        assert!(changed.is_settled(SystemTime::now() + Duration::from_secs(5)));
    }
}
