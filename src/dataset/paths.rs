//! Paths and file names: made and parsed here and nowhere else.
//!
//! Constraints: a name is made of dates, numbers, hashes and ids of our own making, never of a client's text; and parsing
//! is strict: a text that is not exactly what the same value would print is not ours.
//!
//! ```text
//! dataset.json
//! buffer/                                                     the embedded buffer, where the dataset belongs to one
//! .systole.sock                                               of the process that has that buffer
//! heartbeats/date=2026-11-22/partition=7/heartbeats-<file id>-<hash>.parquet
//! staging/.dataset.lock                                       held while dataset.json is rewritten
//! staging/.probe-<id>/                                        a start-up probe under way
//! staging/date=2026-11-22/partition=7/
//!   .part_<claim id>-<hash>-<rows>.parquet                    fragment
//!   .index_<file id>-<hash>                                   identity index of a published file
//!   .tmp-<id>                                                 being written
//!   .next-<id>/                                               a replacement of the published folder being gathered
//!   .old-<id>/                                                what an exchange replaced; the id tells when
//!   .lock  .compact.lock
//!   quarantine/.part_….parquet, quarantine/.part_….parquet.json
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use uuid::Uuid;

use crate::heartbeat::{ClaimId, Partition};

/// A text that is no name of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a name of this kind")]
pub struct NotOurs;

/// One date and one partition, in either tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The UTC date of the rows' timestamps.
    pub date: Date,
    /// The partition of the rows' users.
    pub partition: Partition,
}

impl Bucket {
    /// The bucket of a timestamp in ms since the Unix epoch.
    ///
    /// Total: a timestamp outside the years that a date can name goes to the nearest date, so that no row is ever
    /// without a place.
    pub fn of(timestamp_ms: i64, partition: Partition) -> Self {
        let nearest = if timestamp_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let timestamp = Timestamp::from_millisecond(timestamp_ms).unwrap_or(nearest);
        Self { date: Offset::UTC.to_datetime(timestamp).date(), partition }
    }

    fn parse(date: &str, partition: &str) -> Result<Self, NotOurs> {
        Ok(Self { date: parse_date_folder(date)?, partition: parse_partition_folder(partition)? })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", date_folder(self.date), partition_folder(self.partition))
    }
}

impl FromStr for Bucket {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let (date, partition) = text.split_once('/').ok_or(NotOurs)?;
        Self::parse(date, partition)
    }
}

fn date_folder(date: Date) -> String {
    format!("date={date}")
}

fn partition_folder(partition: Partition) -> String {
    format!("partition={partition}")
}

pub(crate) fn parse_date_folder(text: &str) -> Result<Date, NotOurs> {
    let date = text.strip_prefix("date=").and_then(|date| date.parse().ok()).ok_or(NotOurs)?;
    if date_folder(date) == text { Ok(date) } else { Err(NotOurs) }
}

pub(crate) fn parse_partition_folder(text: &str) -> Result<Partition, NotOurs> {
    let partition = text.strip_prefix("partition=").and_then(|number| number.parse().ok()).ok_or(NotOurs)?;
    if partition_folder(partition) == text { Ok(partition) } else { Err(NotOurs) }
}

/// xxh3_64 of all bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub u64);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ContentHash {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        strict(text, u64::from_str_radix(text, 16).ok().map(Self))
    }
}

/// One published file: a UUIDv7, so that names sort by time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(Uuid);

impl FileId {
    /// A new id.
    #[allow(clippy::new_without_default, reason = "each call gives another id, so it is no default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, to the millisecond; the epoch for an id that does not tell.
    pub fn born(&self) -> Timestamp {
        let since_epoch = self.0.get_timestamp().map(|time| time.to_unix()).unwrap_or_default();
        i64::try_from(since_epoch.0)
            .and_then(|seconds| Ok(Timestamp::new(seconds, i32::try_from(since_epoch.1)?)))
            .ok()
            .and_then(Result::ok)
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// `.part_<claim id>-<hash>-<rows>.parquet`: what a batcher wrote of one claim for one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentName {
    /// The claim that its rows came with.
    pub claim: ClaimId,
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Rows in it.
    pub rows: u64,
}

impl fmt::Display for FragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".part_{}-{}-{}.parquet", self.claim, self.hash, self.rows)
    }
}

impl FromStr for FragmentName {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let parse = || {
            let stem = text.strip_prefix(".part_")?.strip_suffix(".parquet")?;
            let (stem, rows) = stem.rsplit_once('-')?;
            let (claim, hash) = stem.rsplit_once('-')?;
            Some(Self { claim: claim.parse().ok()?, hash: hash.parse().ok()?, rows: rows.parse().ok()? })
        };
        strict(text, parse())
    }
}

/// `heartbeats-<file id>-<hash>.parquet`: what readers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedName {
    /// The file.
    pub file: FileId,
    /// The hash of its bytes.
    pub hash: ContentHash,
}

impl PublishedName {
    fn parse_stem(stem: &str) -> Option<Self> {
        let (file, hash) = stem.rsplit_once('-')?;
        Some(Self { file: FileId(Uuid::parse_str(file).ok()?), hash: hash.parse().ok()? })
    }
}

impl fmt::Display for PublishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "heartbeats-{}-{}.parquet", self.file, self.hash)
    }
}

impl FromStr for PublishedName {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let stem = text.strip_prefix("heartbeats-").and_then(|text| text.strip_suffix(".parquet"));
        strict(text, stem.and_then(Self::parse_stem))
    }
}

/// Anything of ours that stands in a bucket of the staging tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staged {
    Fragment(FragmentName),
    Index(PublishedName),
    Temp(Uuid),
    Next(Uuid),
    Old(Uuid),
    Lock,
    CompactLock,
    Quarantine,
}

impl fmt::Display for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragment(name) => name.fmt(f),
            Self::Index(name) => write!(f, ".index_{}-{}", name.file, name.hash),
            Self::Temp(id) => write!(f, ".tmp-{id}"),
            Self::Next(id) => write!(f, ".next-{id}"),
            Self::Old(id) => write!(f, ".old-{id}"),
            Self::Lock => f.write_str(".lock"),
            Self::CompactLock => f.write_str(".compact.lock"),
            Self::Quarantine => f.write_str("quarantine"),
        }
    }
}

impl FromStr for Staged {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let id = |prefix| text.strip_prefix(prefix).and_then(|id| Uuid::parse_str(id).ok());
        let parsed = match text {
            ".lock" => Some(Self::Lock),
            ".compact.lock" => Some(Self::CompactLock),
            "quarantine" => Some(Self::Quarantine),
            _ => (id(".tmp-").map(Self::Temp))
                .or_else(|| id(".next-").map(Self::Next))
                .or_else(|| id(".old-").map(Self::Old))
                .or_else(|| text.strip_prefix(".index_").and_then(PublishedName::parse_stem).map(Self::Index))
                .or_else(|| text.parse().ok().map(Self::Fragment)),
        };
        strict(text, parsed)
    }
}

/// What was parsed, if it prints as exactly the text it was parsed from.
fn strict<T: fmt::Display>(text: &str, parsed: Option<T>) -> Result<T, NotOurs> {
    parsed.filter(|name| name.to_string() == text).ok_or(NotOurs)
}

/// Where everything of one dataset stands.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Its inside is the buffer's own.
    pub(super) fn buffer(&self) -> PathBuf {
        self.root.join("buffer")
    }

    pub(super) fn control_socket(&self) -> PathBuf {
        self.root.join(".systole.sock")
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.root.join("dataset.json")
    }

    /// A new name for the next content of `dataset.json`, beside it so that both are on one file system.
    pub(super) fn manifest_temp(&self) -> PathBuf {
        self.root.join(format!("{MANIFEST_TEMP}{}", Uuid::now_v7()))
    }

    pub(super) fn heartbeats(&self) -> PathBuf {
        self.root.join("heartbeats")
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(super) fn dataset_lock(&self) -> PathBuf {
        self.staging().join(DATASET_LOCK)
    }

    /// The folder of a bucket that readers see.
    pub(super) fn published_folder(&self, bucket: Bucket) -> PathBuf {
        self.heartbeats().join(date_folder(bucket.date)).join(partition_folder(bucket.partition))
    }

    pub(super) fn published(&self, bucket: Bucket, name: &PublishedName) -> PathBuf {
        self.published_folder(bucket).join(name.to_string())
    }

    /// The folder of a bucket in the staging tree.
    pub(super) fn staging_folder(&self, bucket: Bucket) -> PathBuf {
        self.staging().join(date_folder(bucket.date)).join(partition_folder(bucket.partition))
    }

    pub(super) fn staged(&self, bucket: Bucket, entry: Staged) -> PathBuf {
        self.staging_folder(bucket).join(entry.to_string())
    }

    pub(super) fn fragment(&self, bucket: Bucket, name: &FragmentName) -> PathBuf {
        self.staged(bucket, Staged::Fragment(*name))
    }

    /// A new name for a file being written.
    pub(super) fn temp(&self, bucket: Bucket) -> PathBuf {
        self.staged(bucket, Staged::Temp(Uuid::now_v7()))
    }

    pub(super) fn quarantine(&self, bucket: Bucket) -> PathBuf {
        self.staged(bucket, Staged::Quarantine)
    }
}

/// How the temp files of `dataset.json` begin.
pub(super) const MANIFEST_TEMP: &str = ".dataset.json.";
/// How the folders of start-up probes begin, in both trees.
pub(super) const PROBE: &str = ".probe-";
/// The lock that whoever rewrites `dataset.json` holds.
pub(super) const DATASET_LOCK: &str = ".dataset.lock";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLAIM: ClaimId = ClaimId::from_u128(0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc);

    #[test]
    fn a_file_id_tells_when_it_was_born() {
        let before = Timestamp::now();
        let born = FileId::new().born();
        // To the millisecond.
        assert!(born.as_millisecond() >= before.as_millisecond() && born <= Timestamp::now());
        assert_eq!(FileId(Uuid::nil()).born(), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn names_are_what_the_contract_says() {
        let fragment = FragmentName { claim: CLAIM, hash: ContentHash(0xab), rows: 3 };
        assert_eq!(fragment.to_string(), ".part_01923456-789a-7bcd-8ef0-123456789abc-00000000000000ab-3.parquet");
        let file = FileId(Uuid::from_u128(CLAIM.to_u128()));
        let published = PublishedName { file, hash: ContentHash(u64::MAX) };
        assert_eq!(published.to_string(), "heartbeats-01923456-789a-7bcd-8ef0-123456789abc-ffffffffffffffff.parquet");
        let bucket = Bucket::of(1_795_305_600_000, 7);
        assert_eq!(bucket.to_string(), "date=2026-11-22/partition=7");
    }

    #[test]
    fn every_timestamp_has_a_bucket() {
        for (timestamp, date) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (86_399_999, "1970-01-01"),
            (86_400_000, "1970-01-02"),
            (951_782_400_000, "2000-02-29"),
            (i64::MAX, "9999-12-30"),
            (i64::MIN, "-009999-01-02"),
        ] {
            let bucket = Bucket::of(timestamp, 1);
            assert_eq!(bucket.date.to_string(), date, "{timestamp}");
            assert_eq!(bucket.to_string().parse(), Ok(bucket));
        }
    }

    #[test]
    fn what_is_not_exactly_ours_is_a_stranger() {
        let id = "01923456-789a-7bcd-8ef0-123456789abc";
        for text in [
            String::new(),
            "heartbeats-.parquet".into(),
            format!("heartbeats-{id}-00000000000000AB.parquet"),
            format!("heartbeats-{id}-ab.parquet"),
            format!("heartbeats-{id}-+0000000000000ab.parquet"),
            format!("heartbeats-{{{id}}}-00000000000000ab.parquet"),
            format!("heartbeats-{}-00000000000000ab.parquet", id.to_uppercase()),
            format!("heartbeats-{id}-00000000000000ab.parquet.tmp"),
        ] {
            assert_eq!(text.parse::<PublishedName>(), Err(NotOurs), "{text}");
        }
        for text in [
            format!(".part_{id}-00000000000000ab-03.parquet"),
            format!(".part_{id}-00000000000000ab-.parquet"),
            format!(".part_{id}-00000000000000ab--1.parquet"),
            format!(".part_{}-00000000000000ab-3.parquet", id.replace('-', "")),
            ".tmp-1".into(),
            ".index_x".into(),
            "quarantine/".into(),
        ] {
            assert_eq!(text.parse::<Staged>(), Err(NotOurs), "{text}");
        }
        for text in
            ["date=2026-11-22/partition=07", "date=2026-1-2/partition=7", "date=2026-11-22", "date=x/partition=1"]
        {
            assert_eq!(text.parse::<Bucket>(), Err(NotOurs), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_survive_their_text_form(id: u128, hash: u64, rows: u64, timestamp: i64, partition: Partition) {
            let (claim, file) = (ClaimId::from_u128(id), FileId(Uuid::from_u128(id)));
            let fragment = FragmentName { claim, hash: ContentHash(hash), rows };
            let published = PublishedName { file, hash: ContentHash(hash) };
            let bucket = Bucket::of(timestamp, partition);
            prop_assert_eq!(fragment.to_string().parse(), Ok(fragment));
            prop_assert_eq!(published.to_string().parse(), Ok(published));
            prop_assert_eq!(bucket.to_string().parse(), Ok(bucket));
            let id = Uuid::from_u128(id);
            for staged in [Staged::Fragment(fragment), Staged::Index(published), Staged::Temp(id), Staged::Next(id), Staged::Old(id)] {
                prop_assert_eq!(staged.to_string().parse(), Ok(staged));
            }
        }

        #[test]
        fn no_text_makes_a_name_that_leaves_its_folder(text in ".*") {
            if let Ok(staged) = text.parse::<Staged>() {
                prop_assert!(!staged.to_string().contains('/'));
            }
        }
    }
}
