//! One visit to one bucket: everything that is done there under its compaction lock.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::records::Records;
use super::{Compactor, Error, Metrics, Options, Progress, Summary};
use crate::dataset::{Bucket, CompactionLock, ContentHash, Dataset, FragmentName, PublishRecord, PublishedName};
use crate::failpoint;
use crate::heartbeat::ClaimId;

/// What a visit is for. Every visit begins with recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Publish all that is staged, consolidate if due, delete what was replaced.
    All,
    /// Publish at most as much as one file takes.
    PublishOne,
    /// Consolidate if due, delete what was replaced.
    Consolidate,
}

/// Looks whether to stop, and tells how far the work is.
#[derive(Clone, Copy)]
pub(super) struct Watcher<'a> {
    pub progress: &'a dyn Progress,
    pub stop: &'a CancellationToken,
}

impl std::fmt::Debug for Watcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("stop", &self.stop.is_cancelled()).finish_non_exhaustive()
    }
}

impl Watcher<'_> {
    pub fn check(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() { Err(Error::Stopped) } else { Ok(()) }
    }

    pub fn rows(&self, rows: u64) {
        self.progress.rows(rows);
    }
}

/// A visit under way; ends with the lock.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub dataset: &'a Dataset,
    pub options: &'a Options,
    pub metrics: &'a Metrics,
    pub records: &'a Records,
    pub bucket: Bucket,
    pub watcher: Watcher<'a>,
    pub summary: &'a mut Summary,
    _lock: CompactionLock,
}

/// A published file with its record.
pub(super) type Recorded = (PublishedName, Arc<PublishRecord>);

impl Compactor {
    /// Visits a bucket and notes in `summary` what was done and what went wrong. Nothing that goes wrong in one bucket,
    /// a panic included, reaches the others.
    pub(super) fn visit(
        &self,
        bucket: Bucket,
        work: Work,
        watcher: Watcher<'_>,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        summary.buckets += 1;
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(bucket, work, watcher, summary)));
        let outcome = worked.unwrap_or_else(|panic| Err(Error::Panicked { message: panic_message(&*panic) }));
        if let Err(error) = &outcome {
            summary.note(bucket, error);
        }
        outcome
    }

    fn work(&self, bucket: Bucket, work: Work, watcher: Watcher<'_>, summary: &mut Summary) -> Result<(), Error> {
        let Some(lock) = self.dataset.try_lock_compaction(bucket)? else {
            return Err(Error::Busy);
        };
        let mut visit = Visit {
            dataset: &self.dataset,
            options: &self.options,
            metrics: &self.metrics,
            records: &self.records,
            bucket,
            watcher,
            summary,
            _lock: lock,
        };
        visit.recover()?;
        match work {
            Work::PublishOne => visit.publish(Some(1)),
            Work::Consolidate => visit.consolidate().and(visit.delete_retired()),
            Work::All => {
                // What cannot be published must not keep the bucket's files from being looked after, nor the reverse.
                let published = visit.publish(None);
                if matches!(published, Err(Error::Stopped)) {
                    return published;
                }
                published.and(visit.consolidate()).and(visit.delete_retired())
            }
        }
    }
}

impl Visit<'_> {
    pub fn reached(&self, step: &'static str) -> Result<(), Error> {
        Ok(failpoint::reached(step)?)
    }

    /// The published files, oldest first, with their records. A file whose footer cannot be read holds back the bucket:
    /// without its record, rows that stand could be merged a second time.
    pub fn published(&self) -> Result<Vec<Recorded>, Error> {
        let names = self.dataset.list_published(self.bucket)?;
        let record = |name: PublishedName| Ok((name, self.records.record(self.dataset, self.bucket, &name)?));
        names.into_iter().map(record).collect()
    }
}

/// The fragments that the published files of a bucket have merged.
#[derive(Debug)]
pub(super) struct Known(HashSet<(ClaimId, ContentHash)>);

impl Known {
    pub fn of(published: &[Recorded]) -> Self {
        let claims = published.iter().flat_map(|(_, record)| &record.claims);
        Self(claims.map(|merged| (merged.claim, merged.hash)).collect())
    }

    pub fn contains(&self, fragment: &FragmentName) -> bool {
        self.0.contains(&(fragment.claim, fragment.hash))
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
