//! Rows for whoever asked for them: a Parquet file with the columns and encodings of the dataset's own, written as a stream
//! to wherever it goes.
//!
//! Constraint: in memory one row group, compressed, and before that its rows. It is smaller than a row group of the dataset,
//! as many of these may be under way at once, and whoever takes one waits for its first bytes.

use std::io::{self, Write};

use super::rows::{GroupBounds, RowWriter, WriteError};
use crate::heartbeat::HeartbeatRef;

/// What `systole.content` says of such a file.
const CONTENT: &str = "export";
/// See the module.
const GROUPS: GroupBounds = GroupBounds { rows: 32 * 1024, bytes: 2 << 20 };

/// Why rows could not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Where they go takes no more.
    #[error(transparent)]
    Sink(#[from] io::Error),
    /// They are not in the sort order, or the Parquet library gave up on them.
    #[error("the rows cannot be written as Parquet: {0}")]
    Rows(String),
}

impl From<WriteError> for ExportError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Sink(error) => Self::Sink(error),
            WriteError::Rows(reason) => Self::Rows(reason),
        }
    }
}

/// Writes rows, pushed in the sort order. After an error it is of no more use.
#[derive(Debug)]
pub struct Export<W: Write>(RowWriter<W>);

impl<W: Write> Export<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(sink: W) -> Result<Self, ExportError> {
        Ok(Self(RowWriter::with_groups(sink, GROUPS)?))
    }

    /// Adds a row, which must not stand before the last one in the sort order.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn push(&mut self, row: HeartbeatRef<'_>) -> Result<(), ExportError> {
        Ok(self.0.push(row)?)
    }

    /// Writes what is left and the footer, and hands the sink back.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn finish(self) -> Result<W, ExportError> {
        Ok(self.0.finish(CONTENT, Vec::new())?)
    }
}
