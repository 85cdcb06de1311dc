//! What a crash left in a bucket, dealt with before anything is built upon it.

use std::time::Duration;

use super::Error;
use super::visit::Visit;

/// Temp files and folders younger than this may belong to a process that is still at work (a batcher writes its fragments
/// in the same folder without the compaction lock), however slow its disk.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(3600);

impl Visit<'_> {
    /// Puts on the disk what a predecessor renamed or exchanged, then removes what it left half-done.
    ///
    /// The order matters: a predecessor that died between a rename and the fsync of the folder left a published file that
    /// every process sees and a power cut takes away. Its fragments must not be deleted on the strength of it before the
    /// folders are synced; nor may a folder that an exchange replaced.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.dataset.settle_published(self.bucket)?;
        self.reached("compactor.recover.settled")?;
        let cleaned = self.dataset.clean_leftovers(self.bucket, LEFT_BEHIND_AFTER)?;
        if cleaned != crate::dataset::Cleaned::default() {
            tracing::info!(bucket = %self.bucket, ?cleaned, "removed what a dead process left");
        }
        Ok(())
    }

    /// Deletes the folders that consolidations replaced and that no reader can still be in.
    pub fn delete_retired(&mut self) -> Result<(), Error> {
        for retired in self.dataset.retired(self.bucket)? {
            if retired.age >= *self.options.reader_grace {
                self.watcher.check()?;
                self.reached("compactor.retired.before_delete")?;
                self.dataset.delete_retired(self.bucket, &retired)?;
                self.summary.retired_deleted += 1;
            }
        }
        Ok(())
    }
}
