//! The columns of the row group being gathered.

use std::collections::HashSet;

use polars_arrow::array::{Array, MutableBinaryViewArray, MutableUtf8Array, PrimitiveArray, TryPush, Utf8Array};
use polars_parquet::write::Encoding;

use crate::heartbeat::HeartbeatRef;

/// Values of a text column that are looked at to see whether a dictionary pays.
const SAMPLE: usize = 1024;

/// Rows as columns, in memory.
pub(super) struct Columns {
    user_id: MutableBinaryViewArray<str>,
    device_id: MutableBinaryViewArray<str>,
    timestamp: Vec<i64>,
    received_at: Vec<i64>,
    id: MutableUtf8Array<i64>,
    attributes: MutableUtf8Array<i64>,
}

impl Columns {
    pub(super) fn new() -> Self {
        Self {
            user_id: MutableBinaryViewArray::new(),
            device_id: MutableBinaryViewArray::new(),
            timestamp: Vec::new(),
            received_at: Vec::new(),
            id: MutableUtf8Array::new(),
            attributes: MutableUtf8Array::new(),
        }
    }

    /// Rows in them.
    pub(super) fn len(&self) -> usize {
        self.timestamp.len()
    }

    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) {
        self.user_id.push_value(row.user_id);
        self.device_id.push_value(row.device_id);
        self.timestamp.push(row.timestamp);
        self.received_at.push(row.received_at);
        // These fail past 2^63 bytes.
        let _ = self.id.try_push(row.id);
        let _ = self.attributes.try_push(row.attributes);
    }

    /// The columns in the order of the schema, each with its encoding.
    ///
    /// Users and devices repeat: a dictionary. Sorted rows have times with small steps between them, and a time of arrival
    /// follows the time of the beat: differences. Texts that mostly differ compress best with their lengths apart: between
    /// the texts, they cut every match short.
    pub(super) fn finish(self) -> Vec<(Box<dyn Array>, Encoding)> {
        let dictionary = |column: MutableBinaryViewArray<str>| (column.freeze().boxed(), Encoding::RleDictionary);
        let times = |column: Vec<i64>| (PrimitiveArray::from_vec(column).boxed(), Encoding::DeltaBinaryPacked);
        vec![
            dictionary(self.user_id),
            dictionary(self.device_id),
            times(self.timestamp),
            times(self.received_at),
            texts(self.id.into()),
            texts(self.attributes.into()),
        ]
    }
}

fn texts(column: Utf8Array<i64>) -> (Box<dyn Array>, Encoding) {
    if !repeats(&column) {
        return (column.boxed(), Encoding::DeltaLengthByteArray);
    }
    let mut views = MutableBinaryViewArray::<str>::with_capacity(column.len());
    column.iter().for_each(|value| views.push(value));
    (views.freeze().boxed(), Encoding::RleDictionary)
}

/// Whether most values of a sample have been there before.
fn repeats(column: &Utf8Array<i64>) -> bool {
    let step = column.len().div_ceil(SAMPLE).max(1);
    let sample = column.iter().step_by(step).flatten();
    let (mut seen, mut values) = (HashSet::new(), 0);
    for value in sample {
        values += 1;
        seen.insert(value);
    }
    2 * seen.len() < values
}
