//! Fragments: what a batcher made of one claim for one bucket, waiting in the staging tree to be merged.
//!
//! Constraints: the same rows make the same bytes, so that a claim written again lands on the same names; a fragment
//! under its final name is whole and on the disk; and no fragment is read before its bytes were checked against its
//! name, from the very memory that was checked.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::error::{At, Error, Result, or_not_found, tolerate_gone};
use super::hashing::{hash_of, verify_bytes};
use super::rows::{RowReader, RowWriter, WriteError};
use super::temp::TempFile;
use super::{Bucket, ContentHash, Dataset, FragmentName, tree};
use crate::failpoint;
use crate::heartbeat::{ClaimId, HeartbeatRef};

/// A fragment as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFragment {
    /// The whole Parquet file.
    pub bytes: Vec<u8>,
    /// The hash of `bytes`.
    pub hash: ContentHash,
    /// Rows in it.
    pub rows: u64,
}

/// Encodes rows that stand in the sort order. Pure and deterministic.
///
/// # Errors
/// [`Error::Unwritable`]: the rows are at fault (no writer takes them, or they are out of order).
pub fn encode_fragment(sorted: &[HeartbeatRef<'_>]) -> Result<EncodedFragment> {
    let encode = || {
        let mut writer = RowWriter::new(Vec::new())?;
        writer.push_all(sorted)?;
        writer.finish("fragment", Vec::new())
    };
    let bytes = encode().map_err(|error| match error {
        WriteError::Rows(reason) => Error::Unwritable { reason },
        WriteError::Sink(source) => Error::Unwritable { reason: source.to_string() },
    })?;
    Ok(EncodedFragment { hash: hash_of(&bytes), bytes, rows: sorted.len() as u64 })
}

impl Dataset {
    /// Puts a fragment durably under its final name; takes the bucket's lock, shared, for the last step.
    ///
    /// Idempotent: a fragment of this name with the right content is success, and one with other content is replaced.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::LockTimeout`], [`Error::Elsewhere`], [`Error::Damaged`] when the disk does not give back what
    /// was written: all faults of the world. Try again: each attempt writes a new file.
    pub fn store_fragment(&self, bucket: Bucket, claim: ClaimId, fragment: &EncodedFragment) -> Result<FragmentName> {
        let name = FragmentName { claim, hash: fragment.hash, rows: fragment.rows };
        let (folder, path) = (self.paths().staging_folder(bucket), self.paths().fragment(bucket, &name));
        self.ensure_folder(&folder)?;
        // An attempt before this one may have died between its rename and the sync of the folder, or of the file's
        // content at that: so it is read, and what stands is only trusted if it is whole.
        if self.stands(&path, &name) {
            self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
            self.confirm_home()?;
            return Ok(name);
        }
        let temp = self.write_fragment(bucket, &name, &fragment.bytes)?;
        let lock = self.lock_bucket_shared(bucket)?;
        temp.rename_to(&path)?;
        // If a step fails from here on, the fragment stays: another batcher with the same claim may have found it standing,
        // synced the folder and acknowledged the claim.
        failpoint::reached("fragment.renamed").at("rename into place", &path)?;
        self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
        drop(lock);
        failpoint::reached("fragment.folder_synced").at("sync the folder", &folder)?;
        self.confirm_home()?;
        Ok(name)
    }

    fn stands(&self, path: &Path, name: &FragmentName) -> bool {
        fs::read(path).is_ok_and(|bytes| verify_bytes(path, &bytes, name.hash).is_ok())
    }

    fn write_fragment(&self, bucket: Bucket, name: &FragmentName, bytes: &[u8]) -> Result<TempFile> {
        let (temp, mut file) = TempFile::create(self, bucket)?;
        let reached = |step| failpoint::reached(step).at("write", temp.path());
        reached("fragment.created")?;
        file.write_all(bytes).at("write", temp.path())?;
        reached("fragment.written")?;
        self.fs().sync_file(&file, temp.path()).at("sync", temp.path())?;
        drop(file);
        reached("fragment.synced")?;
        read_fragment(temp.path(), name)?;
        reached("fragment.verified")?;
        Ok(temp)
    }

    /// The fragments of a bucket, sorted by name, hence by claim. Takes no lock.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`].
    pub fn list_fragments(&self, bucket: Bucket) -> Result<Vec<FragmentName>> {
        let names = tree::names(&self.paths().staging_folder(bucket))?;
        self.confirm_home()?;
        Ok(names)
    }

    /// Reads a fragment into memory and checks it against its name before handing out any of it.
    ///
    /// It takes the memory of the whole file, which the batchers' budget bounds, and of one window of rows.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NotFound`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn open_fragment(&self, bucket: Bucket, name: &FragmentName) -> Result<RowReader> {
        read_fragment(&self.paths().fragment(bucket, name), name)
    }

    /// Opens a fragment for a reader, who wants few of its rows: each row group is checked before it is decoded, the file as
    /// a whole is not, and does not come into memory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn stream_fragment(&self, bucket: Bucket, name: &FragmentName) -> Result<RowReader> {
        let path = self.paths().fragment(bucket, name);
        of_its_name(RowReader::open(&path)?, &path, name)
    }

    /// Checks a fragment against hash and row count in its name.
    ///
    /// # Errors
    /// Those of [`open_fragment`](Self::open_fragment).
    pub fn verify_fragment(&self, bucket: Bucket, name: &FragmentName) -> Result<()> {
        self.open_fragment(bucket, name).map(|_| ())
    }

    /// Removes fragments that were merged, and syncs. The caller holds the bucket's lock exclusively.
    ///
    /// Tolerates what is gone.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`].
    pub fn delete_fragments(&self, bucket: Bucket, names: &[FragmentName]) -> Result<()> {
        self.confirm_home()?;
        let folder = self.paths().staging_folder(bucket);
        for name in names {
            let path = self.paths().fragment(bucket, name);
            tolerate_gone(self.fs().remove_file(&path)).at("remove", &path)?;
            failpoint::reached("fragments.removed").at("remove", &path)?;
        }
        if !names.is_empty() {
            self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
            failpoint::reached("fragments.removals_synced").at("sync the folder", &folder)?;
        }
        Ok(())
    }

    /// Time since a fragment was written, by its mtime.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn fragment_age(&self, bucket: Bucket, name: &FragmentName) -> Result<Duration> {
        tree::age(&self.paths().fragment(bucket, name), self.fs().now())
    }
}

fn read_fragment(path: &Path, name: &FragmentName) -> Result<RowReader> {
    let bytes = match fs::read(path) {
        // A folder of this name, say.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(Error::damaged(path, "it is a folder"));
        }
        other => or_not_found(other, "read", path)?,
    };
    verify_bytes(path, &bytes, name.hash)?;
    of_its_name(RowReader::from_bytes(path, bytes)?, path, name)
}

fn of_its_name(reader: RowReader, path: &Path, name: &FragmentName) -> Result<RowReader> {
    if reader.rows() != name.rows {
        return Err(Error::damaged(path, format!("it has {} rows, not {} as in its name", reader.rows(), name.rows)));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::super::test_support::{Scratch, beats, rows_of};
    use super::super::{Options, RealFs};
    use super::*;
    use crate::heartbeat::Heartbeat;

    const BUCKET: Bucket = Bucket { date: jiff::civil::date(2026, 11, 22), partition: 7 };

    fn encode(rows: &[Heartbeat]) -> EncodedFragment {
        encode_fragment(&rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_fragment_is_synced_checked_and_renamed_in_this_order() {
        let scratch = Scratch::recorded();
        let fragment = encode(&beats(3));
        drop(scratch.dataset.lock_bucket_shared(BUCKET).unwrap());
        scratch.steps();
        let name = scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap();
        let folder = format!("staging/{BUCKET}");
        assert_eq!(
            scratch.steps(),
            [
                format!("create_new {folder}/.tmp-<id>"),
                format!("sync_file {folder}/.tmp-<id>"),
                format!("open_lock {folder}/.lock"),
                format!("rename {folder}/.tmp-<id> {folder}/.part_<id>-{}-3.parquet", fragment.hash),
                format!("sync_dir {folder}"),
            ]
        );
        assert_eq!(scratch.dataset.list_fragments(BUCKET).unwrap(), [name]);
        let again = scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap();
        assert_eq!(again, name);
        assert_eq!(scratch.steps(), [format!("sync_dir {folder}")], "what stands is kept");
    }

    #[test]
    fn after_a_failed_step_nothing_is_left_and_the_next_attempt_writes_a_new_file() {
        let scratch = Scratch::recorded();
        let fragment = encode(&beats(3));
        for step in ["create_new", "sync_file", "rename", "open_lock"] {
            scratch.fs().refuse(step, io::ErrorKind::StorageFull);
            let error = scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap_err();
            assert!(matches!(error, Error::Io { .. }) && !error.is_fault_of_data(), "{step}: {error}");
            scratch.fs().allow_all();
            let folder = scratch.dataset.paths().staging_folder(BUCKET);
            let left = super::super::test_support::entries_below(&folder);
            assert!(left.iter().all(|name| name == ".lock"), "{step}: {left:?}");
        }
        scratch.steps();
        scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap();
        assert!(scratch.steps()[0].starts_with("create_new"), "a file whose sync failed is never synced again");
    }

    #[test]
    fn a_torn_fragment_under_the_final_name_is_written_again() {
        let scratch = Scratch::new();
        let rows = beats(3);
        let fragment = encode(&rows);
        let name = scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap();
        let path = scratch.dataset.paths().fragment(BUCKET, &name);
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(matches!(scratch.dataset.open_fragment(BUCKET, &name), Err(Error::Damaged { .. })));
        scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap();
        assert_eq!(rows_of(&mut scratch.dataset.open_fragment(BUCKET, &name).unwrap()), rows);
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let scratch = Scratch::new();
        let fragment = encode(&beats(2));
        let name = scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &fragment).unwrap();
        let path = scratch.dataset.paths().fragment(BUCKET, &name);
        let file = File::options().write(true).open(&path).unwrap();
        let is_damaged = |what: String| {
            let error = scratch.dataset.open_fragment(BUCKET, &name).expect_err(&what);
            assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
        };
        for (at, byte) in fragment.bytes.iter().enumerate() {
            for bit in 0..8 {
                file.write_all_at(&[byte ^ (1 << bit)], at as u64).unwrap();
                is_damaged(format!("bit {bit} of byte {at}"));
            }
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
        scratch.dataset.open_fragment(BUCKET, &name).unwrap();
        file.write_all_at(b"x", fragment.bytes.len() as u64).unwrap();
        is_damaged("a byte too many".into());
        for len in (0..fragment.bytes.len()).rev() {
            file.set_len(len as u64).unwrap();
            is_damaged(format!("cut to {len}"));
        }
        let renamed = FragmentName { rows: 3, ..name };
        fs::write(scratch.dataset.paths().fragment(BUCKET, &renamed), &fragment.bytes).unwrap();
        assert!(matches!(scratch.dataset.open_fragment(BUCKET, &renamed), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_fragment_that_is_gone_is_not_damaged_and_deleting_it_is_done() {
        let scratch = Scratch::new();
        let name = FragmentName { claim: ClaimId::from_u128(1), hash: ContentHash(1), rows: 1 };
        assert!(matches!(scratch.dataset.open_fragment(BUCKET, &name), Err(Error::NotFound { .. })));
        drop(scratch.dataset.lock_bucket_exclusive(BUCKET).unwrap());
        scratch.dataset.delete_fragments(BUCKET, &[name]).unwrap();
    }

    #[test]
    fn rows_out_of_order_are_the_datas_fault() {
        let mut rows = beats(3);
        rows.reverse();
        let error = encode_fragment(&rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>()).unwrap_err();
        assert!(error.is_fault_of_data(), "{error}");
    }

    #[test]
    fn two_batchers_with_the_same_claim_make_one_fragment() {
        let scratch = Scratch::new();
        let rows = beats(500);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let options = Options { data: scratch.dataset.root().to_owned(), ..Options::default() };
                    let dataset = Dataset::open(&options, std::sync::Arc::new(RealFs)).unwrap();
                    dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &encode(&rows)).unwrap();
                });
            }
        });
        let names = scratch.dataset.list_fragments(BUCKET).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    /// What `a_process_with_other_threads_makes_the_same_bytes` runs in processes of its own.
    #[test]
    fn the_hash_of_a_fragment() {
        println!("hash {}", encode(&beats(20_000)).hash);
    }

    #[test]
    fn a_process_with_other_threads_makes_the_same_bytes() {
        let run = |threads: &str| {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "dataset::fragment::tests::the_hash_of_a_fragment", "--nocapture"])
                .env("POLARS_MAX_THREADS", threads)
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_once("hash ").unwrap_or_else(|| panic!("{text}")).1[..16].to_owned()
        };
        assert_eq!(run("1"), run("7"));
        assert_eq!(run("1"), encode(&beats(20_000)).hash.to_string());
    }

    #[test]
    fn a_fragment_that_is_streamed_is_checked_row_group_by_row_group() {
        let scratch = Scratch::new();
        let rows = beats(300);
        let name = scratch.dataset.store_fragment(BUCKET, ClaimId::from_u128(1), &encode(&rows)).unwrap();
        assert_eq!(rows_of(&mut scratch.dataset.stream_fragment(BUCKET, &name).unwrap()), rows);
        let other = FragmentName { rows: 299, ..name };
        let path = |name| scratch.dataset.paths().fragment(BUCKET, name);
        std::fs::copy(path(&name), path(&other)).unwrap();
        assert!(matches!(scratch.dataset.stream_fragment(BUCKET, &other), Err(Error::Damaged { .. })));
        File::options().write(true).open(path(&name)).unwrap().write_all_at(b"\xff", 50).unwrap();
        let read = scratch.dataset.stream_fragment(BUCKET, &name).and_then(|mut reader| reader.next_batch());
        assert!(matches!(read, Err(Error::Damaged { .. })));
        let gone = FragmentName { rows: 7, ..name };
        assert!(matches!(scratch.dataset.stream_fragment(BUCKET, &gone), Err(Error::NotFound { .. })));
    }
}
