//! Publishing: the fragments of one bucket become one more published file.

use std::time::Instant;

use super::Error;
use super::funnel::{Counts, pour};
use super::merge::{Merge, Run, fan_in};
use super::policy::publish_slice;
use super::runs::{BucketRuns, Source, budget};
use super::visit::{Known, Visit};
use crate::dataset::{self, FragmentName, MergedClaim, PublishRecord, PublishedName, check_rows};

impl Visit<'_> {
    /// Publishes what is staged at this moment, oldest claims first, in at most `files` files. What is staged meanwhile is
    /// the next visit's, so that a visit ends however fast the batchers write.
    pub fn publish(&mut self, files: Option<u64>) -> Result<(), Error> {
        let staged = self.list_fragments()?;
        if staged.is_empty() {
            return Ok(());
        }
        let known = Known::of(&self.published()?);
        let (merged_before, mut fresh): (Vec<_>, Vec<_>) = staged.into_iter().partition(|name| known.contains(name));
        self.delete_fragments(&merged_before)?;
        self.summary.fragments_known += merged_before.len() as u64;
        self.metrics.fragments_known.inc_by(merged_before.len() as u64);

        let mut left: Vec<Left> = Vec::new();
        let published_before = self.summary.files_published;
        // A slice of which nothing could be opened is no file: those behind it must not starve.
        let enough = |now: u64| files.is_some_and(|files| now - published_before >= files);
        while !fresh.is_empty() && !enough(self.summary.files_published) {
            let rest = fresh.split_off(publish_slice(self.options.publish_rows, fresh.iter().map(|name| name.rows)));
            left.append(&mut self.publish_slice(fresh)?);
            fresh = rest;
        }
        match left.first() {
            None => Ok(()),
            Some((_, reason)) => Err(Error::LeftStaged { left: left.len(), reason: reason.clone() }),
        }
    }

    /// Publishes these fragments, without those that turn out to be damaged. Answers which were left staged, and why.
    fn publish_slice(&mut self, mut slice: Vec<FragmentName>) -> Result<Vec<Left>, Error> {
        let started = Instant::now();
        // Each try ends the loop or takes one fragment out of the slice.
        let left = loop {
            match self.publish_once(&slice) {
                Err(Error::DamagedFragment { name, reason }) => {
                    self.quarantine(&[(name, reason)])?;
                    slice.retain(|other| *other != name);
                }
                other => break other?,
            }
        };
        self.metrics.publish_seconds.observe(started.elapsed().as_secs_f64());
        Ok(left)
    }

    fn publish_once(&mut self, slice: &[FragmentName]) -> Result<Vec<Left>, Error> {
        self.watcher.check()?;
        let mut by_size = slice.to_vec();
        by_size.sort_by_key(|name| (name.rows, *name));
        let mut runs = BucketRuns::new(self.dataset, self.bucket, self.watcher);
        let mut merged = fan_in(&mut runs, by_size.into_iter().map(Source::Fragment), budget(self.options))?;
        let BucketRuns { opened, damaged, left, .. } = runs;
        if !opened.is_empty() {
            let opened: Vec<FragmentName> = opened.into_iter().collect();
            self.publish_merge(&mut merged.merge, &opened)?;
        }
        drop(merged);
        self.quarantine(&damaged)?;
        Ok(left)
    }

    /// Writes a merge of these fragments as a published file, then deletes exactly them.
    fn publish_merge<R: Run + Send>(&mut self, merge: &mut Merge<R>, fragments: &[FragmentName]) -> Result<(), Error>
    where
        R::Batch: Send,
    {
        // Listed anew for each file: what the slice before published counts as standing.
        let standing = self.dataset.list_published(self.bucket)?;
        let mut file = self.dataset.begin_published(self.bucket)?;
        let counts = {
            let mut lookup = self.dataset.identity_lookup(self.bucket, &standing)?;
            pour(merge, |rows| Ok(lookup.contains(rows)?), &mut file, self.watcher)?
        };
        let prepared = file.finish(&record_of(fragments, counts)?)?;
        let bytes = prepared.bytes();
        self.reached("compactor.publish.before_commit")?;
        let name = self.dataset.commit_published(prepared)?;
        self.note_published(fragments, counts, bytes, &name);
        self.reached("compactor.publish.before_delete")?;
        self.delete_fragments(fragments)
    }

    fn note_published(&mut self, fragments: &[FragmentName], counts: Counts, bytes: u64, file: &PublishedName) {
        self.summary.files_published += 1;
        self.summary.bytes_written += bytes;
        self.summary.fragments_merged += fragments.len() as u64;
        self.summary.rows_merged += counts.merged;
        self.summary.rows_published += counts.published;
        self.summary.rows_deduplicated += counts.deduplicated;
        self.metrics.publishes.inc();
        self.metrics.fragments_merged.inc_by(fragments.len() as u64);
        self.metrics.rows_published.inc_by(counts.published);
        self.metrics.rows_deduplicated.inc_by(counts.deduplicated);
        tracing::debug!(
            bucket = %self.bucket, %file, fragments = fragments.len(), rows = counts.published,
            duplicates = counts.deduplicated, "published"
        );
    }

    fn list_fragments(&self) -> Result<Vec<FragmentName>, Error> {
        let _lock = self.dataset.lock_bucket_exclusive(self.bucket)?;
        Ok(self.dataset.list_fragments(self.bucket)?)
    }

    fn delete_fragments(&self, names: &[FragmentName]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let _lock = self.dataset.lock_bucket_exclusive(self.bucket)?;
        Ok(self.dataset.delete_fragments(self.bucket, names)?)
    }

    /// Lays damaged fragments aside, unless a batcher has meanwhile written them anew.
    fn quarantine(&mut self, damaged: &[(FragmentName, String)]) -> Result<(), Error> {
        if damaged.is_empty() {
            return Ok(());
        }
        let _lock = self.dataset.lock_bucket_exclusive(self.bucket)?;
        for (name, reason) in damaged {
            if self.is_whole(name) {
                continue;
            }
            self.reached("compactor.quarantine.before")?;
            self.dataset.quarantine_fragment(self.bucket, name, reason)?;
            self.summary.fragments_quarantined += 1;
            self.metrics.fragments_quarantined.inc();
            tracing::error!(bucket = %self.bucket, fragment = %name, reason, rows = name.rows, "fragment quarantined");
        }
        Ok(())
    }

    /// Whether a fragment that was found damaged has been written anew since, or is gone.
    fn is_whole(&self, name: &FragmentName) -> bool {
        let reread = self.dataset.open_fragment(self.bucket, name);
        let checked = reread.and_then(|mut reader| check_rows(self.bucket, self.dataset.partitions(), &mut reader));
        matches!(checked, Ok(_) | Err(dataset::Error::NotFound { .. }))
    }
}

/// A fragment that could not be opened, and why.
type Left = (FragmentName, String);

/// The record of a publish, if its books balance.
fn record_of(merged: &[FragmentName], counts: Counts) -> Result<PublishRecord, Error> {
    let expected = merged.iter().map(|name| name.rows).sum();
    if counts.merged != expected || counts.merged != counts.published + counts.deduplicated {
        return Err(Error::Unbalanced { expected, found: counts.merged });
    }
    let claim = |name: &FragmentName| MergedClaim { claim: name.claim, hash: name.hash, rows: name.rows };
    Ok(PublishRecord {
        claims: merged.iter().map(claim).collect(),
        merged_rows: counts.merged,
        published_rows: counts.published,
        deduplicated_rows: counts.deduplicated,
        ..PublishRecord::default()
    })
}
