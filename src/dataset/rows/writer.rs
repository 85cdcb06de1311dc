//! Writing a file, one row group at a time.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::{CompatLevel, PolarsError, PolarsResult, SchemaExt};
use polars_parquet::write::{
    CompressedPage, DynIter, DynStreamingIterator, FileWriter, KeyValue, fallible_streaming_iterator,
};
use xxhash_rust::xxh3::Xxh3;

use super::super::FORMAT_VERSION;
use super::columns::{Columns, RowGroup};
use super::encode::{Pages, write_options};
use super::{CONTENT_KEY, GROUPS_KEY, VERSION_KEY, guarded, schema};
use crate::heartbeat::{Heartbeat, HeartbeatRef};

/// A row group ends at this many rows,
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// or with the row that reaches this many raw bytes ([`HeartbeatRef::raw_len`]).
const ROW_GROUP_BYTES: usize = 8 << 20;

/// How much a row group holds.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct GroupBounds {
    /// It ends at this many rows,
    pub(in super::super) rows: usize,
    /// or with the row that reaches this many raw bytes ([`HeartbeatRef::raw_len`]).
    pub(in super::super) bytes: usize,
}

impl Default for GroupBounds {
    fn default() -> Self {
        Self { rows: ROW_GROUP_ROWS, bytes: ROW_GROUP_BYTES }
    }
}

/// Why rows were not written.
#[derive(Debug)]
pub(in super::super) enum WriteError {
    /// The sink failed: a fault of the world.
    Sink(io::Error),
    /// The rows are at fault.
    Rows(String),
}

/// Writes rows, pushed in the sort order. After an error it is of no more use.
pub(in super::super) struct RowWriter<W: Write> {
    parquet: FileWriter<Sink<W>>,
    sink: Sink<W>,
    pages: Pages,
    columns: Columns,
    bounds: GroupBounds,
    raw_bytes: usize,
    rows: u64,
    /// Where each row group ended, and the hash of its bytes.
    groups: Vec<String>,
    /// The last row of the row group before.
    carried: Option<Heartbeat>,
    #[cfg(test)]
    forgotten: Option<u64>,
}

impl<W: Write> RowWriter<W> {
    pub(in super::super) fn new(sink: W) -> Result<Self, WriteError> {
        Self::with_groups(sink, GroupBounds::default())
    }

    /// With row groups of another size than those of the dataset.
    pub(in super::super) fn with_groups(sink: W, bounds: GroupBounds) -> Result<Self, WriteError> {
        let sink = Sink(Arc::new(Mutex::new(SinkState { inner: Some(sink), fault: None, hash: Xxh3::new(), len: 0 })));
        let begin = || {
            let schema = schema::schema().to_arrow(CompatLevel::newest());
            PolarsResult::Ok((FileWriter::try_new(sink.clone(), schema, write_options())?, Pages::new()?))
        };
        let (parquet, pages) = guarded(begin).map_err(|reason| sink.fault_or(reason))?;
        Ok(Self {
            parquet,
            sink,
            pages,
            columns: Columns::default(),
            bounds,
            raw_bytes: 0,
            rows: 0,
            groups: Vec::new(),
            carried: None,
            #[cfg(test)]
            forgotten: None,
        })
    }

    /// Adds a row, which must not stand before the last one in the sort order.
    pub(in super::super) fn push(&mut self, row: HeartbeatRef<'_>) -> Result<(), WriteError> {
        if self.last().is_some_and(|last| last > row) {
            return Err(misplaced_row(self.rows));
        }
        self.columns.push(row);
        self.rows += 1;
        self.raw_bytes += row.raw_len();
        if self.columns.len() >= self.bounds.rows || self.raw_bytes >= self.bounds.bytes {
            self.end_row_group()?;
        }
        Ok(())
    }

    /// Rows pushed so far.
    pub(in super::super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The last row pushed.
    pub(in super::super) fn last(&self) -> Option<HeartbeatRef<'_>> {
        #[cfg(test)]
        if self.forgotten == Some(self.rows) {
            return None;
        }
        self.columns.last().or(self.carried.as_ref().map(Heartbeat::as_ref))
    }

    /// Takes the next row wherever it stands: for tests of those who check files.
    #[cfg(test)]
    pub(in super::super) fn forget_last(&mut self) {
        self.forgotten = Some(self.rows);
    }

    /// Adds rows that stand together already, without copying them. The first begins a row group.
    pub(in super::super) fn push_all(&mut self, rows: &[HeartbeatRef<'_>]) -> Result<(), WriteError> {
        let Some((first, last)) = rows.first().zip(rows.last()) else {
            return Ok(());
        };
        let misplaced = rows.windows(2).position(|pair| pair[0] > pair[1]).map(|before| before as u64 + 1);
        if let Some(row) = self.last().is_some_and(|last| last > *first).then_some(0).or(misplaced) {
            return Err(misplaced_row(self.rows + row));
        }
        self.end_row_group()?;
        let (mut start, mut raw_bytes) = (0, 0);
        for (at, row) in rows.iter().enumerate() {
            raw_bytes += row.raw_len();
            if at + 1 - start >= self.bounds.rows || raw_bytes >= self.bounds.bytes {
                self.write_row_group(&&rows[start..=at])?;
                (start, raw_bytes) = (at + 1, 0);
            }
        }
        self.write_row_group(&&rows[start..])?;
        self.rows += rows.len() as u64;
        self.carried = Some(last.to_heartbeat());
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), WriteError> {
        self.raw_bytes = 0;
        let Some(last) = self.columns.last().map(|row| row.to_heartbeat()) else {
            return Ok(());
        };
        self.carried = Some(last);
        let mut columns = std::mem::take(&mut self.columns);
        self.write_row_group(&columns)?;
        columns.clear();
        self.columns = columns;
        Ok(())
    }

    fn write_row_group(&mut self, rows: &impl RowGroup) -> Result<(), WriteError> {
        if rows.len() == 0 {
            return Ok(());
        }
        let Self { parquet, pages, .. } = self;
        guarded(|| {
            let pages = pages.of(rows, parquet.parquet_schema().fields())?;
            let of_columns = pages.iter().map(|pages| PolarsResult::Ok(stream(pages)));
            parquet.write(rows.len() as u64, DynIter::new(of_columns))
        })
        .map_err(|reason| self.sink.fault_or(reason))?;
        let (len, hash) = self.sink.with(|state| (state.len, std::mem::replace(&mut state.hash, Xxh3::new()).digest()));
        self.groups.push(format!("{len}-{hash:016x}"));
        Ok(())
    }

    /// Writes the footer and hands the sink back. `content` says what kind of file it is.
    pub(in super::super) fn finish(
        mut self,
        content: &str,
        mut metadata: Vec<(String, String)>,
    ) -> Result<W, WriteError> {
        self.end_row_group()?;
        metadata.insert(0, (VERSION_KEY.into(), FORMAT_VERSION.to_string()));
        metadata.insert(1, (CONTENT_KEY.into(), content.into()));
        metadata.insert(2, (GROUPS_KEY.into(), self.groups.join(",")));
        let pairs = metadata.into_iter().map(|(key, value)| KeyValue { key, value: Some(value) }).collect();
        // With metadata given, no Arrow schema is added, which would make readers see views instead of strings.
        let parquet = &mut self.parquet;
        guarded(|| parquet.end(Some(pairs))).map_err(|reason| self.sink.fault_or(reason))?;
        self.sink.take().ok_or_else(|| WriteError::Rows("the sink is gone".into()))
    }
}

impl<W: Write> fmt::Debug for RowWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowWriter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

fn misplaced_row(row: u64) -> WriteError {
    WriteError::Rows(format!("row {row} stands before the one ahead of it"))
}

/// Pages as the Parquet writer takes them.
fn stream(pages: &[CompressedPage]) -> DynStreamingIterator<'_, CompressedPage, PolarsError> {
    DynStreamingIterator::new(fallible_streaming_iterator::convert(pages.iter().map(PolarsResult::Ok)))
}

/// The sink, shared with the Parquet writer, which neither hands it back nor keeps the kind of its faults.
struct Sink<W>(Arc<Mutex<SinkState<W>>>);

struct SinkState<W> {
    inner: Option<W>,
    fault: Option<io::Error>,
    /// Of what was written since the last row group ended.
    hash: Xxh3,
    /// Bytes written.
    len: u64,
}

impl<W> Sink<W> {
    fn with<T>(&self, act: impl FnOnce(&mut SinkState<W>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Option<W> {
        self.with(|state| state.inner.take())
    }

    /// Whose fault it was that the Parquet writer failed.
    fn fault_or(&self, reason: String) -> WriteError {
        self.with(|state| state.fault.take()).map_or(WriteError::Rows(reason), WriteError::Sink)
    }
}

impl<W> Clone for Sink<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write> Sink<W> {
    fn attempt<T>(&self, act: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        self.with(|state| {
            let inner = state.inner.as_mut().ok_or_else(|| io::Error::other("the file is finished"))?;
            act(inner).map_err(|error| {
                let kind = error.kind();
                // An interrupted write is tried again by the caller.
                if kind != io::ErrorKind::Interrupted {
                    state.fault.get_or_insert(error);
                }
                kind.into()
            })
        })
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.attempt(|inner| inner.write(bytes))?;
        self.with(|state| {
            state.hash.update(&bytes[..written]);
            state.len += written as u64;
        });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush)
    }
}
