//! Some rows of one row group.

use polars::prelude::{Int64Chunked, StringChunked};

use crate::heartbeat::HeartbeatRef;

/// Some rows of one row group, as columns. Each column is one whole array; those that must not be null are not.
#[derive(Debug)]
pub struct RowBatch {
    pub(super) len: usize,
    pub(super) user_id: StringChunked,
    pub(super) device_id: StringChunked,
    pub(super) timestamp: Int64Chunked,
    pub(super) received_at: Int64Chunked,
    pub(super) id: StringChunked,
    pub(super) attributes: StringChunked,
}

impl RowBatch {
    /// Bytes that a row takes in memory beside its texts: four string views of 16 bytes, two integers, null bits.
    pub(super) const ROW_OVERHEAD: u64 = 84;

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
        HeartbeatRef {
            user_id: self.user_id.downcast_as_array().value(i),
            timestamp: self.timestamp.downcast_as_array().value(i),
            device_id: self.device_id.downcast_as_array().value(i),
            id: self.id.downcast_as_array().get(i),
            received_at: self.received_at.downcast_as_array().value(i),
            attributes: self.attributes.downcast_as_array().get(i),
        }
    }

    /// All rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = HeartbeatRef<'_>> {
        (0..self.len).map(|i| self.row(i))
    }
}
