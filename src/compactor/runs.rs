//! Fragments, published files and intermediate temp files as runs of a merge.

use std::collections::BTreeSet;

use super::Error;
use super::funnel::{Repeats, drain};
use super::merge::{Batch, Budget, Label, Merge, Run, Runs};
use super::options::{MERGE_MEMORY, Options};
use super::visit::Watcher;
use crate::dataset::{self, Bucket, Dataset, FragmentName, PublishedName, RowBatch, RowReader, TempRun};
use crate::heartbeat::HeartbeatRef;

/// Runs open at once at most, whatever they weigh: each may hold a file descriptor.
const OPEN_RUNS: usize = 256;

pub(super) fn budget(options: &Options) -> Budget {
    Budget { bytes: options.merge_memory.unwrap_or(MERGE_MEMORY).as_u64(), runs: OPEN_RUNS }
}

impl Batch for RowBatch {
    fn len(&self) -> usize {
        RowBatch::len(self)
    }

    fn row(&self, index: usize) -> HeartbeatRef<'_> {
        RowBatch::row(self, index)
    }
}

/// One file being read.
#[derive(Debug)]
pub(super) struct FileRun {
    reader: RowReader,
    label: Label,
}

impl Run for FileRun {
    type Batch = RowBatch;

    fn next_batch(&mut self) -> dataset::Result<Option<RowBatch>> {
        self.reader.next_batch()
    }

    fn weight(&self, _: &RowBatch) -> u64 {
        self.reader.weight()
    }

    fn label(&self) -> Label {
        self.label
    }
}

/// Something to merge.
#[derive(Debug)]
pub(super) enum Source {
    Fragment(FragmentName),
    Published(PublishedName),
    Intermediate(TempRun),
}

/// Opens the sources of one merge in one bucket and notes which fragments it could not open.
#[derive(Debug)]
pub(super) struct BucketRuns<'a> {
    dataset: &'a Dataset,
    bucket: Bucket,
    watcher: Watcher<'a>,
    /// Fragments that are part of the merge.
    pub opened: BTreeSet<FragmentName>,
    /// Fragments that are not what their names say, with the reason.
    pub damaged: Vec<(FragmentName, String)>,
    /// Fragments that could not be opened through no fault of theirs, with the reason.
    pub left: Vec<(FragmentName, String)>,
}

impl<'a> BucketRuns<'a> {
    pub fn new(dataset: &'a Dataset, bucket: Bucket, watcher: Watcher<'a>) -> Self {
        Self { dataset, bucket, watcher, opened: BTreeSet::new(), damaged: Vec::new(), left: Vec::new() }
    }

    /// `None` for a fragment that cannot be opened: the others go on without it.
    fn open_fragment(&mut self, name: FragmentName) -> Option<FileRun> {
        self.opened.remove(&name);
        match self.dataset.open_fragment(self.bucket, &name) {
            Ok(reader) => {
                self.opened.insert(name);
                Some(FileRun { reader, label: Label::Fragment(name) })
            }
            Err(dataset::Error::Damaged { reason, .. }) => {
                self.damaged.push((name, reason));
                None
            }
            Err(error) => {
                self.left.push((name, error.to_string()));
                None
            }
        }
    }
}

impl Runs for BucketRuns<'_> {
    type Source = Source;
    type Run = FileRun;
    type Error = Error;

    fn open(&mut self, source: &Source) -> Result<Option<FileRun>, Error> {
        self.watcher.check()?;
        match source {
            Source::Fragment(name) => Ok(self.open_fragment(*name)),
            Source::Published(name) => Ok(Some(FileRun {
                reader: self.dataset.open_published(self.bucket, name)?,
                label: Label::Published(*name),
            })),
            Source::Intermediate(run) => Ok(Some(FileRun { reader: run.open()?, label: Label::Intermediate })),
        }
    }

    fn spill(&mut self, merge: &mut Merge<FileRun>) -> Result<Source, Error> {
        let mut run = self.dataset.begin_run(self.bucket)?;
        drain(merge, Repeats::Keep, |rows, _| {
            self.watcher.check()?;
            rows.iter().try_for_each(|row| run.push(*row))?;
            self.watcher.rows(0);
            Ok(())
        })?;
        Ok(Source::Intermediate(run.finish()?))
    }
}
