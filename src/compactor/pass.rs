//! One pass over all buckets: `systole compact`.

use tokio_util::sync::CancellationToken;

use super::visit::{Watcher, Work};
use super::{Compactor, Error, Progress, Summary};

impl Compactor {
    /// Visits every bucket, the newest date first: publishes everything that is staged, consolidates what is due, and
    /// deletes what earlier consolidations replaced. Blocking; `stop` is looked at between steps and every few thousand
    /// rows.
    ///
    /// # Errors
    /// The buckets cannot be listed. What goes wrong in one bucket stands in the summary and does not stop the others.
    pub fn pass(&self, progress: &dyn Progress, stop: &CancellationToken) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let buckets = self.dataset.buckets()?;
        progress.begins(buckets.len());
        for &bucket in buckets.iter().rev() {
            if stop.is_cancelled() {
                summary.stopped = true;
                break;
            }
            // Its error stands in the summary.
            let _ = self.visit(bucket, Work::All, Watcher { progress, stop }, &mut summary);
            match self.dataset.quarantined(bucket) {
                Ok(quarantined) => summary.in_quarantine += quarantined.len() as u64,
                Err(error) => summary.note(bucket, &error.into()),
            }
            progress.bucket_done(bucket);
        }
        Ok(summary)
    }
}
