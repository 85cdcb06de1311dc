//! CSV by RFC 4180: a header, CRLF, quotes where they are needed.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` (full-width forms as well), TAB or CR for a formula and
//! runs it, and names are the clients'. So such a cell gets an apostrophe ahead of it, which spreadsheets take for "this is
//! text". So does a cell that begins with an apostrophe, so that what was sent can be told: take one leading apostrophe away
//! wherever there is one. Only `user_id`, `device_id` and `id` can begin so.

use std::borrow::Cow;

use csv::{Terminator, WriterBuilder};

use super::time;
use crate::dataset::ExportError;
use crate::heartbeat::HeartbeatRef;

const HEADER: [&str; 6] = ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"];
/// What a spreadsheet would take for a formula, and the mark itself.
const MARKED: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠', '\''];

/// The rows of a table.
#[derive(Debug)]
pub(super) struct Table {
    written: Vec<u8>,
}

impl Table {
    pub(super) fn new() -> Result<Self, ExportError> {
        let mut table = Self { written: Vec::new() };
        table.put(HEADER)?;
        Ok(table)
    }

    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) -> Result<(), ExportError> {
        self.put([
            &*guarded(row.user_id),
            &*guarded(row.device_id),
            &time(row.timestamp),
            &time(row.received_at),
            &*guarded(row.id.unwrap_or_default()),
            row.attributes.unwrap_or_default(),
        ])
    }

    fn put(&mut self, cells: [&str; 6]) -> Result<(), ExportError> {
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(&mut self.written);
        writer.write_record(cells).map_err(std::io::Error::from)?;
        Ok(writer.flush()?)
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }
}

fn guarded(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(MARKED) { format!("'{cell}").into() } else { cell.into() }
}
