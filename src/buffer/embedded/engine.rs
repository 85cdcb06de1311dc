//! The embedded store: fjall, tuned for a queue within a small memory.
//!
//! Constraints:
//! - Everything is written by [`Engine::commit`]: one batch, synced to the disk before it returns.
//! - After any error of a commit nothing more is trusted from this value: it is dropped and the store opened anew.
//! - fjall waits without end inside a commit when flushing has stopped; [`Engine::has_headroom`] says beforehand whether
//!   it would.
//!
//! Frames are never deleted one by one. What lies below the first sequence number that a partition keeps ([`Marks`]) is
//! garbage, which a compaction leaves out; [`Engine::tidy`] compacts all when there is much of it.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::config::FilterPolicy;
use fjall::{Database, JournalRecoveryError, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::super::{Error, Result};
use super::{birth, journal, keys};
use crate::heartbeat::Partition;

// Memory: of the 256 MiB that a whole process may take, the store gets about 36: 4 of cache, and per keyspace one
// memtable that fills and up to two that are being flushed (3 × 8 for frames, 3 × 2 for the books), and what a
// compaction reads ahead.

/// Blocks are read once, by the claim that takes their frames, so there is little to gain from a large cache.
const CACHE_BYTES: u64 = 4 << 20;
/// Frames in memory before they are flushed to a table. Most are acknowledged before and never reach one.
const FRAMES_MEMTABLE_BYTES: u64 = 8 << 20;
/// Records are small and overwrite each other.
const BOOKS_MEMTABLE_BYTES: u64 = 2 << 20;
/// Tables are small, so that a compaction needs little room on a disk that is almost full.
const TABLE_BYTES: u64 = 16 << 20;
/// The least that fjall allows. A start replays up to so much, and one journal more.
const JOURNALS_BYTES: u64 = 64 << 20;
/// Open files: each table is one.
const OPEN_FILES: usize = 128;
/// One flushes even while the other compacts.
const WORKERS: usize = 2;
/// fjall halts a commit at 4; each that waits takes memory.
const SEALED_MEMTABLES_MAX: usize = 2;
/// fjall slows a commit down from 20 on, and halts it at 30.
const LEVEL_0_TABLES_MAX: usize = 18;
/// Garbage that is left lying: compacting all for less is not worth its writes.
const GARBAGE_BYTES: u64 = 128 << 20;

/// One write of a batch.
#[derive(Debug)]
pub(super) enum Write {
    /// A frame under its sequence number.
    Frame(Partition, u64, Bytes),
    /// An entry of the books.
    Put(Vec<u8>, Vec<u8>),
    /// No more entry of the books.
    Remove(Vec<u8>),
}

/// The first sequence number that each partition keeps.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<Vec<u64>>);

impl Marks {
    /// Raises the mark of a partition, once that is on disk.
    pub(super) fn set(&self, partition: Partition, first: u64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::from(partition);
        if marks.len() <= at {
            marks.resize(at + 1, 0);
        }
        marks[at] = first;
    }

    fn now(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Leaves frames below the marks out of what a compaction writes.
struct Garbage(Vec<u64>);

impl CompactionFilter for Garbage {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        // A frame is written once, so nothing older of its key can come to light.
        let garbage = keys::read_frame(item.key()).is_some_and(|(partition, sequence)| {
            self.0.get(usize::from(partition)).is_some_and(|first| sequence < *first)
        });
        Ok(if garbage { Verdict::Destroy } else { Verdict::Keep })
    }
}

struct GarbageFactory(Arc<Marks>);

impl Factory for GarbageFactory {
    fn name(&self) -> &str {
        "acknowledged frames"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Garbage(self.0.now()))
    }
}

/// The open store.
pub(super) struct Engine {
    // Dropped in this order.
    frames: Keyspace,
    books: Keyspace,
    database: Database,
    life: Arc<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A fault of the store below: whether a step under way took effect is unknown.
fn fault(what: &str, error: &fjall::Error) -> Error {
    Error::Unreachable { reason: format!("the embedded store failed to {what}: {error:?}") }
}

impl Engine {
    /// Opens the store in `dir`, making it if need be, and looks at its format.
    pub(super) fn open(dir: &Path, marks: Arc<Marks>) -> Result<Self> {
        let failed = |error: fjall::Error| fault("make the store", &error);
        // With nothing in it yet, so that its first opening has nothing to replay and to flush.
        let make = |aside: &Path| Self::open_once(aside, &marks).map(drop).map_err(failed);
        birth::ensure(dir, |error| failed(fjall::Error::Io(error)), make)?;
        Self::open_whole(dir, marks)
    }

    fn open_whole(dir: &Path, marks: Arc<Marks>) -> Result<Self> {
        let engine = match Self::open_once(dir, &marks) {
            Err(fjall::Error::JournalRecovery(
                JournalRecoveryError::ChecksumMismatch
                | JournalRecoveryError::InsufficientLength
                | JournalRecoveryError::TooManyItems,
            )) => {
                cut_torn_tail(dir)?;
                Self::open_once(dir, &marks)
            }
            opened => opened,
        }
        .map_err(|error| match error {
            fjall::Error::Io(_) | fjall::Error::Locked | fjall::Error::Poisoned => fault("open", &error),
            error => Error::Corrupt { detail: format!("the store in {}: {error:?}", dir.display()) },
        })?;
        engine.check_format()?;
        Ok(engine)
    }

    fn open_once(dir: &Path, marks: &Arc<Marks>) -> fjall::Result<Self> {
        journal::begin_anew(dir)?;
        let marks = marks.clone();
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNALS_BYTES)
            .worker_threads(WORKERS)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                (keyspace == "frames").then(|| Arc::new(GarbageFactory(marks.clone())) as Arc<dyn Factory>)
            }))
            .open()?;
        // Frames are read by ranges that exist, so filters for missing keys would be dead weight.
        let frames =
            database.keyspace("frames", || tuned(FRAMES_MEMTABLE_BYTES).filter_policy(FilterPolicy::disabled()))?;
        let books = database.keyspace("books", || tuned(BOOKS_MEMTABLE_BYTES))?;
        Ok(Self { frames, books, database, life: Arc::default() })
    }

    /// Leads nowhere once this value is gone, its locks and threads with it.
    pub(super) fn life(&self) -> Weak<()> {
        Arc::downgrade(&self.life)
    }

    fn check_format(&self) -> Result<()> {
        match self.get(keys::FORMAT_KEY)? {
            None => self.commit([Write::Put(keys::FORMAT_KEY.into(), keys::FORMAT.into())]),
            Some(found) if found == keys::FORMAT.as_bytes() => Ok(()),
            Some(found) => {
                let found = String::from_utf8_lossy(&found).chars().take(20).collect::<String>();
                let advice = format!("the embedded buffer has format {found}; this binary knows {}", keys::FORMAT);
                Err(Error::Unsafe { advice })
            }
        }
    }

    /// Writes all of it or nothing, and returns once it is on disk. After an error either may be the case.
    pub(super) fn commit(&self, writes: impl IntoIterator<Item = Write>) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for write in writes {
            match write {
                Write::Frame(partition, sequence, frame) => {
                    batch.insert(&self.frames, keys::frame(partition, sequence), &frame[..]);
                }
                Write::Put(key, value) => batch.insert(&self.books, key, value),
                Write::Remove(key) => batch.remove(&self.books, key),
            }
        }
        batch.commit().map_err(|error| fault("commit", &error))
    }

    /// Whether a commit would go through without waiting for flushes or compactions.
    pub(super) fn has_headroom(&self) -> bool {
        [&self.frames, &self.books].into_iter().all(|keyspace| {
            keyspace.sealed_memtable_count() < SEALED_MEMTABLES_MAX && keyspace.l0_table_count() < LEVEL_0_TABLES_MAX
        })
    }

    /// Fails when a worker or a commit of this value has failed.
    pub(super) fn check(&self) -> Result<()> {
        // Nothing waits to be written between commits, so this only asks.
        self.database.persist(PersistMode::Buffer).map_err(|error| fault("go on", &error))
    }

    /// An entry of the books.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let found = self.books.get(key).map_err(|error| fault("read", &error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The entries of the books whose keys begin so.
    pub(super) fn under(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Bytes)>> + use<> {
        read(self.books.prefix(prefix))
    }

    /// The entries of the books in a range.
    pub(super) fn within(&self, range: Range<Vec<u8>>) -> impl Iterator<Item = Result<(Vec<u8>, Bytes)>> + use<> {
        read(self.books.range(range))
    }

    /// The same from the end.
    pub(super) fn within_from_end(
        &self,
        range: Range<Vec<u8>>,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Bytes)>> + use<> {
        read(self.books.range(range).rev())
    }

    /// The frames of a partition in a range of sequence numbers, none of which may be missing.
    pub(super) fn frames(
        &self,
        partition: Partition,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<Bytes>> + use<> {
        let found = read(self.frames.range(keys::frame(partition, range.start)..keys::frame(partition, range.end)));
        // One entry for each number, or one error where the first is missing.
        let mut found = found.fuse();
        let mut missing = false;
        range.map_while(move |sequence| {
            if missing {
                return None;
            }
            let entry = match found.next() {
                Some(Ok((key, _))) if keys::read_frame(&key) != Some((partition, sequence)) => None,
                entry => entry,
            };
            let lost = || Error::Corrupt { detail: format!("frame {sequence} of partition {partition} is missing") };
            let entry = entry.unwrap_or_else(|| Err(lost()));
            missing = entry.is_err();
            Some(entry.map(|(_, frame)| frame))
        })
    }

    /// The frames of a partition that there are in a range of sequence numbers, each with its number.
    pub(super) fn frames_there(
        &self,
        partition: Partition,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<(u64, Bytes)>> + use<> {
        let end = range.end.max(range.start);
        let found = read(self.frames.range(keys::frame(partition, range.start)..keys::frame(partition, end)));
        found.map(|entry| {
            let (key, frame) = entry?;
            let wrong = || Error::Corrupt { detail: "a frame under a key that cannot be read".into() };
            Ok((keys::read_frame(&key).ok_or_else(wrong)?.1, frame))
        })
    }

    /// Whether so much of what the tables hold is garbage that [`Engine::tidy`] is worth its writes: as much as it would
    /// have to copy, at least.
    pub(super) fn is_untidy(&self, kept_bytes: u64) -> bool {
        self.frames.disk_space() > 2 * kept_bytes + GARBAGE_BYTES
    }

    /// Rewrites the tables without garbage. Takes as long as copying what is kept, and so much room for the while.
    pub(super) fn tidy(&self) -> Result<()> {
        self.frames.major_compact().map_err(|error| fault("compact", &error))?;
        // The old tables are deleted when a memtable is rotated next, which needs something in it.
        self.commit([Write::Put(keys::TIDIED_KEY.into(), Vec::new())])?;
        self.books.rotate_memtable().map(drop).map_err(|error| fault("delete old tables", &error))
    }
}

fn tuned(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
}

fn read(found: impl Iterator<Item = fjall::Guard>) -> impl Iterator<Item = Result<(Vec<u8>, Bytes)>> {
    found.map(|entry| {
        let (key, value) = entry.into_inner().map_err(|error| fault("read", &error))?;
        Ok((key.to_vec(), Bytes::copy_from_slice(&value)))
    })
}

fn cut_torn_tail(dir: &Path) -> Result<()> {
    match journal::cut_torn_tail(dir) {
        Ok(None) => Ok(()),
        Ok(Some(bytes)) => {
            tracing::warn!(
                bytes,
                "cut off the end of the journal, which a power cut had torn; it was never acknowledged"
            );
            Ok(())
        }
        Err(error) => Err(Error::Unreachable { reason: format!("cannot mend the journal: {error}") }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn tidying_leaves_nothing_of_what_lies_below_the_marks() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Arc::new(Marks::default());
        let engine = Engine::open(dir.path(), marks.clone()).unwrap();
        let frame = Bytes::from(vec![7; 256 << 10]);
        for sequence in 0..200 {
            engine.commit([0, 1].map(|partition| Write::Frame(partition, sequence, frame.clone()))).unwrap();
        }
        let give_up = Instant::now() + Duration::from_secs(20);
        while engine.frames.disk_space() < 80 << 20 {
            assert!(Instant::now() < give_up, "nothing is flushed");
            std::thread::sleep(Duration::from_millis(10));
        }
        marks.set(0, 200);
        marks.set(1, 198);
        engine.tidy().unwrap();
        assert!(engine.frames.disk_space() < 20 << 20, "{}", engine.frames.disk_space());
        assert_eq!(engine.frames(1, 198..200).map(Result::unwrap).collect::<Vec<_>>(), [frame.clone(), frame]);
        let lost = engine.frames(1, 0..200).next();
        assert!(matches!(lost, Some(Err(Error::Corrupt { .. }))), "what is gone is missed");
    }
}
