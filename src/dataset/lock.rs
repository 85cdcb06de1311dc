//! Locks of a bucket, by flock(2).
//!
//! Constraints: a lock is waited for by polling with a deadline, because a stopped process keeps its lock for ever; a lock
//! file is never deleted; the descriptor is closed on exec (std opens all files so), because a child that inherited it
//! would keep the lock.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::error::{At, Error, Result};
use super::fs::FileSystem;
use super::paths::Staged;
use super::{Bucket, Dataset};

/// The first wait between two tries; it doubles up to [`LONGEST_WAIT`]. Batchers hold the lock for one rename and fsync.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Held: `.lock` of a bucket. Released when dropped.
#[derive(Debug)]
#[must_use = "a lock that is dropped at once locks nothing"]
pub struct BucketLock {
    _file: File,
}

/// Held: `.compact.lock` of a bucket. Released when dropped.
#[derive(Debug)]
#[must_use = "a lock that is dropped at once locks nothing"]
pub struct CompactionLock {
    _file: File,
}

impl Dataset {
    /// Shares the bucket with other batchers; waits up to `lock_deadline` while a compactor lists or deletes.
    ///
    /// # Errors
    /// [`Error::LockTimeout`], [`Error::Io`].
    pub fn lock_bucket_shared(&self, bucket: Bucket) -> Result<BucketLock> {
        self.lock_bucket(bucket, FileExt::try_lock_shared)
    }

    /// Keeps all others out of the bucket; waits up to `lock_deadline` for batchers that are renaming.
    ///
    /// # Errors
    /// [`Error::LockTimeout`], [`Error::Io`].
    pub fn lock_bucket_exclusive(&self, bucket: Bucket) -> Result<BucketLock> {
        self.lock_bucket(bucket, FileExt::try_lock_exclusive)
    }

    /// Keeps other compactors out of the bucket; `None`, at once, when one is in it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_lock_compaction(&self, bucket: Bucket) -> Result<Option<CompactionLock>> {
        self.ensure_folder(&self.paths().staging_folder(bucket))?;
        let path = self.paths().staged(bucket, Staged::CompactLock);
        let file = self.fs().open_lock(&path).at("open the lock", &path)?;
        let taken = try_lock(&file, FileExt::try_lock_exclusive).at("lock", &path)?;
        Ok(taken.then_some(CompactionLock { _file: file }))
    }

    fn lock_bucket(&self, bucket: Bucket, try_once: fn(&File) -> io::Result<()>) -> Result<BucketLock> {
        self.ensure_folder(&self.paths().staging_folder(bucket))?;
        let path = self.paths().staged(bucket, Staged::Lock);
        acquire(self.fs(), &path, self.inner.lock_deadline, try_once).map(|file| BucketLock { _file: file })
    }
}

/// Waits up to `deadline` for a lock; it is held until the file is dropped.
pub(super) fn acquire(
    fs: &dyn FileSystem,
    path: &Path,
    deadline: Duration,
    try_once: fn(&File) -> io::Result<()>,
) -> Result<File> {
    let file = fs.open_lock(path).at("open the lock", path)?;
    let began = Instant::now();
    let mut wait = FIRST_WAIT;
    while !try_lock(&file, try_once).at("lock", path)? {
        let left = deadline.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(Error::LockTimeout { path: path.to_owned(), after: deadline });
        }
        std::thread::sleep(wait.min(left));
        wait = (2 * wait).min(LONGEST_WAIT);
    }
    Ok(file)
}

/// Whether the lock was free and is now held.
fn try_lock(file: &File, try_once: fn(&File) -> io::Result<()>) -> io::Result<bool> {
    match try_once(file) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Scratch;
    use super::*;

    const BUCKET: Bucket = Bucket { date: jiff::civil::date(2026, 11, 22), partition: 7 };

    #[test]
    fn batchers_share_and_a_compactor_waits_for_them_until_its_deadline() {
        let scratch = Scratch::with_lock_deadline(Duration::from_millis(50));
        let dataset = &scratch.dataset;
        let first = dataset.lock_bucket_shared(BUCKET).unwrap();
        let second = dataset.lock_bucket_shared(BUCKET).unwrap();
        let refused = dataset.lock_bucket_exclusive(BUCKET).unwrap_err();
        assert!(matches!(refused, Error::LockTimeout { .. }), "{refused}");
        drop((first, second));
        let exclusive = dataset.lock_bucket_exclusive(BUCKET).unwrap();
        assert!(matches!(dataset.lock_bucket_shared(BUCKET), Err(Error::LockTimeout { .. })));
        let _other_bucket = dataset.lock_bucket_exclusive(Bucket { partition: 8, ..BUCKET }).unwrap();
        drop(exclusive);
    }

    #[test]
    fn a_waiting_process_gets_the_lock_once_it_is_free() {
        let scratch = Scratch::new();
        let held = scratch.dataset.lock_bucket_shared(BUCKET).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| scratch.dataset.lock_bucket_exclusive(BUCKET).map(|_| ()));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn one_compactor_at_a_time_and_batchers_do_not_wait_for_it() {
        let scratch = Scratch::new();
        let held = scratch.dataset.try_lock_compaction(BUCKET).unwrap();
        assert!(held.is_some());
        assert!(scratch.dataset.try_lock_compaction(BUCKET).unwrap().is_none());
        let _shared = scratch.dataset.lock_bucket_shared(BUCKET).unwrap();
        drop(held);
        assert!(scratch.dataset.try_lock_compaction(BUCKET).unwrap().is_some());
    }
}
