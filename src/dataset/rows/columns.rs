//! The rows of one row group: gathered as columns, or where they stand already.

use crate::heartbeat::HeartbeatRef;

/// Rows in order, a value at a time. A row that is not there makes it panic, as with a slice.
pub(super) trait RowGroup {
    fn len(&self) -> usize;
    fn user_id(&self, at: usize) -> &str;
    fn device_id(&self, at: usize) -> &str;
    fn timestamp(&self, at: usize) -> i64;
    fn received_at(&self, at: usize) -> i64;
    fn id(&self, at: usize) -> Option<&str>;
    fn attributes(&self, at: usize) -> Option<&str>;
}

impl RowGroup for &[HeartbeatRef<'_>] {
    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    fn user_id(&self, at: usize) -> &str {
        self[at].user_id
    }

    fn device_id(&self, at: usize) -> &str {
        self[at].device_id
    }

    fn timestamp(&self, at: usize) -> i64 {
        self[at].timestamp
    }

    fn received_at(&self, at: usize) -> i64 {
        self[at].received_at
    }

    fn id(&self, at: usize) -> Option<&str> {
        self[at].id
    }

    fn attributes(&self, at: usize) -> Option<&str> {
        self[at].attributes
    }
}

/// Rows as columns. Its memory is kept when it is emptied.
#[derive(Debug, Default)]
pub(super) struct Columns {
    user_id: Texts,
    device_id: Texts,
    timestamp: Vec<i64>,
    received_at: Vec<i64>,
    id: Texts,
    attributes: Texts,
}

impl RowGroup for Columns {
    fn len(&self) -> usize {
        self.timestamp.len()
    }

    fn user_id(&self, at: usize) -> &str {
        self.user_id.get(at).unwrap_or_default()
    }

    fn device_id(&self, at: usize) -> &str {
        self.device_id.get(at).unwrap_or_default()
    }

    fn timestamp(&self, at: usize) -> i64 {
        self.timestamp[at]
    }

    fn received_at(&self, at: usize) -> i64 {
        self.received_at[at]
    }

    fn id(&self, at: usize) -> Option<&str> {
        self.id.get(at)
    }

    fn attributes(&self, at: usize) -> Option<&str> {
        self.attributes.get(at)
    }
}

impl Columns {
    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) {
        self.user_id.push(Some(row.user_id));
        self.device_id.push(Some(row.device_id));
        self.timestamp.push(row.timestamp);
        self.received_at.push(row.received_at);
        self.id.push(row.id);
        self.attributes.push(row.attributes);
    }

    pub(super) fn last(&self) -> Option<HeartbeatRef<'_>> {
        let at = self.len().checked_sub(1)?;
        Some(HeartbeatRef {
            user_id: self.user_id(at),
            timestamp: self.timestamp(at),
            device_id: self.device_id(at),
            id: self.id(at),
            received_at: self.received_at(at),
            attributes: self.attributes(at),
        })
    }

    pub(super) fn clear(&mut self) {
        for texts in [&mut self.user_id, &mut self.device_id, &mut self.id, &mut self.attributes] {
            texts.clear();
        }
        self.timestamp.clear();
        self.received_at.clear();
    }
}

/// A column of texts, some of which may be null.
#[derive(Debug, Default)]
struct Texts {
    /// All of them, one behind the other.
    text: String,
    /// Where each ends. A row group holds 8 MiB and one row more.
    ends: Vec<u32>,
    present: Vec<bool>,
}

impl Texts {
    fn push(&mut self, text: Option<&str>) {
        self.text.push_str(text.unwrap_or_default());
        self.ends.push(self.text.len() as u32);
        self.present.push(text.is_some());
    }

    fn get(&self, at: usize) -> Option<&str> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.present[at].then(|| &self.text[start as usize..self.ends[at] as usize])
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.present.clear();
    }
}
