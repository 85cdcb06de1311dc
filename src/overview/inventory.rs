//! What stands in the files, without reading a row.
//!
//! Constraints:
//! - The footer of a published file is read once: files never change. A bucket is listed again only when one of its folders
//!   has changed since.
//! - A look is bounded in time ([`LONGEST_LOOK`]): a dataset that is met for the first time takes some of them, the newest
//!   days first, and says so until then.
//! - Memory is bounded: [`MAX_FILES`] files of 48 bytes, [`MAX_BUCKETS`] buckets of some 250. Of the buckets beyond that, the
//!   oldest, nothing is said; beyond that many files a bucket's are read again when it changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::report::{Day, Disk, Files, Publish};
use crate::dataset::{Bucket, Changed, Dataset, Error, Footer, PublishedName, Result};

/// Buckets that are known one by one: 5 years of 16 partitions.
const MAX_BUCKETS: usize = 32_768;
/// Published files that are known one by one, in all buckets together: twice 30 days × 16 partitions × 64 files.
const MAX_FILES: usize = 65_536;
/// A look ends with the bucket in which it has taken so long.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// A bucket that changes while it is listed is listed again, at most this often.
const LISTINGS: usize = 3;
/// Days that are told one by one.
const DAYS: i64 = 30;
/// The last publishes that are told.
const PUBLISHES: usize = 10;
/// The last publishes that are remembered, so that those of the last minute are among them.
const REMEMBERED_PUBLISHES: usize = 1_024;
/// What the rate of publishing is taken over.
const RATE_OVER: Duration = Duration::from_secs(60);

/// What is known of the files.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    buckets: BTreeMap<Bucket, Known>,
    /// Files in all of `buckets`.
    files: usize,
    /// The newest, by their birth. A publish stays one when its file was consolidated.
    publishes: BTreeSet<(Timestamp, PublishedName, Reverse<Publish>)>,
}

/// What is known of a bucket.
#[derive(Debug, Default)]
struct Known {
    changed: Changed,
    /// Whether a change after the look would show in `changed`.
    settled: bool,
    totals: Totals,
    /// None where there were too many.
    files: Vec<(PublishedName, Footer)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    files: u64,
    rows: u64,
    bytes: u64,
    fragments: u64,
    fragment_rows: u64,
    fragment_bytes: u64,
    /// When the oldest fragment was written.
    oldest: Option<SystemTime>,
    quarantined: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.fragments += other.fragments;
        self.fragment_rows += other.fragment_rows;
        self.fragment_bytes += other.fragment_bytes;
        self.oldest = [self.oldest, other.oldest].into_iter().flatten().min();
        self.quarantined += other.quarantined;
    }
}

impl Inventory {
    /// Looks at what has changed. Blocking.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(super) fn look(&mut self, dataset: &Dataset, now: Timestamp) -> Result<Looked> {
        let began = Instant::now();
        let mut all = dataset.buckets()?;
        let beyond = all.len().saturating_sub(MAX_BUCKETS);
        // The oldest come first.
        all.drain(..beyond);
        self.forget_all_but(&all);
        let mut complete = beyond == 0;
        for bucket in all.into_iter().rev() {
            if began.elapsed() >= LONGEST_LOOK {
                complete = false;
                break;
            }
            self.look_at(dataset, bucket)?;
        }
        let disk = Disk {
            free_bytes: dataset.free_bytes()?,
            total_bytes: dataset.total_bytes()?,
            min_free_bytes: dataset.min_free_bytes(),
        };
        Ok(Looked { files: self.tell(complete, disk, now), published_a_second: self.rate(now) })
    }

    fn forget_all_but(&mut self, there: &[Bucket]) {
        let files = &mut self.files;
        self.buckets.retain(|bucket, known| {
            let stays = there.binary_search(bucket).is_ok();
            if !stays {
                *files -= known.files.len();
            }
            stays
        });
    }

    fn look_at(&mut self, dataset: &Dataset, bucket: Bucket) -> Result<()> {
        let mut known = self.buckets.remove(&bucket).unwrap_or_default();
        self.files -= known.files.len();
        let looked = self.look_again(dataset, bucket, &mut known);
        if self.files + known.files.len() > MAX_FILES {
            known.files = Vec::new();
        }
        self.files += known.files.len();
        self.buckets.insert(bucket, known);
        looked
    }

    fn look_again(&mut self, dataset: &Dataset, bucket: Bucket, known: &mut Known) -> Result<()> {
        let mut listings = 0;
        loop {
            // Before the listing, so that a change after it is noticed the next time.
            let (now, changed) = (SystemTime::now(), dataset.changed(bucket)?);
            if known.settled && known.changed == changed {
                return Ok(());
            }
            listings += 1;
            match self.list(dataset, bucket, &known.files) {
                Ok((totals, files)) => {
                    *known = Known { changed, settled: changed.is_settled(now), totals, files };
                    return Ok(());
                }
                // A publish deleted a fragment, or a consolidation exchanged the folder.
                Err(Error::NotFound { .. }) if listings < LISTINGS => {}
                // It changes all the time: what was known stays for now.
                Err(Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn list(
        &mut self,
        dataset: &Dataset,
        bucket: Bucket,
        known: &[(PublishedName, Footer)],
    ) -> Result<(Totals, Vec<(PublishedName, Footer)>)> {
        let mut totals = Totals::default();
        for name in dataset.list_fragments(bucket)? {
            totals.fragments += 1;
            totals.fragment_rows += name.rows;
            totals.fragment_bytes += dataset.fragment_len(bucket, &name)?;
            let written = SystemTime::now().checked_sub(dataset.fragment_age(bucket, &name)?);
            totals.oldest = [totals.oldest, written].into_iter().flatten().min();
        }
        totals.quarantined = dataset.quarantined_count(bucket)? as u64;
        let mut files = Vec::new();
        for name in dataset.list_published(bucket)? {
            let footer = match known.binary_search_by_key(&name, |(name, _)| *name) {
                Ok(at) => known[at].1,
                Err(_) => self.read(dataset, bucket, name)?,
            };
            totals.files += 1;
            totals.rows += footer.rows;
            totals.bytes += footer.bytes;
            files.push((name, footer));
        }
        Ok((totals, files))
    }

    fn read(&mut self, dataset: &Dataset, bucket: Bucket, name: PublishedName) -> Result<Footer> {
        let footer = match dataset.footer(bucket, &name) {
            // The compactor names it on the board; here it is a file without rows.
            Err(Error::Damaged { .. } | Error::NewerFormat { .. }) => {
                Footer { rows: 0, bytes: dataset.published_len(bucket, &name)?, consolidated: true }
            }
            other => other?,
        };
        if !footer.consolidated {
            let at = name.file.born();
            let publish = Publish {
                at: at.as_millisecond(),
                date: bucket.date.to_string(),
                partition: bucket.partition,
                rows: footer.rows,
                bytes: footer.bytes,
            };
            self.publishes.insert((at, name, Reverse(publish)));
            if self.publishes.len() > REMEMBERED_PUBLISHES {
                self.publishes.pop_first();
            }
        }
        Ok(footer)
    }

    fn tell(&self, complete: bool, disk: Disk, now: Timestamp) -> Files {
        let mut all = Totals::default();
        let mut by_date: BTreeMap<Date, Totals> = BTreeMap::new();
        for (bucket, known) in &self.buckets {
            all.add(&known.totals);
            by_date.entry(bucket.date).or_default().add(&known.totals);
        }
        let oldest = all.oldest.map(|written| SystemTime::now().duration_since(written).unwrap_or_default().as_secs());
        Files {
            complete,
            fragments: all.fragments,
            fragment_rows: all.fragment_rows,
            fragment_bytes: all.fragment_bytes,
            oldest_fragment_s: oldest,
            published_files: all.files,
            published_rows: all.rows,
            published_bytes: all.bytes,
            quarantined: all.quarantined,
            last_publishes: self.publishes.iter().rev().take(PUBLISHES).map(|(_, _, made)| made.0.clone()).collect(),
            days: days_up_to(now).map(|date| day(date, by_date.get(&date).copied().unwrap_or_default())).collect(),
            disk,
        }
    }

    /// Heartbeats a second that became visible over the last minute.
    fn rate(&self, now: Timestamp) -> f64 {
        let since = now.checked_sub(RATE_OVER).unwrap_or(Timestamp::MIN);
        let recent = self.publishes.iter().rev().take_while(|(at, ..)| *at > since);
        recent.map(|(_, _, made)| made.0.rows).sum::<u64>() as f64 / RATE_OVER.as_secs_f64()
    }
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) files: Files,
    pub(super) published_a_second: f64,
}

fn days_up_to(now: Timestamp) -> impl Iterator<Item = Date> {
    let today = Bucket::of(now.as_millisecond(), 0).date;
    (0..DAYS).rev().filter_map(move |ago| today.checked_sub(ago.days()).ok())
}

fn day(date: Date, totals: Totals) -> Day {
    Day { date: date.to_string(), rows: totals.rows, bytes: totals.bytes, files: totals.files }
}
