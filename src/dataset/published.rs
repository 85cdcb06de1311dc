//! Published files: what readers see.
//!
//! Constraints: a published file appears whole, synced and verified, under a name that never was, and is never changed or
//! replaced. Its identity index stands before it does, so that no pass has to read a published file because a process died
//! at the wrong moment.

use std::path::Path;

use super::error::{At, Error, Result};
use super::hashing::{self, HashingWriter};
use super::identity_index::{KeySorter, key_of};
use super::paths::Staged;
use super::rows::{RowReader, RowWriter, WriteError};
use super::temp::TempFile;
use super::{Bucket, Dataset, FileId, PublishRecord, PublishedName, tree};
use crate::failpoint;
use crate::heartbeat::HeartbeatRef;

/// A published file being written, as a temp file in the staging tree. Dropped: the temp file is removed.
#[derive(Debug)]
pub struct PublishedBuilder {
    dataset: Dataset,
    bucket: Bucket,
    temp: TempFile,
    writer: RowWriter<HashingWriter>,
    keys: KeySorter,
}

/// A published file, synced and verified, with its identity index, both still temp files. Dropped: both are removed.
#[derive(Debug)]
#[must_use = "a prepared file that is dropped is removed"]
pub struct Prepared {
    bucket: Bucket,
    name: PublishedName,
    record: PublishRecord,
    bytes: u64,
    file: TempFile,
    index: TempFile,
}

impl PublishedBuilder {
    /// Adds a row. It must stand behind the last one in the sort order, and be no second one of its identity.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a row that must not stand there, [`Error::Unwritable`], [`Error::Io`]. The builder is of no
    /// more use then.
    pub fn push(&mut self, row: HeartbeatRef<'_>) -> Result<()> {
        if self.writer.last().is_some_and(|last| last.identity() == row.identity() || last > row) {
            let advice = format!("row {} repeats the one ahead of it or belongs before it", self.rows());
            return Err(Error::Conflict { advice });
        }
        self.writer.push(row).map_err(|error| write_error(error, self.temp.path()))?;
        self.keys.push(key_of(&row))
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.writer.rows()
    }

    /// Completes the file: footer, sync, verification, identity index.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the record does not balance or is not about as many rows, [`Error::Damaged`] when the disk
    /// does not give back what was written, [`Error::Unwritable`], [`Error::Io`].
    pub fn finish(self, record: &PublishRecord) -> Result<Prepared> {
        let rows = self.rows();
        if record.published_rows != rows || !record.balances() {
            return Err(Error::Conflict { advice: format!("the record of a file of {rows} rows is {record:?}") });
        }
        let Self { dataset, bucket, temp, writer, keys } = self;
        let path = temp.path();
        let reached = |step| failpoint::reached(step).at("write", path);
        let metadata = record.to_metadata().map_err(|error| Error::Unwritable { reason: error.to_string() })?;
        let sink = writer.finish("published", metadata).map_err(|error| write_error(error, path))?;
        let (file, hash, bytes) = sink.finish().at("write", path)?;
        reached("publish.written")?;
        dataset.fs().sync_file(&file, path).at("sync", path)?;
        drop(file);
        reached("publish.synced")?;
        hashing::verify(path, hash)?;
        let found = RowReader::open(path)?;
        if found.rows() != rows || PublishRecord::from_metadata(found.metadata()).as_ref() != Ok(record) {
            return Err(Error::damaged(path, "it does not read back as what was written"));
        }
        reached("publish.verified")?;
        let name = PublishedName { file: FileId::new(), hash };
        let index = dataset.write_index(bucket, name, keys)?;
        reached("publish.index_synced")?;
        Ok(Prepared { bucket, name, record: record.clone(), bytes, file: temp, index })
    }
}

fn write_error(error: WriteError, path: &Path) -> Error {
    match error {
        WriteError::Rows(reason) => Error::Unwritable { reason },
        WriteError::Sink(source) => Error::Io { context: "write", path: path.to_owned(), source },
    }
}

impl Prepared {
    /// The name that it will have.
    pub fn name(&self) -> PublishedName {
        self.name
    }

    /// The bucket that it is for.
    pub fn bucket(&self) -> Bucket {
        self.bucket
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.record.published_rows
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it says of its making.
    pub fn record(&self) -> &PublishRecord {
        &self.record
    }

    /// Moves index and file, the index first and synced, into place. The index of a file that did not get there goes again: each
    /// try makes another one, and none is a leftover before an hour.
    pub(super) fn move_into(self, dataset: &Dataset, folder: &Path) -> Result<PublishedName> {
        let (bucket, name) = (self.bucket, self.name);
        let moved = self.move_both(dataset, folder);
        if moved.is_err() {
            dataset.forget_index(bucket, &name);
        }
        moved
    }

    fn move_both(self, dataset: &Dataset, folder: &Path) -> Result<PublishedName> {
        let staging = dataset.paths().staging_folder(self.bucket);
        let reached = |step| failpoint::reached(step).at("publish in", folder);
        self.index.rename_to(&dataset.paths().staged(self.bucket, Staged::Index(self.name)))?;
        reached("publish.index_renamed")?;
        dataset.fs().sync_dir(&staging).at("sync the folder", &staging)?;
        reached("publish.index_folder_synced")?;
        self.file.rename_to_new(&folder.join(self.name.to_string()))?;
        Ok(self.name)
    }
}

impl Dataset {
    /// The published files of a bucket, sorted by name, hence by time of birth: all that stood at one instant.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`]; [`Error::Conflict`] when the bucket is exchanged over and over.
    pub fn list_published(&self, bucket: Bucket) -> Result<Vec<PublishedName>> {
        let names = tree::names_of_one(&self.paths().published_folder(bucket))?;
        self.confirm_home()?;
        Ok(names)
    }

    /// Opens a published file. Each row group is checked before it is decoded, the file as a whole is not: see
    /// [`verify_published`](Self::verify_published).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn open_published(&self, bucket: Bucket, name: &PublishedName) -> Result<RowReader> {
        RowReader::open(&self.paths().published(bucket, name))
    }

    /// Checks the whole file against the hash in its name, in constant memory.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::NotFound`], [`Error::Io`].
    pub fn verify_published(&self, bucket: Bucket, name: &PublishedName) -> Result<()> {
        hashing::verify(&self.paths().published(bucket, name), name.hash)
    }

    /// What a published file says of its making; reads its footer only.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn publish_record(&self, bucket: Bucket, name: &PublishedName) -> Result<PublishRecord> {
        let reader = self.open_published(bucket, name)?;
        let record = PublishRecord::from_metadata(reader.metadata());
        let record = record.map_err(|reason| Error::damaged(reader.path(), reason))?;
        if record.published_rows != reader.rows() {
            let reason = format!("it has {} rows and a record of {}", reader.rows(), record.published_rows);
            return Err(Error::damaged(reader.path(), reason));
        }
        Ok(record)
    }

    /// Bytes of a published file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn published_len(&self, bucket: Bucket, name: &PublishedName) -> Result<u64> {
        tree::file_len(&self.paths().published(bucket, name))
    }

    /// Begins a new published file, as a temp file in the staging tree.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_published(&self, bucket: Bucket) -> Result<PublishedBuilder> {
        let (temp, file) = TempFile::create(self, bucket)?;
        failpoint::reached("publish.created").at("write", temp.path())?;
        let writer = RowWriter::new(HashingWriter::new(file)).map_err(|error| write_error(error, temp.path()))?;
        let keys = KeySorter::new(self.clone(), bucket);
        Ok(PublishedBuilder { dataset: self.clone(), bucket, temp, writer, keys })
    }

    /// Publishes: from its return on, readers see the file, and it is on the disk. The caller holds the bucket's
    /// [`super::CompactionLock`].
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`]: the file may have been published or not; its record tells.
    pub fn commit_published(&self, prepared: Prepared) -> Result<PublishedName> {
        let folder = self.paths().published_folder(prepared.bucket);
        self.ensure_folder(&folder)?;
        let name = prepared.move_into(self, &folder)?;
        failpoint::reached("publish.renamed").at("publish in", &folder)?;
        self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
        failpoint::reached("publish.folder_synced").at("publish in", &folder)?;
        self.confirm_home()?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::test_support::{BUCKET, Scratch, beats, entries_below, plain_record, publish, rows_of};
    use super::*;

    #[test]
    fn a_published_file_appears_last_and_synced() {
        let scratch = Scratch::recorded();
        let dataset = &scratch.dataset;
        dataset.ensure_folder(&dataset.paths().staging_folder(BUCKET)).unwrap();
        scratch.steps();
        let rows = beats(100);
        let name = publish(dataset, &rows);
        let (staging, heartbeats) = (format!("staging/{BUCKET}"), format!("heartbeats/{BUCKET}"));
        let hash = name.hash;
        assert_eq!(
            scratch.steps(),
            [
                format!("create_new {staging}/.tmp-<id>"),
                format!("sync_file {staging}/.tmp-<id>"),
                format!("create_new {staging}/.tmp-<id>"),
                format!("sync_file {staging}/.tmp-<id>"),
                "create_dir heartbeats".into(),
                "sync_dir .".into(),
                "create_dir heartbeats/date=2026-11-22".into(),
                "sync_dir heartbeats".into(),
                format!("create_dir {heartbeats}"),
                "sync_dir heartbeats/date=2026-11-22".into(),
                format!("rename {staging}/.tmp-<id> {staging}/.index_<id>-{hash}"),
                format!("sync_dir {staging}"),
                format!("rename_noreplace {staging}/.tmp-<id> {heartbeats}/heartbeats-<id>-{hash}.parquet"),
                format!("sync_dir {heartbeats}"),
            ]
        );
        assert_eq!(dataset.list_published(BUCKET).unwrap(), [name]);
        dataset.verify_published(BUCKET, &name).unwrap();
        assert_eq!(rows_of(&mut dataset.open_published(BUCKET, &name).unwrap()), rows);
        assert_eq!(dataset.publish_record(BUCKET, &name).unwrap(), plain_record(&rows));
    }

    #[test]
    fn a_file_that_was_not_published_leaves_nothing_that_a_reader_sees() {
        let scratch = Scratch::recorded();
        let dataset = &scratch.dataset;
        let rows = beats(10);
        for step in [
            "create_new",
            "sync_file",
            "create_dir heartbeats/",
            "rename staging",
            "sync_dir staging/date",
            "rename_noreplace staging/date",
        ] {
            let attempt = || {
                let mut builder = dataset.begin_published(BUCKET)?;
                rows.iter().try_for_each(|row| builder.push(row.as_ref()))?;
                dataset.commit_published(builder.finish(&plain_record(&rows))?)
            };
            dataset.ensure_folder(&dataset.paths().staging_folder(BUCKET)).unwrap();
            scratch.fs().refuse(step, io::ErrorKind::StorageFull);
            assert!(matches!(attempt(), Err(Error::Io { .. })), "{step}");
            scratch.fs().allow_all();
            assert_eq!(dataset.list_published(BUCKET).unwrap(), [], "{step}");
            let left = entries_below(&dataset.paths().staging_folder(BUCKET));
            assert!(left.is_empty(), "{step}: {left:?}");
        }
        publish(dataset, &rows);
    }

    #[test]
    fn rows_that_would_break_a_promise_are_refused() {
        let scratch = Scratch::new();
        let rows = beats(10);
        let again = crate::heartbeat::Heartbeat { received_at: i64::MAX, ..rows[9].clone() };
        for wrong in [&rows[8], &rows[9], &again] {
            let mut builder = scratch.dataset.begin_published(BUCKET).unwrap();
            rows.iter().for_each(|row| builder.push(row.as_ref()).unwrap());
            assert!(matches!(builder.push(wrong.as_ref()), Err(Error::Conflict { .. })));
        }
        let mut builder = scratch.dataset.begin_published(BUCKET).unwrap();
        builder.push(rows[0].as_ref()).unwrap();
        assert!(matches!(builder.finish(&PublishRecord::default()), Err(Error::Conflict { .. })));
    }

    #[test]
    fn a_file_of_no_rows_keeps_its_record() {
        let scratch = Scratch::new();
        let builder = scratch.dataset.begin_published(BUCKET).unwrap();
        let record = PublishRecord { merged_rows: 5, deduplicated_rows: 5, ..PublishRecord::default() };
        let name = scratch.dataset.commit_published(builder.finish(&record).unwrap()).unwrap();
        assert_eq!(scratch.dataset.publish_record(BUCKET, &name).unwrap(), record);
        assert!(scratch.dataset.open_published(BUCKET, &name).unwrap().next_batch().unwrap().is_none());
        let mut lookup = scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
        assert_eq!(lookup.contains(&[beats(1)[0].as_ref()]).unwrap(), [false]);
    }

    #[test]
    fn a_record_of_ten_thousand_claims_is_read_back() {
        let scratch = Scratch::new();
        let rows = beats(10_000);
        let mut record = plain_record(&rows);
        record.claims = (0..super::super::KEEP_CLAIMS as u128)
            .map(|n| super::super::MergedClaim {
                claim: crate::heartbeat::ClaimId::from_u128(n << 64),
                hash: super::super::ContentHash(!n as u64),
                rows: 1,
            })
            .collect();
        let mut builder = scratch.dataset.begin_published(BUCKET).unwrap();
        rows.iter().for_each(|row| builder.push(row.as_ref()).unwrap());
        let name = scratch.dataset.commit_published(builder.finish(&record).unwrap()).unwrap();
        assert_eq!(scratch.dataset.publish_record(BUCKET, &name).unwrap(), record);
    }

    #[test]
    fn a_damaged_published_file_is_noticed_by_verify() {
        use std::os::unix::fs::FileExt;
        let scratch = Scratch::new();
        let name = publish(&scratch.dataset, &beats(100));
        let path = scratch.dataset.paths().published(BUCKET, &name);
        std::fs::File::options().write(true).open(&path).unwrap().write_all_at(b"\xff", 50).unwrap();
        assert!(matches!(scratch.dataset.verify_published(BUCKET, &name), Err(Error::Damaged { .. })));
        let read = scratch.dataset.open_published(BUCKET, &name).and_then(|mut reader| reader.next_batch());
        assert!(matches!(read, Err(Error::Damaged { .. })));
    }
}
