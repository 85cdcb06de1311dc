//! The identity index: does a row with this identity stand in a published file? Answered without reading the file.
//!
//! Constraints: what is read follows the rows asked for, not the rows published; damage is noticed before it can turn a
//! "stands" into a "does not"; and the index is only a shortcut: it can be built anew from its file at any time, and what
//! it finds is confirmed in the file.
//!
//! Format of `.index_<file id>-<hash>`, little-endian:
//!
//! ```text
//! header   magic "SYSTIDX\0", version u32 (2), rows u32, hash of the published file u64,
//!          upper half of the last key, plus one, u32 (0 when there are no rows),
//!          a bit for each minute of the day that has entries, from the lowest bit of the first byte on, 180 bytes,
//!          for each page the upper half of its first key u32,
//!          xxh3_64 of all that u64
//! blocks   10 entries each, the last one fewer: key u64, row number u32;
//!          then xxh3_64 of the entries, seeded with the file's hash xor the block's number, u64
//! ```
//!
//! A key is the minute of the day of the row's timestamp (11 bits), then the upper 53 bits of its identity hash. Entries
//! are sorted, so those of one minute are neighbours, and within it the keys are spread evenly, whatever the seconds are.
//! A page is as many whole blocks as make at most 1,024 pages of the file.
//!
//! A search knows from the header between which pages its key stands. It reads the block where the key should be if those
//! between are spread evenly, and knows more: of a million rows it reads two blocks of 128 bytes for each that it looks for.

mod build;
mod file;
mod format;
mod lookup;

use std::sync::{Arc, PoisonError};

pub(super) use build::KeySorter;
pub(super) use file::IndexFile;
pub(super) use format::Header;
pub use lookup::IdentityLookup;

use super::error::{At, Error, Result};
use super::paths::Staged;
use super::temp::TempFile;
use super::{Bucket, Dataset, PublishedName, RowReader};
use crate::failpoint;
use crate::heartbeat::HeartbeatRef;

/// Headers of indexes kept in memory, so that a compactor that runs on opens no index it does not need. At most 5 KB each.
const KNOWN_HEADERS: usize = 2_048;
const MS_PER_MINUTE: i64 = 60_000;
const MINUTES_PER_DAY: i64 = 24 * 60;
/// Bits of a key below the minute.
const HASH_BITS: u32 = 53;

/// The key of a row: its minute of the day, then the upper bits of its identity hash.
pub(super) fn key_of(row: &HeartbeatRef<'_>) -> u64 {
    // Between 0 and 1439, whatever the timestamp.
    let minute = row.timestamp.div_euclid(MS_PER_MINUTE).rem_euclid(MINUTES_PER_DAY) as u64;
    (minute << HASH_BITS) | (row.identity_hash() >> (u64::BITS - HASH_BITS))
}

fn minute_of(key: u64) -> u16 {
    (key >> HASH_BITS) as u16
}

impl Dataset {
    /// Prepares to look identities up in these published files of a bucket. The caller holds the bucket's
    /// [`super::CompactionLock`].
    ///
    /// An index that is missing or damaged is built anew from its file, after the whole file was verified.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::NotFound`] for a published file, [`Error::Io`].
    pub fn identity_lookup(&self, bucket: Bucket, published: &[PublishedName]) -> Result<IdentityLookup> {
        IdentityLookup::new(self.clone(), bucket, published)
    }

    /// The header of an index, from memory where it is known.
    fn index_header(&self, bucket: Bucket, name: &PublishedName) -> Result<(Arc<Header>, u64)> {
        let headers = || self.inner.index_headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = headers().get(name) {
            return Ok((Arc::clone(known), 0));
        }
        let index = match IndexFile::open(&self.paths().staged(bucket, Staged::Index(*name)), name.hash) {
            Err(Error::Damaged { reason, .. }) => self.rebuild_index(bucket, name, &reason)?,
            Err(Error::NotFound { .. }) => self.rebuild_index(bucket, name, "it is missing")?,
            other => other?,
        };
        let header = index.header();
        let mut headers = headers();
        if headers.len() >= KNOWN_HEADERS {
            headers.clear();
        }
        headers.insert(*name, Arc::clone(&header));
        Ok((header, index.bytes_read()))
    }

    /// Removes the index of a file that was not published after all, as far as that goes: it is no more than a leftover, and
    /// where the file was published without anybody knowing it is built anew.
    pub(super) fn forget_index(&self, bucket: Bucket, name: &PublishedName) {
        let _ = self.fs().remove_file(&self.paths().staged(bucket, Staged::Index(*name)));
    }

    /// Builds an index anew from its published file and opens it.
    fn rebuild_index(&self, bucket: Bucket, name: &PublishedName, reason: &str) -> Result<IndexFile> {
        tracing::warn!(%bucket, file = %name, reason, "building an identity index anew");
        self.verify_published(bucket, name)?;
        let mut reader = self.open_published(bucket, name)?;
        let folder = self.paths().staging_folder(bucket);
        self.ensure_folder(&folder)?;
        let keys = self.keys_of(bucket, &mut reader)?;
        let temp = self.write_index(bucket, *name, keys)?;
        let path = self.paths().staged(bucket, Staged::Index(*name));
        temp.rename_to(&path)?;
        self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
        IndexFile::open(&path, name.hash)
    }

    fn keys_of(&self, bucket: Bucket, reader: &mut RowReader) -> Result<KeySorter> {
        let mut keys = KeySorter::new(self.clone(), bucket);
        while let Some(batch) = reader.next_batch()? {
            batch.rows().try_for_each(|row| keys.push(key_of(&row)))?;
        }
        Ok(keys)
    }

    /// Writes an index as a temp file, synced.
    pub(super) fn write_index(&self, bucket: Bucket, name: PublishedName, keys: KeySorter) -> Result<TempFile> {
        let (temp, file) = TempFile::create(self, bucket)?;
        let file = build::write(keys, name.hash, file).at("write", temp.path())?;
        failpoint::reached("publish.index_written").at("write", temp.path())?;
        self.fs().sync_file(&file, temp.path()).at("sync", temp.path())?;
        Ok(temp)
    }
}

#[cfg(test)]
mod tests;
