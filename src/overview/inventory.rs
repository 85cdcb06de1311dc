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

/// Why the files are not known.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NotSeen {
    /// Nobody asked this process to look at any.
    #[error("this process was started without `--data`")]
    NotGiven,
    /// Roles start in any order.
    #[error("the dataset is not there yet")]
    NotThere,
    /// The first look takes its time.
    #[error("they are being counted")]
    Counting,
    /// A look failed.
    #[error("they cannot be read now: {0}")]
    Unreadable(String),
}

fn days_up_to(now: Timestamp) -> impl Iterator<Item = Date> {
    let today = Bucket::of(now.as_millisecond(), 0).date;
    (0..DAYS).rev().filter_map(move |ago| today.checked_sub(ago.days()).ok())
}

fn day(date: Date, totals: Totals) -> Day {
    Day { date: date.to_string(), rows: totals.rows, bytes: totals.bytes, files: totals.files }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::dataset::{EncodedFragment, MergedClaim, Options, PublishRecord, RealFs, encode_fragment};
    use crate::heartbeat::{ClaimId, Heartbeat};

    const DAY_MS: i64 = 86_400_000;
    /// 2026-11-22, noon.
    const NOW_MS: i64 = 1_795_348_800_000;

    struct Scratch {
        dataset: Dataset,
        _folder: tempfile::TempDir,
    }

    impl Scratch {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let options = Options { data: folder.path().join("data"), ..Options::default() };
            Self { dataset: Dataset::open_or_create(&options, Arc::new(RealFs)).unwrap(), _folder: folder }
        }

        fn beats(days_ago: i64, from: i64, rows: i64) -> Vec<Heartbeat> {
            let beat = |n| Heartbeat {
                user_id: "ada".into(),
                device_id: "laptop".into(),
                timestamp: NOW_MS - days_ago * DAY_MS + n,
                id: None,
                received_at: NOW_MS,
                attributes: None,
            };
            (from..from + rows).map(beat).collect()
        }

        fn encode(days_ago: i64, from: i64, rows: i64) -> (Bucket, EncodedFragment) {
            let rows = Self::beats(days_ago, from, rows);
            let encoded = encode_fragment(&rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>()).unwrap();
            (Bucket::of(rows[0].timestamp, 3), encoded)
        }

        fn stage(&self, days_ago: i64, rows: i64) {
            let (bucket, encoded) = Self::encode(days_ago, 0, rows);
            self.dataset.store_fragment(bucket, ClaimId::new(), &encoded).unwrap();
        }

        fn publish(&self, days_ago: i64, from: i64, rows: i64) -> PathBuf {
            let (bucket, encoded) = Self::encode(days_ago, from, rows);
            let mut builder = self.dataset.begin_published(bucket).unwrap();
            for beat in Self::beats(days_ago, from, rows) {
                builder.push(beat.as_ref()).unwrap();
            }
            let merged = MergedClaim { claim: ClaimId::new(), hash: encoded.hash, rows: rows as u64 };
            let record = PublishRecord {
                claims: vec![merged],
                merged_rows: rows as u64,
                published_rows: rows as u64,
                ..PublishRecord::default()
            };
            let prepared = builder.finish(&record).unwrap();
            let name = prepared.name();
            self.dataset.commit_published(prepared).unwrap();
            self.dataset.root().join(format!("heartbeats/{bucket}/{name}"))
        }

        fn look(&self, inventory: &mut Inventory) -> Looked {
            inventory.look(&self.dataset, Timestamp::from_millisecond(NOW_MS).unwrap()).unwrap()
        }
    }

    #[test]
    fn what_is_told_is_what_stands_there() {
        let (scratch, mut inventory) = (Scratch::new(), Inventory::default());
        let empty = scratch.look(&mut inventory).files;
        assert_eq!((empty.complete, empty.published_files, empty.days.len()), (true, 0, 30));
        assert_eq!((empty.days[0].date.as_str(), empty.days[29].date.as_str()), ("2026-10-24", "2026-11-22"));

        scratch.stage(0, 7);
        let files = [scratch.publish(0, 0, 10), scratch.publish(0, 10, 20), scratch.publish(29, 0, 5)];
        let long_ago = scratch.publish(30, 0, 40);
        let told = scratch.look(&mut inventory).files;
        assert_eq!((told.fragments, told.fragment_rows, told.oldest_fragment_s), (1, 7, Some(0)));
        assert_eq!((told.published_files, told.published_rows), (4, 75));
        let len = |path: &PathBuf| fs::metadata(path).unwrap().len();
        assert_eq!(told.published_bytes, files.iter().chain([&long_ago]).map(len).sum::<u64>());
        let day = |at: usize| (told.days[at].rows, told.days[at].files, told.days[at].bytes);
        assert_eq!(day(29), (30, 2, len(&files[0]) + len(&files[1])));
        assert_eq!((day(0), day(1)), ((5, 1, len(&files[2])), (0, 0, 0)));
        assert_eq!(told.last_publishes.iter().map(|publish| publish.rows).collect::<Vec<_>>(), [40, 5, 20, 10]);

        // What comes and goes is noticed, in folders that were looked at a moment ago, too.
        fs::remove_file(&long_ago).unwrap();
        scratch.publish(0, 30, 1);
        scratch.stage(1, 3);
        let told = scratch.look(&mut inventory).files;
        assert_eq!((told.published_files, told.published_rows, told.fragments), (4, 36, 2));
        assert_eq!(told.last_publishes.len(), 5, "a publish stays one when its file is gone");
        assert_eq!(inventory.files, 4);
    }

    #[test]
    fn a_footer_is_read_once_and_a_bucket_that_rests_is_not_even_listed() {
        let (scratch, mut inventory) = (Scratch::new(), Inventory::default());
        let path = scratch.publish(0, 0, 10);
        scratch.look(&mut inventory);
        // Were its footer read again, it would count for nothing: so it is known by its name.
        let len = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![0; 100]).unwrap();
        let told = scratch.look(&mut inventory).files;
        assert_eq!((told.published_rows, told.published_bytes), (10, len));
        assert_eq!(scratch.look(&mut Inventory::default()).files.published_rows, 0, "a damaged file is no end");

        let folder = path.parent().unwrap();
        let at = SystemTime::now() - Duration::from_secs(60);
        let set_time = || fs::File::open(folder).unwrap().set_modified(at).unwrap();
        let staging = scratch
            .dataset
            .root()
            .join("staging")
            .join(folder.strip_prefix(scratch.dataset.root().join("heartbeats")).unwrap());
        fs::File::open(&staging).unwrap().set_modified(at).unwrap();
        set_time();
        scratch.look(&mut inventory);
        // A change that its time hides: nobody lists it.
        fs::remove_file(&path).unwrap();
        set_time();
        assert_eq!(scratch.look(&mut inventory).files.published_files, 1);
        fs::File::open(folder).unwrap().set_modified(SystemTime::now()).unwrap();
        assert_eq!(scratch.look(&mut inventory).files.published_files, 0);
    }
}
