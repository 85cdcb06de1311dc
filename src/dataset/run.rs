//! Intermediate runs of a merge: sorted rows in a temp file of a bucket's staging folder.
//!
//! Constraints: nothing depends on them after a crash, so they are neither synced nor hashed, and end with their handle;
//! what a killed process left of them goes with the other temp files.

use std::fs::File;
use std::io::BufWriter;

use super::error::{At, Error, Result};
use super::rows::{RowWriter, WriteError};
use super::temp::TempFile;
use super::{Bucket, Dataset, RowReader};
use crate::heartbeat::HeartbeatRef;

/// A run being written. Dropped: the temp file is removed.
#[derive(Debug)]
pub struct RunBuilder {
    rows: RowWriter<BufWriter<File>>,
    run: TempRun,
}

/// A run that can be read. Dropped: the temp file is removed.
#[derive(Debug)]
pub struct TempRun {
    temp: TempFile,
}

impl Dataset {
    /// Begins a run in the staging folder of a bucket.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_run(&self, bucket: Bucket) -> Result<RunBuilder> {
        let (temp, file) = TempFile::create(self, bucket)?;
        let run = TempRun { temp };
        let rows = RowWriter::new(BufWriter::new(file)).map_err(|error| run.fault(error))?;
        Ok(RunBuilder { rows, run })
    }

    /// Puts the published folder of a bucket and its parents on the disk.
    ///
    /// A process that died between a rename into the folder, or an exchange of it, and its sync left what every process
    /// sees and a power cut takes back. Whoever is about to delete something on the strength of what is published calls
    /// this first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn settle_published(&self, bucket: Bucket) -> Result<()> {
        let folder = self.paths().published_folder(bucket);
        if !folder.is_dir() {
            return Ok(());
        }
        for level in folder.ancestors().take_while(|level| *level != self.root()) {
            self.fs().sync_dir(level).at("sync the folder", level)?;
        }
        Ok(())
    }
}

impl RunBuilder {
    /// Adds a row, which must not stand before the last one in the sort order.
    ///
    /// # Errors
    /// [`Error::Unwritable`], [`Error::Io`].
    pub fn push(&mut self, row: HeartbeatRef<'_>) -> Result<()> {
        self.rows.push(row).map_err(|error| self.run.fault(error))
    }

    /// The finished run.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<TempRun> {
        let buffered = self.rows.finish("run", Vec::new()).map_err(|error| self.run.fault(error))?;
        buffered.into_inner().map_err(std::io::IntoInnerError::into_error).at("write", self.run.temp.path())?;
        Ok(self.run)
    }
}

impl TempRun {
    fn fault(&self, error: WriteError) -> Error {
        match error {
            WriteError::Sink(source) => Error::Io { context: "write", path: self.temp.path().to_owned(), source },
            WriteError::Rows(reason) => Error::Unwritable { reason },
        }
    }

    /// Reads it from the start.
    ///
    /// # Errors
    /// Those of [`RowReader::open`].
    pub fn open(&self) -> Result<RowReader> {
        RowReader::open(self.temp.path())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{BUCKET, Scratch, beats, entries_below, publish, rows_of};

    #[test]
    fn a_run_reads_back_as_often_as_wanted_and_goes_with_its_handle() {
        let scratch = Scratch::new();
        let rows = beats(100);
        let mut run = scratch.dataset.begin_run(BUCKET).unwrap();
        rows.iter().try_for_each(|row| run.push(row.as_ref())).unwrap();
        let run = run.finish().unwrap();
        assert_eq!(rows_of(&mut run.open().unwrap()), rows);
        assert_eq!(rows_of(&mut run.open().unwrap()), rows);
        drop(run);
        assert_eq!(entries_below(&scratch.dataset.paths().staging_folder(BUCKET)), [""; 0]);
    }

    #[test]
    fn settling_syncs_the_published_folder_and_all_its_parents() {
        let scratch = Scratch::recorded();
        scratch.dataset.settle_published(BUCKET).unwrap();
        publish(&scratch.dataset, &beats(1));
        scratch.steps();
        scratch.dataset.settle_published(BUCKET).unwrap();
        assert_eq!(
            scratch.steps(),
            [
                format!("sync_dir heartbeats/{BUCKET}"),
                "sync_dir heartbeats/date=2026-11-22".into(),
                "sync_dir heartbeats".into()
            ]
        );
    }
}
