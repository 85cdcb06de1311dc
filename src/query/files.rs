//! What of a user stands in the files of one date: staging first, then published.
//!
//! Constraints:
//! - Published files are listed only after the fragments were read. A fragment that has gone by then was merged: its rows are
//!   in a published file, which stood before the fragment went. One that is damaged and has gone was laid in quarantine.
//! - A published file that has gone was consolidated: its rows are in one that stands now, so they are listed again. Files
//!   never change, so one that was read is not read again.
//! - Files are read one after the other, and of each only what can hold the rows: see [`RowReader::seek`].

use std::collections::HashSet;

use super::collect::{Collector, Rows};
use super::place::Cut;
use super::{Error, Query, reached};
use crate::dataset::{self, Bucket, Dataset, RowReader};

/// How often published files are listed anew: a bucket is consolidated every few minutes at most.
const LISTINGS: usize = 8;
/// Bytes of rows that are collected at a time.
const COLLECT_BYTES: usize = 2 << 20;

/// What was collected of one date.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) rows: Rows,
    /// Before it they are all.
    pub(super) end: Cut,
    /// Rows that were decoded for it.
    pub(super) looked_at: u64,
}

/// Collects the least rows of a bucket between two cuts.
pub(super) fn collect(
    dataset: &Dataset,
    bucket: Bucket,
    query: &Query,
    begin: Cut,
    end: Cut,
) -> Result<Collected, Error> {
    let collector = Collector::new(begin, end, COLLECT_BYTES);
    let mut visit = Visit { dataset, bucket, query, collector, looked_at: 0 };
    visit.staging()?;
    reached("read.staging_read")?;
    visit.published()?;
    let (rows, end) = visit.collector.finish();
    Ok(Collected { rows, end, looked_at: visit.looked_at })
}

struct Visit<'a> {
    dataset: &'a Dataset,
    bucket: Bucket,
    query: &'a Query,
    collector: Collector,
    looked_at: u64,
}

impl Visit<'_> {
    fn staging(&mut self) -> Result<(), Error> {
        let names = self.dataset.list_fragments(self.bucket)?;
        reached("read.staging_listed")?;
        for name in names {
            let opened = self.dataset.stream_fragment(self.bucket, &name);
            match opened.and_then(|reader| self.read(reader, false)) {
                Ok(()) | Err(dataset::Error::NotFound { .. }) => {}
                Err(damaged @ dataset::Error::Damaged { .. }) => {
                    if self.dataset.list_fragments(self.bucket)?.contains(&name) {
                        return Err(damaged.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn published(&mut self) -> Result<(), Error> {
        let mut done = HashSet::new();
        for _ in 0..LISTINGS {
            let mut gone = false;
            let names = self.dataset.list_published(self.bucket)?;
            reached("read.published_listed")?;
            for name in names {
                if done.contains(&name) {
                    continue;
                }
                let opened = self.dataset.open_published(self.bucket, &name);
                match opened.and_then(|reader| self.read(reader, true)) {
                    Ok(()) => _ = done.insert(name),
                    Err(dataset::Error::NotFound { .. }) => gone = true,
                    Err(error) => return Err(error.into()),
                }
            }
            if !gone {
                return Ok(());
            }
        }
        Err(Error::Moving)
    }

    fn read(&mut self, mut reader: RowReader, published: bool) -> dataset::Result<()> {
        let user_id = &self.query.user_id;
        if !reader.may_hold_user(user_id) {
            return Ok(());
        }
        reader.seek(user_id, self.collector.begin().timestamp())?;
        while let Some(batch) = reader.next_batch()? {
            for row in batch.rows() {
                self.looked_at += 1;
                // Sorted by user, then by position.
                if row.user_id != user_id || self.collector.is_over((row.timestamp, row.device_id, row.id)) {
                    return Ok(());
                }
                if self.query.wants(&row) {
                    self.collector.offer(&row, published);
                }
            }
        }
        Ok(())
    }
}
