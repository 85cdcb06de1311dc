//! A row group being read: six columns, a page of each decoded.

use polars_buffer::Buffer;
use polars_parquet::parquet::metadata::RowGroupMetadata;

use super::batch::RowBatch;
use super::pages::{Column, Part, Texts, Values};
use super::{pages, schema};

/// The rows of one row group that are still to come.
pub(super) struct GroupRows {
    left: usize,
    user_id: Column<Texts>,
    device_id: Column<Texts>,
    timestamp: Column<pages::Times>,
    received_at: Column<pages::Times>,
    id: Column<Texts>,
    attributes: Column<Texts>,
}

impl GroupRows {
    /// `bytes` are those of the row group, the first of which stands at `start` in the file.
    pub(super) fn open(group: &RowGroupMetadata, bytes: &Buffer<u8>, start: u64) -> Result<Self, String> {
        Ok(Self {
            left: group.num_rows(),
            user_id: open(group, bytes, start, schema::USER_ID)?,
            device_id: open(group, bytes, start, schema::DEVICE_ID)?,
            timestamp: open(group, bytes, start, schema::TIMESTAMP)?,
            received_at: open(group, bytes, start, schema::RECEIVED_AT)?,
            id: open(group, bytes, start, schema::ID)?,
            attributes: open(group, bytes, start, schema::ATTRIBUTES)?,
        })
    }

    /// Whether all rows were handed out.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Passes over the rows that stand before this user and time. Of what is passed over only those two columns are decoded.
    pub(super) fn skip_to(&mut self, user_id: &str, timestamp: i64) -> Result<(), String> {
        let mut skipped = 0;
        while skipped < self.left {
            let at_hand = self.user_id.at_hand()?.min(self.timestamp.at_hand()?).min(self.left - skipped);
            let (Some((users, user_at)), Some((times, time_at))) = (self.user_id.look(), self.timestamp.look()) else {
                return Err(format!("{} rows are missing", self.left - skipped));
            };
            let before = |row: usize| {
                (users.get(user_at + row).unwrap_or_default(), times.get(time_at + row)) < (user_id, timestamp)
            };
            let passed = first_that_is_not(at_hand, before);
            self.user_id.skip(passed)?;
            self.timestamp.skip(passed)?;
            skipped += passed;
            if passed < at_hand {
                break;
            }
        }
        self.device_id.skip(skipped)?;
        self.received_at.skip(skipped)?;
        self.id.skip(skipped)?;
        self.attributes.skip(skipped)?;
        self.left -= skipped;
        // Rows are looked at for nulls where a page begins, which may have been passed over.
        let has_nulls = |column: &Column<Texts>| column.look().is_some_and(|(page, _)| page.has_nulls());
        if has_nulls(&self.user_id) || has_nulls(&self.device_id) {
            return Err("values that must not be null are".into());
        }
        Ok(())
    }

    /// As many rows as lie in one page of each column.
    pub(super) fn next(&mut self) -> Result<RowBatch, String> {
        let named = |name: &'static str| move |reason: String| format!("column {name}: {reason}");
        let at_hand = [
            self.user_id.at_hand().map_err(named(schema::USER_ID))?,
            self.device_id.at_hand().map_err(named(schema::DEVICE_ID))?,
            self.timestamp.at_hand().map_err(named(schema::TIMESTAMP))?,
            self.received_at.at_hand().map_err(named(schema::RECEIVED_AT))?,
            self.id.at_hand().map_err(named(schema::ID))?,
            self.attributes.at_hand().map_err(named(schema::ATTRIBUTES))?,
        ];
        let len = at_hand.into_iter().min().unwrap_or(0).min(self.left);
        if len == 0 {
            return Err(format!("{} rows are missing", self.left));
        }
        let batch = RowBatch {
            len,
            user_id: present(take(&mut self.user_id, len)?, schema::USER_ID)?,
            device_id: present(take(&mut self.device_id, len)?, schema::DEVICE_ID)?,
            timestamp: take(&mut self.timestamp, len)?,
            received_at: take(&mut self.received_at, len)?,
            id: take(&mut self.id, len)?,
            attributes: take(&mut self.attributes, len)?,
        };
        self.left -= len;
        Ok(batch)
    }
}

/// The first of so many, sorted, for which it does not hold; their number where it holds for all.
fn first_that_is_not(many: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, many);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

fn open<V: Values>(
    group: &RowGroupMetadata,
    bytes: &Buffer<u8>,
    start: u64,
    name: &'static str,
) -> Result<Column<V>, String> {
    let mut chunks = group.columns_under_root_iter(name).ok_or_else(|| format!("it lacks column {name}"))?;
    let chunk = chunks.next().filter(|_| chunks.len() == 0).ok_or_else(|| format!("it lacks column {name}"))?;
    let range = chunk.byte_range();
    let within = range.start.checked_sub(start).zip(range.end.checked_sub(start));
    let within = within.filter(|(start, end)| start <= end && *end <= bytes.len() as u64);
    let (start, end) = within.ok_or_else(|| format!("column {name} lies outside of its row group"))?;
    Column::open(bytes.clone().sliced(start as usize..end as usize), chunk)
        .map_err(|reason| format!("column {name}: {reason}"))
}

fn take<V: Values>(column: &mut Column<V>, rows: usize) -> Result<Part<V>, String> {
    column.take(rows).ok_or_else(|| "rows are missing".into())
}

fn present(part: Part<Texts>, name: &str) -> Result<Part<Texts>, String> {
    // Once a page.
    if part.1 == 0 && part.0.has_nulls() {
        return Err(format!("values of {name} are null"));
    }
    Ok(part)
}
