//! From the rows of a claim to the rows of its fragments: pure.
//!
//! Constraints: the same rows make the same fragments, whatever order the frames came in, because each is sorted by the
//! full sort order and rows that tie in it are equal in every column. Nothing is deduplicated here: publishing does that,
//! over all claims.

use std::collections::BTreeMap;

use crate::dataset::Bucket;
use crate::heartbeat::{self, HeartbeatRef, Partition};

const DAY_MS: i64 = 86_400_000;
/// Rows that room is made for before the first of them came, at most: some 5 MiB, whatever damaged headers promise.
const MOST_EXPECTED: usize = 64 * 1024;

/// The rows of each bucket, in the sort order; buckets in order of their date. About `expected` rows will come.
///
/// # Errors
/// The first that `rows` yields.
pub(super) fn split<'a, E>(
    rows: impl IntoIterator<Item = Result<HeartbeatRef<'a>, E>>,
    partition: Partition,
    expected: usize,
) -> Result<BTreeMap<Bucket, Vec<HeartbeatRef<'a>>>, E> {
    let mut buckets: BTreeMap<Bucket, Vec<HeartbeatRef<'a>>> = BTreeMap::new();
    for (day, mut rows) in by_day(rows, expected)? {
        // Days that no date can name share the nearest one.
        buckets.entry(Bucket::of(day.saturating_mul(DAY_MS), partition)).or_default().append(&mut rows);
    }
    for rows in buckets.values_mut() {
        heartbeat::sort(rows);
    }
    Ok(buckets)
}

/// The rows of each day since the Unix epoch. Most rows are of the same day as the one before, which costs a division
/// where their dates would cost a calendar and a look into a map.
fn by_day<'a, E>(
    rows: impl IntoIterator<Item = Result<HeartbeatRef<'a>, E>>,
    expected: usize,
) -> Result<BTreeMap<i64, Vec<HeartbeatRef<'a>>>, E> {
    let mut days = BTreeMap::new();
    let (mut day, mut of_day) = (0, Vec::new());
    let mut room = expected.min(MOST_EXPECTED);
    for row in rows {
        let row = row?;
        let its_day = row.timestamp.div_euclid(DAY_MS);
        if its_day != day {
            let next = days.remove(&its_day).unwrap_or_default();
            days.insert(day, std::mem::replace(&mut of_day, next));
            day = its_day;
        }
        if of_day.is_empty() {
            // Once: most claims are of one day, and growing a list of this size would cost as much as filling it.
            of_day.reserve(std::mem::take(&mut room));
        }
        of_day.push(row);
    }
    days.insert(day, of_day);
    days.retain(|_, rows| !rows.is_empty());
    Ok(days)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const BASE: HeartbeatRef<'static> =
        HeartbeatRef { user_id: "u", timestamp: 0, device_id: "d", id: None, received_at: 0, attributes: None };

    #[test]
    fn midnight_utc_parts_the_buckets() {
        let rows = [DAY_MS, DAY_MS - 1, 0, -1].map(|timestamp| HeartbeatRef { timestamp, ..BASE });
        let buckets = split(rows.map(Ok::<_, Infallible>), 7, 0).unwrap();
        let dates: Vec<_> = buckets.iter().map(|(bucket, rows)| (bucket.date.to_string(), rows.len())).collect();
        let expected = [("1969-12-31", 1), ("1970-01-01", 2), ("1970-01-02", 1)];
        assert_eq!(dates, expected.map(|(date, rows)| (date.to_owned(), rows)));
        assert!(buckets.keys().all(|bucket| bucket.partition == 7));
    }

    proptest! {
        #[test]
        fn order_of_arrival_makes_no_difference_and_no_row_is_lost(
            rows in proptest::collection::vec(("[ab]{1,2}", -2 * DAY_MS..2 * DAY_MS, "[de]", 0..3_i64), 0..40),
            turn in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<_> = rows
                .iter()
                .map(|(user_id, timestamp, device_id, received_at)| HeartbeatRef {
                    user_id, timestamp: *timestamp, device_id, received_at: *received_at, ..BASE
                })
                .collect();
            let mut turned = rows.clone();
            if !turned.is_empty() {
                turned.rotate_left(turn.index(rows.len()));
                turned.reverse();
            }
            let buckets = split(rows.iter().copied().map(Ok::<_, Infallible>), 1, 9).unwrap();
            prop_assert_eq!(&buckets, &split(turned.into_iter().map(Ok::<_, Infallible>), 1, 9).unwrap());
            prop_assert_eq!(buckets.values().map(Vec::len).sum::<usize>(), rows.len());
            prop_assert!(buckets.values().all(|rows| rows.is_sorted()));
        }
    }
}
