//! Some rows of one row group.

use std::fmt;

use super::pages::{Part, Texts, Times};
use crate::heartbeat::HeartbeatRef;

/// Some rows of one row group: parts of the decoded pages of its columns, which are shared, not copied. What must not be
/// null is not.
pub struct RowBatch {
    pub(super) len: usize,
    pub(super) user_id: Part<Texts>,
    pub(super) device_id: Part<Texts>,
    pub(super) timestamp: Part<Times>,
    pub(super) received_at: Part<Times>,
    pub(super) id: Part<Texts>,
    pub(super) attributes: Part<Texts>,
}

impl RowBatch {
    /// Rows in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row `i`, in constant time.
    ///
    /// # Panics
    /// `i` is not below [`len`](Self::len), as with a slice.
    pub fn row(&self, i: usize) -> HeartbeatRef<'_> {
        assert!(i < self.len, "row {i} of {}", self.len);
        fn text(part: &Part<Texts>, i: usize) -> Option<&str> {
            part.0.get(part.1 + i)
        }
        let time = |part: &Part<Times>| part.0.get(part.1 + i);
        HeartbeatRef {
            // The reader has seen that neither is null.
            user_id: text(&self.user_id, i).unwrap_or_default(),
            timestamp: time(&self.timestamp),
            device_id: text(&self.device_id, i).unwrap_or_default(),
            id: text(&self.id, i),
            received_at: time(&self.received_at),
            attributes: text(&self.attributes, i),
        }
    }

    /// All rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = HeartbeatRef<'_>> {
        (0..self.len).map(|i| self.row(i))
    }
}

impl fmt::Debug for RowBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowBatch").field("len", &self.len).finish_non_exhaustive()
    }
}
