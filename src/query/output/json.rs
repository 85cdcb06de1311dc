//! JSON, as one array or line by line.

use super::time;
use crate::heartbeat::HeartbeatRef;

/// One array.
#[derive(Debug)]
pub(super) struct Array {
    written: Vec<u8>,
    is_empty: bool,
}

impl Array {
    pub(super) fn new() -> Self {
        Self { written: b"[".to_vec(), is_empty: true }
    }

    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) {
        if !std::mem::take(&mut self.is_empty) {
            self.written.push(b',');
        }
        self.written.push(b'\n');
        put(&mut self.written, row);
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.written.extend_from_slice(if self.is_empty { b"]" } else { b"\n]" });
        self.written
    }
}

/// One object a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    written: Vec<u8>,
}

impl Lines {
    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) {
        put(&mut self.written, row);
        self.written.push(b'\n');
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }
}

fn put(into: &mut Vec<u8>, row: HeartbeatRef<'_>) {
    into.extend_from_slice(b"{\"user_id\":");
    put_text(into, row.user_id);
    into.extend_from_slice(b",\"device_id\":");
    put_text(into, row.device_id);
    into.extend_from_slice(b",\"timestamp\":");
    put_text(into, &time(row.timestamp));
    into.extend_from_slice(b",\"received_at\":");
    put_text(into, &time(row.received_at));
    into.extend_from_slice(b",\"id\":");
    match row.id {
        Some(id) => put_text(into, id),
        None => into.extend_from_slice(b"null"),
    }
    into.extend_from_slice(b",\"attributes\":");
    // A line end in JSON text can only stand between two tokens, where a space means the same.
    let one_line = |byte: u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
    into.extend(row.attributes.unwrap_or("null").bytes().map(one_line));
    into.push(b'}');
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    // Writing a text into memory cannot fail.
    let _ = serde_json::to_writer(into, text);
}
