//! The rows of one row group while they are gathered, as columns.

use crate::heartbeat::HeartbeatRef;

/// Rows as columns. Its memory is kept when it is emptied.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) user_id: Texts,
    pub(super) device_id: Texts,
    pub(super) timestamp: Vec<i64>,
    pub(super) received_at: Vec<i64>,
    pub(super) id: Texts,
    pub(super) attributes: Texts,
}

impl Columns {
    pub(super) fn len(&self) -> usize {
        self.timestamp.len()
    }

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
            user_id: self.user_id.get(at).unwrap_or_default(),
            timestamp: self.timestamp[at],
            device_id: self.device_id.get(at).unwrap_or_default(),
            id: self.id.get(at),
            received_at: self.received_at[at],
            attributes: self.attributes.get(at),
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
pub(super) struct Texts {
    /// All of them, one behind the other.
    text: String,
    /// Where each ends. A row group holds 8 MiB and one row more.
    ends: Vec<u32>,
    present: Vec<bool>,
    nulls: usize,
}

impl Texts {
    pub(super) fn push(&mut self, text: Option<&str>) {
        self.text.push_str(text.unwrap_or_default());
        self.ends.push(self.text.len() as u32);
        self.present.push(text.is_some());
        self.nulls += usize::from(text.is_none());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Which of them are not null.
    pub(super) fn present(&self) -> &[bool] {
        &self.present
    }

    pub(super) fn nulls(&self) -> usize {
        self.nulls
    }

    pub(super) fn get(&self, at: usize) -> Option<&str> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.present[at].then(|| &self.text[start as usize..self.ends[at] as usize])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.len()).map(|at| self.get(at))
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.present.clear();
        self.nulls = 0;
    }
}
