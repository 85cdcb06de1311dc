//! Consolidating: many published files of one bucket become few, in one exchange of folders.

use std::collections::HashSet;
use std::time::Instant;

use bytesize::ByteSize;
use jiff::Timestamp;

use super::Error;
use super::funnel::pour;
use super::merge::fan_in;
use super::policy::{self, ConsolidateReason};
use super::runs::{BucketRuns, Source, budget};
use super::visit::{Recorded, Visit};
use crate::dataset::{Prepared, PublishRecord};

impl Visit<'_> {
    /// Consolidates the bucket if that is due and the file system can.
    pub fn consolidate(&mut self) -> Result<(), Error> {
        if !self.dataset.capabilities().exchange {
            return Ok(());
        }
        let names = self.dataset.list_published(self.bucket)?;
        let facts = names.iter().map(|name| self.records.facts(self.dataset, self.bucket, name));
        let facts = facts.collect::<Result<Vec<_>, _>>()?;
        match policy::consolidation(self.options, self.bucket.date, &facts, Timestamp::now()) {
            None => Ok(()),
            Some(plan) => {
                let (merge, keep) = split(self.published()?, &plan.merge);
                self.replace(plan.reason, &merge, &keep)
            }
        }
    }

    fn replace(&mut self, reason: ConsolidateReason, merge: &[Recorded], keep: &[Recorded]) -> Result<(), Error> {
        let started = Instant::now();
        self.require_room(merge)?;
        for (name, _) in merge {
            // A flipped bit mostly reads back as another value: the hash is the only witness.
            self.watcher.check()?;
            self.dataset.verify_published(self.bucket, name)?;
            self.watcher.rows(0);
        }
        let mut replacement = self.dataset.begin_replacement(self.bucket)?;
        // Before the merge: what cannot be kept, today and at each later try, must not cost a merge each time.
        for (name, _) in keep {
            replacement.keep(name)?;
        }
        let merged = self.merge_published(merge)?;
        let (rows, bytes) = (merged.rows(), merged.bytes());
        replacement.add(merged)?;
        self.reached("compactor.consolidate.before_exchange")?;
        replacement.exchange()?;
        self.reached("compactor.consolidate.after_exchange")?;

        self.summary.files_consolidated += merge.len() as u64;
        self.summary.rows_consolidated += rows;
        self.summary.bytes_written += bytes;
        self.metrics.consolidations.inc();
        self.metrics.rows_consolidated.inc_by(rows);
        self.metrics.consolidation_seconds.observe(started.elapsed().as_secs_f64());
        tracing::info!(
            bucket = %self.bucket, ?reason, merged = merge.len(), kept = keep.len(), rows, bytes, "consolidated"
        );
        Ok(())
    }

    /// Fails where the disk has no room for the merge. Begun all the same, it would take what is to stay free from those who
    /// write there, end for want of the rest, and begin again.
    fn require_room(&self, merge: &[Recorded]) -> Result<(), Error> {
        let (mut bytes, mut weight) = (0_u64, 0_u64);
        for (name, _) in merge {
            bytes = bytes.saturating_add(self.dataset.published_len(self.bucket, name)?);
            weight = weight.saturating_add(self.dataset.open_published(self.bucket, name)?.weight());
        }
        let budget = budget(self.options);
        let in_one_step = weight <= budget.bytes && merge.len() <= budget.runs;
        // A merge in several steps lays most of the rows down twice, first in runs.
        let (needed, least) = (bytes.saturating_mul(if in_one_step { 1 } else { 2 }), self.dataset.min_free_bytes());
        if self.dataset.free_bytes()? >= needed.saturating_add(least) {
            return Ok(());
        }
        Err(Error::NoRoom { needed: ByteSize(needed), least: ByteSize(least) })
    }

    /// The rows of these files as one file, with the record that stands for all of theirs.
    fn merge_published(&self, merge: &[Recorded]) -> Result<Prepared, Error> {
        let mut record = PublishRecord::default();
        merge.iter().for_each(|(_, other)| record.absorb(other));
        record.consolidated_files = merge.len() as u64;
        record.fold(Timestamp::now());

        let mut by_size: Vec<_> = merge.iter().collect();
        by_size.sort_by_key(|(name, record)| (record.published_rows, *name));
        let sources = by_size.into_iter().map(|(name, _)| Source::Published(*name));
        let mut runs = BucketRuns::new(self.dataset, self.bucket, self.watcher);
        let mut merged = fan_in(&mut runs, sources, budget(self.options))?;
        let mut file = self.dataset.begin_published(self.bucket)?;
        // No identity stands in two published files, so there is nothing to look up.
        let counts = pour(&mut merged.merge, |rows| Ok(vec![false; rows.len()]), &mut file, self.watcher)?;
        if counts.deduplicated > 0 {
            // Dropping them would make the files right and the books wrong, and hide how it came to be.
            let reason = format!("{} rows stand in more than one of its published files", counts.deduplicated);
            return Err(Error::HeldBack { reason });
        }
        if counts.published != record.published_rows {
            let reason = format!(
                "its published files hold {} rows, by their records {}",
                counts.published, record.published_rows
            );
            return Err(Error::HeldBack { reason });
        }
        Ok(file.finish(&record)?)
    }
}

/// The files to merge and those to keep. Files that name the same claim (it came back in another fragment) are merged
/// together or not at all, so that folding the claim into a total counts its rows once.
fn split(published: Vec<Recorded>, merge: &[usize]) -> (Vec<Recorded>, Vec<Recorded>) {
    let (mut merged, mut kept) = (Vec::new(), Vec::new());
    for (index, file) in published.into_iter().enumerate() {
        if merge.contains(&index) { merged.push(file) } else { kept.push(file) }
    }
    loop {
        let claims: HashSet<_> = merged.iter().flat_map(|(_, record)| &record.claims).map(|of| of.claim).collect();
        let shares = |file: &Recorded| file.1.claims.iter().any(|of| claims.contains(&of.claim));
        let (drawn_in, apart): (Vec<_>, Vec<_>) = kept.into_iter().partition(shares);
        kept = apart;
        if drawn_in.is_empty() {
            return (merged, kept);
        }
        merged.extend(drawn_in);
    }
}
