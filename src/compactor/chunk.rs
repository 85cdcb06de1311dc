//! Rows between the merge and the new file: some thousand at a time, so that identities are looked up in one go, and handed
//! from the thread that merges to the one that writes.

use crate::heartbeat::{Heartbeat, HeartbeatRef};

const ROWS: usize = 8192;
const TEXT_BYTES: usize = 4 << 20;

/// Rows held by value in one text buffer, in sort order and without equal identities, across refills too.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    text: String,
    rows: Vec<Row>,
    /// The last row before the chunk was cleared.
    before: Option<Heartbeat>,
}

/// Ends of the texts in the buffer; a text starts where the one before it ends.
#[derive(Debug, Clone, Copy)]
struct Row {
    start: usize,
    user_end: usize,
    device_end: usize,
    id_end: Option<usize>,
    attributes_end: Option<usize>,
    timestamp: i64,
    received_at: i64,
}

impl Chunk {
    /// Takes the row over; `false` when the last row has its identity, so that the lowest in the sort order stays.
    pub fn push(&mut self, row: HeartbeatRef<'_>) -> bool {
        let last = self.last().or(self.before.as_ref().map(Heartbeat::as_ref));
        if last.is_some_and(|last| last.has_identity_of(&row)) {
            return false;
        }
        self.append(row);
        true
    }

    /// The same for a row that may have the identity of the last one.
    pub fn append(&mut self, row: HeartbeatRef<'_>) {
        let start = self.text.len();
        let mut append = |text: &str| {
            self.text.push_str(text);
            self.text.len()
        };
        let (user_end, device_end) = (append(row.user_id), append(row.device_id));
        let (id_end, attributes_end) = (row.id.map(&mut append), row.attributes.map(&mut append));
        let (timestamp, received_at) = (row.timestamp, row.received_at);
        self.rows.push(Row { start, user_end, device_end, id_end, attributes_end, timestamp, received_at });
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= ROWS || self.text.len() >= TEXT_BYTES
    }

    pub fn rows(&self) -> Vec<HeartbeatRef<'_>> {
        self.rows.iter().map(|row| self.read(row)).collect()
    }

    /// Empties the chunk, to be filled with what comes after `chunk`.
    pub fn follow(&mut self, chunk: &Self) {
        self.text.clear();
        self.rows.clear();
        self.before = match chunk.last() {
            None => chunk.before.clone(),
            Some(last) => Some(Heartbeat {
                user_id: last.user_id.to_owned(),
                device_id: last.device_id.to_owned(),
                timestamp: last.timestamp,
                id: last.id.map(str::to_owned),
                received_at: last.received_at,
                attributes: None,
            }),
        };
    }

    fn last(&self) -> Option<HeartbeatRef<'_>> {
        self.rows.last().map(|row| self.read(row))
    }

    fn read(&self, row: &Row) -> HeartbeatRef<'_> {
        let id_start = row.device_end;
        let attributes_start = row.id_end.unwrap_or(id_start);
        HeartbeatRef {
            user_id: &self.text[row.start..row.user_end],
            timestamp: row.timestamp,
            device_id: &self.text[row.user_end..row.device_end],
            id: row.id_end.map(|end| &self.text[id_start..end]),
            received_at: row.received_at,
            attributes: row.attributes_end.map(|end| &self.text[attributes_start..end]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: HeartbeatRef<'static> =
        HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 2, attributes: None };

    #[test]
    fn rows_come_out_as_they_went_in() {
        let rows = [
            BASE,
            HeartbeatRef { id: Some(""), attributes: Some("{}"), ..BASE },
            HeartbeatRef { id: Some("i"), received_at: -1, ..BASE },
            HeartbeatRef { device_id: "é", attributes: Some("{\"a\":1}"), ..BASE },
        ];
        let mut chunk = Chunk::default();
        assert!(rows.iter().all(|row| chunk.push(*row)));
        assert_eq!(chunk.rows(), rows);
    }

    #[test]
    fn of_equal_identities_the_first_stays_even_across_a_refill() {
        let mut chunk = Chunk::default();
        assert!(chunk.push(BASE));
        assert!(!chunk.push(HeartbeatRef { received_at: 3, ..BASE }));
        let mut next = Chunk::default();
        assert!(next.push(HeartbeatRef { timestamp: 9, ..BASE }));
        next.follow(&chunk);
        let mut chunk = next;
        assert!(!chunk.push(HeartbeatRef { received_at: 4, attributes: Some("{}"), ..BASE }));
        assert!(chunk.push(HeartbeatRef { timestamp: 2, ..BASE }));
        assert_eq!(chunk.rows().len(), 1);
    }

    #[test]
    fn a_chunk_is_bounded_by_rows_and_by_bytes() {
        let mut by_rows = Chunk::default();
        let mut timestamp = 0;
        while !by_rows.is_full() {
            timestamp += 1;
            by_rows.push(HeartbeatRef { timestamp, ..BASE });
        }
        assert_eq!(by_rows.rows().len(), ROWS);
        let attributes = "x".repeat(4096);
        let mut by_bytes = Chunk::default();
        while !by_bytes.is_full() {
            timestamp += 1;
            by_bytes.push(HeartbeatRef { timestamp, attributes: Some(&attributes), ..BASE });
        }
        assert!(by_bytes.rows().len() < ROWS);
    }
}
