//! What is due: pure decisions over counts and times, no I/O, no clock.
//!
//! **Publishing** is due when a bucket has enough staged rows, or when `publish_after` has passed since its last publish
//! (so that after a quiet spell the first heartbeat goes straight through), or when a fragment has waited that long
//! itself (a consolidation that looks like a publish to the clock must not make it wait twice).
//!
//! **Consolidating**: a published file is *large* from `large_file_rows` rows on and is never rewritten again, only
//! linked. The small ones are merged
//!
//! - when there are more than `max_files` of them. Merged are the smallest, as many as it takes to be well below the
//!   bound again; a file that outweighs everything smaller than it stays, so that a row is rewritten about as often as
//!   the number of files doubles, not once for each consolidation of the day;
//! - when together they make a large file and hold more than `small_file_share` of the bucket's rows;
//! - once when the bucket's date is past (and its last regular publish done), whatever their number; rows that come later
//!   than that have them merged again at most once a day.
//!
//! Each consolidation leaves fewer files than it found, or it is not due: nothing is rewritten for ever.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Options;

/// Fragments that one publish takes at most: their claims are named in the footer of the new file.
pub(super) const FRAGMENTS_PER_PUBLISH: usize = 4096;

/// Late rows rewrite the small files of a past day at most this often.
const LATE_ROWS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What a bucket has waiting to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub rows: u64,
    pub fragments: usize,
    /// How long the oldest fragment has waited.
    pub oldest_age: Duration,
    /// Time since the bucket's newest published file was born; `None` when it has none.
    pub since_publish: Option<Duration>,
}

/// Why a bucket is published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishReason {
    /// Enough rows are staged.
    Rows,
    /// The last publish is long enough ago.
    Interval,
    /// A fragment has waited long enough.
    Age,
}

/// Whether a bucket is to be published now.
pub(super) fn publish_due(options: &Options, waiting: &Waiting) -> Option<PublishReason> {
    let after = *options.publish_after;
    if waiting.fragments == 0 {
        None
    } else if waiting.rows >= options.publish_rows || waiting.fragments >= FRAGMENTS_PER_PUBLISH {
        Some(PublishReason::Rows)
    } else if waiting.since_publish.is_none_or(|since| since >= after) {
        Some(PublishReason::Interval)
    } else if waiting.oldest_age >= after {
        Some(PublishReason::Age)
    } else {
        None
    }
}

/// How many fragments, from the first on, go into one publish: at least one, and no more than `publish_rows` rows unless
/// the first alone has more. It bounds the disk space and the time of one step when a backlog has built up.
pub(super) fn publish_slice(publish_rows: u64, rows: impl IntoIterator<Item = u64>) -> usize {
    let mut total = 0_u64;
    let fits = rows.into_iter().take(FRAGMENTS_PER_PUBLISH).take_while(|rows| {
        total = total.saturating_add(*rows);
        total <= publish_rows
    });
    fits.count().max(1)
}

/// What is known of a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub rows: u64,
    /// When it was written.
    pub born: Timestamp,
    /// Whether a consolidation wrote it.
    pub consolidated: bool,
}

/// Why a bucket is consolidated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsolidateReason {
    /// Too many small files.
    TooMany,
    /// The small files make a large one.
    Share,
    /// The date is past.
    DatePast,
}

/// Which files a consolidation merges, as indices into the list asked about; the others are linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub reason: ConsolidateReason,
    pub merge: Vec<usize>,
}

/// Whether, and how, a bucket is to be consolidated now.
pub(super) fn consolidation(options: &Options, date: Date, files: &[FileFacts], now: Timestamp) -> Option<Plan> {
    let mut small: Vec<usize> = (0..files.len()).filter(|&i| files[i].rows < options.large_file_rows).collect();
    if small.len() < 2 {
        return None;
    }
    small.sort_by_key(|&i| (files[i].rows, files[i].born));
    if past_date_due(options, date, files, now) {
        return Some(Plan { reason: ConsolidateReason::DatePast, merge: small });
    }
    let rows_of = |indices: &[usize]| indices.iter().fold(0_u64, |sum, &i| sum.saturating_add(files[i].rows));
    let small_rows = rows_of(&small);
    let all_rows = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.rows));
    if small_rows >= options.large_file_rows && small_rows as f64 > options.small_file_share * all_rows as f64 {
        return Some(Plan { reason: ConsolidateReason::Share, merge: small });
    }
    let max_files = usize::try_from(options.max_files).unwrap_or(usize::MAX);
    if small.len() > max_files {
        let sizes: Vec<u64> = small.iter().map(|&i| files[i].rows).collect();
        small.truncate(smallest_worth_merging(&sizes, max_files / 2));
        return Some(Plan { reason: ConsolidateReason::TooMany, merge: small });
    }
    None
}

/// How many of these sizes (ascending) to merge, so that at most `leave` files remain and none that stays is outweighed
/// by all that are merged.
fn smallest_worth_merging(sizes: &[u64], leave: usize) -> usize {
    let mut merged_rows = 0_u64;
    for (taken, &rows) in sizes.iter().enumerate() {
        let would_remain = sizes.len() - taken + 1;
        if taken >= 2 && rows > merged_rows && would_remain <= leave.max(1) {
            return taken;
        }
        merged_rows = merged_rows.saturating_add(rows);
    }
    sizes.len()
}

/// Whether the date is over and its small files have not been merged since, or not for a day.
fn past_date_due(options: &Options, date: Date, files: &[FileFacts], now: Timestamp) -> bool {
    let Some(end) = end_of(date) else {
        return false;
    };
    // Until then the rows of the date's last minute are still on their regular way.
    if elapsed(end, now) < Some(*options.publish_after) {
        return false;
    }
    let last = files.iter().filter(|file| file.consolidated && file.born >= end).map(|file| file.born).max();
    last.is_none_or(|last| elapsed(last, now) >= Some(LATE_ROWS_EVERY))
}

fn end_of(date: Date) -> Option<Timestamp> {
    Some(date.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Time from `then` to `now`; `None` when `then` lies ahead.
pub(super) fn elapsed(then: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(then)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: Date = jiff::civil::date(2026, 11, 22);

    fn options() -> Options {
        Options { publish_rows: 1000, max_files: 8, large_file_rows: 1000, ..Options::default() }
    }

    fn at(hours_after_end: i64) -> Timestamp {
        Timestamp::from_second(end_of(DATE).unwrap().as_second() + hours_after_end * 3600).unwrap()
    }

    fn during_the_day(rows: &[u64]) -> Vec<FileFacts> {
        rows.iter().map(|&rows| FileFacts { rows, born: at(-12), consolidated: false }).collect()
    }

    fn plan(files: &[FileFacts], now: Timestamp) -> Option<(ConsolidateReason, Vec<usize>)> {
        consolidation(&options(), DATE, files, now).map(|plan| (plan.reason, plan.merge))
    }

    #[test]
    fn a_bucket_is_published_by_rows_by_interval_or_by_age() {
        let secs = Duration::from_secs;
        let table = [
            // rows, fragments, oldest age, since the last publish, expected
            (0, 0, 0, None, None),
            (1, 1, 0, None, Some(PublishReason::Interval)),
            (1, 1, 0, Some(3600), Some(PublishReason::Interval)),
            (1, 1, 0, Some(60), Some(PublishReason::Interval)),
            (1, 1, 59, Some(59), None),
            (1, 1, 60, Some(59), Some(PublishReason::Age)),
            (999, 9, 10, Some(10), None),
            (1000, 9, 10, Some(10), Some(PublishReason::Rows)),
            (5, FRAGMENTS_PER_PUBLISH, 10, Some(10), Some(PublishReason::Rows)),
        ];
        for (rows, fragments, oldest, since, expected) in table {
            let waiting = Waiting { rows, fragments, oldest_age: secs(oldest), since_publish: since.map(secs) };
            assert_eq!(publish_due(&options(), &waiting), expected, "{waiting:?}");
        }
    }

    #[test]
    fn a_slice_holds_what_fits_and_never_nothing() {
        for (rows, expected) in [(vec![5000, 1], 1), (vec![500, 500, 1], 2), (vec![500, 501], 1), (vec![1], 1)] {
            assert_eq!(publish_slice(1000, rows.clone()), expected, "{rows:?}");
        }
        assert_eq!(publish_slice(u64::MAX, vec![0; 10_000]), FRAGMENTS_PER_PUBLISH);
    }

    #[test]
    fn few_files_of_the_day_are_left_alone() {
        assert_eq!(plan(&during_the_day(&[]), at(-1)), None);
        assert_eq!(plan(&during_the_day(&[10]), at(100)), None);
        assert_eq!(plan(&during_the_day(&[10; 8]), at(-1)), None);
        assert_eq!(plan(&during_the_day(&[5000; 100]), at(-1)), None, "large files are never merged");
    }

    #[test]
    fn too_many_small_files_are_merged_and_a_heavy_one_is_spared() {
        assert_eq!(plan(&during_the_day(&[10; 9]), at(-1)), Some((ConsolidateReason::TooMany, (0..9).collect())));
        let mut files = during_the_day(&[10; 8]);
        files.insert(0, FileFacts { rows: 900, born: at(-13), consolidated: true });
        assert_eq!(plan(&files, at(-1)), Some((ConsolidateReason::TooMany, (1..9).collect())));
    }

    #[test]
    fn small_files_that_make_a_large_one_are_merged_when_they_hold_enough_of_the_rows() {
        let files = during_the_day(&[2000, 600, 500]);
        assert_eq!(plan(&files, at(-1)), Some((ConsolidateReason::Share, vec![2, 1])));
        assert_eq!(plan(&during_the_day(&[20_000, 600, 500]), at(-1)), None, "a small share");
        assert_eq!(plan(&during_the_day(&[2000, 600, 300]), at(-1)), None, "no large file would come of it");
    }

    #[test]
    fn a_past_date_is_consolidated_once_and_late_rows_wait_for_the_next_day() {
        let fresh = |rows, hours| FileFacts { rows, born: at(hours), consolidated: false };
        let merged = |rows, hours| FileFacts { rows, born: at(hours), consolidated: true };
        let past = Some((ConsolidateReason::DatePast, vec![0, 1]));
        assert_eq!(plan(&during_the_day(&[10, 20]), at(0)), None, "the last publish of the day is still to come");
        assert_eq!(plan(&during_the_day(&[10, 20]), at(1)), past);
        assert_eq!(plan(&[fresh(1, 5), fresh(2, 6)], at(7)), past, "a day of late rows only, never consolidated");
        assert_eq!(plan(&[merged(1, -3), fresh(2, -2)], at(1)), past, "consolidated, but before its end");
        assert_eq!(plan(&[merged(1, 1), fresh(2, 2)], at(24)), None);
        assert_eq!(plan(&[merged(1, 1), fresh(2, 2)], at(25)), past);
        assert_eq!(plan(&[merged(1, 1)], at(500)), None, "nothing came late");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn consolidating_until_nothing_is_due_ends_within_the_bounds(
            sizes in prop::collection::vec(0_u64..1500, 0..60), max_files in 2_u64..20, hours in -12_i64..48,
        ) {
            let options = Options { max_files, ..options() };
            let mut files = during_the_day(&sizes);
            while let Some(plan) = consolidation(&options, DATE, &files, at(hours)) {
                prop_assert!(plan.merge.len() >= 2);
                prop_assert!(plan.merge.iter().all(|&i| files[i].rows < options.large_file_rows));
                let rows = plan.merge.iter().map(|&i| files[i].rows).sum();
                let mut index = 0;
                files.retain(|_| { index += 1; !plan.merge.contains(&(index - 1)) });
                files.push(FileFacts { rows, born: at(hours), consolidated: true });
            }
            let small: Vec<_> = files.iter().filter(|file| file.rows < options.large_file_rows).collect();
            prop_assert!(small.len() as u64 <= max_files);
            prop_assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), sizes.iter().sum::<u64>());
        }

        #[test]
        fn a_day_of_publishes_rewrites_each_row_a_few_times_only(rows in 1_u64..50, publishes in 100_usize..1440) {
            let options = Options { max_files: 64, large_file_rows: 1_000_000, ..options() };
            let (mut files, mut rewritten) = (Vec::new(), 0);
            for _ in 0..publishes {
                files.push(FileFacts { rows, born: at(-5), consolidated: false });
                if let Some(plan) = consolidation(&options, DATE, &files, at(-5)) {
                    let merged: u64 = plan.merge.iter().map(|&i| files[i].rows).sum();
                    rewritten += merged;
                    let mut index = 0;
                    files.retain(|_| { index += 1; !plan.merge.contains(&(index - 1)) });
                    files.push(FileFacts { rows: merged, born: at(-5), consolidated: true });
                }
                prop_assert!(files.len() <= 64);
            }
            prop_assert!(rewritten <= 6 * rows * publishes as u64, "{rewritten} of {}", rows * publishes as u64);
        }
    }
}
