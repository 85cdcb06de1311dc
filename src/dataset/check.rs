//! Checking what stands in a file against what its place promises.

use super::{Bucket, Error, Result, RowReader};
use crate::heartbeat::{Heartbeat, Partition, partition_of};

/// What [`check_rows`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Rows read.
    pub rows: u64,
    /// Rows whose identity is that of the row before: right in a fragment, never in a published file.
    pub repeated: u64,
}

/// Reads every row that the reader has left: in the sort order, of this bucket's date and of its partition.
///
/// # Errors
/// [`Error::Damaged`] names the first row that is not; those of [`RowReader::next_batch`].
pub fn check_rows(bucket: Bucket, partitions: Partition, reader: &mut RowReader) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut last = None;
    while let Some(batch) = reader.next_batch()? {
        let mut before = last.as_ref().map(Heartbeat::as_ref);
        for row in batch.rows() {
            let fault = |what: &str| Error::damaged(reader.path(), format!("row {} {what}", checked.rows));
            if Bucket::of(row.timestamp, partition_of(row.user_id, partitions)) != bucket {
                return Err(fault("belongs to another bucket"));
            }
            if before.is_some_and(|before| before > row) {
                return Err(fault("stands behind a row that belongs after it"));
            }
            checked.repeated += u64::from(before.is_some_and(|before| before.identity() == row.identity()));
            checked.rows += 1;
            before = Some(row);
        }
        last = batch.len().checked_sub(1).map(|end| batch.row(end).to_heartbeat());
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::super::encode_fragment;
    use super::super::rows::RowWriter;
    use super::super::test_support::MIDNIGHT;
    use super::*;

    fn check(rows: &[(&str, i64)], bucket: Bucket) -> Result<Checked> {
        let row = |(user, timestamp): &(&str, i64)| Heartbeat {
            user_id: (*user).into(),
            device_id: "d".into(),
            timestamp: *timestamp,
            id: None,
            received_at: 0,
            attributes: None,
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        let fragment = encode_fragment(&rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>())?;
        check_rows(bucket, 16, &mut RowReader::from_bytes("test.parquet".as_ref(), fragment.bytes)?)
    }

    #[test]
    fn rows_out_of_order_are_named() {
        let row = |timestamp| Heartbeat {
            user_id: "u".into(),
            device_id: "d".into(),
            timestamp,
            id: None,
            received_at: 0,
            attributes: None,
        };
        let mut writer = RowWriter::new(Vec::new()).unwrap();
        for timestamp in [MIDNIGHT + 1, MIDNIGHT] {
            writer.push(row(timestamp).as_ref()).unwrap();
            writer.forget_last();
        }
        let bytes = writer.finish("test", Vec::new()).unwrap();
        let mut reader = RowReader::from_bytes("test.parquet".as_ref(), bytes).unwrap();
        let error = check_rows(Bucket::of(MIDNIGHT, partition_of("u", 16)), 16, &mut reader).unwrap_err();
        assert!(error.to_string().contains("row 1 stands behind"), "{error}");
    }

    #[test]
    fn rows_of_another_bucket_are_named() {
        let bucket = Bucket::of(MIDNIGHT, partition_of("u", 16));
        let rows = [("u", MIDNIGHT), ("u", MIDNIGHT), ("u", MIDNIGHT + 86_399_999)];
        assert_eq!(check(&rows, bucket).unwrap(), Checked { rows: 3, repeated: 1 });
        assert_eq!(check(&[], bucket).unwrap(), Checked::default());
        let next_day = check(&[("u", MIDNIGHT), ("u", MIDNIGHT + 86_400_000)], bucket).unwrap_err();
        assert!(next_day.to_string().contains("row 1 belongs to another bucket"), "{next_day}");
        let other = Bucket { partition: bucket.partition ^ 1, ..bucket };
        assert!(matches!(check(&rows, other), Err(Error::Damaged { .. })));
    }
}
