use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::super::test_support::{BUCKET, MIDNIGHT, Scratch, beat, beats, publish};
use super::super::{ContentHash, Error};
use super::format::{BLOCK_LEN, MAX_HEADER_LEN};
use super::*;
use crate::heartbeat::Heartbeat;

fn refs(rows: &[Heartbeat]) -> Vec<HeartbeatRef<'_>> {
    rows.iter().map(Heartbeat::as_ref).collect()
}

/// An index of rows with these keys, in any order.
fn index_of(scratch: &Scratch, keys: impl IntoIterator<Item = u64>) -> (TempFile, IndexFile) {
    let mut sorter = KeySorter::with_run(scratch.dataset.clone(), BUCKET, 100_000);
    keys.into_iter().for_each(|key| sorter.push(key).unwrap());
    let (temp, file) = TempFile::create(&scratch.dataset, BUCKET).unwrap();
    build::write(sorter, ContentHash(1), file).unwrap();
    let index = IndexFile::open(temp.path(), ContentHash(1)).unwrap();
    (temp, index)
}

/// The key of a row of this time whose other fields follow from a number.
fn key_at(timestamp: i64, n: usize) -> u64 {
    let device_id = n.to_string();
    key_of(&Heartbeat { timestamp, device_id, ..beat(0) }.as_ref())
}

#[test]
fn what_is_published_is_found_and_nothing_else() {
    let scratch = Scratch::new();
    let rows = beats(3_000);
    let (first, second): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|row| row.received_at % 3 == 0);
    let (second, absent): (Vec<_>, Vec<_>) = second.into_iter().partition(|row| row.received_at % 3 == 1);
    let files = [publish(&scratch.dataset, &first), publish(&scratch.dataset, &second)];
    let mut lookup = scratch.dataset.identity_lookup(BUCKET, &files).unwrap();
    // What a retry may change is no part of the identity.
    let asked: Vec<_> = rows.iter().map(|row| Heartbeat { attributes: None, received_at: 1, ..row.clone() }).collect();
    let expected: Vec<_> = rows.iter().map(|row| !absent.contains(row)).collect();
    assert_eq!(lookup.contains(&refs(&asked)).unwrap(), expected);
    assert_eq!(lookup.contains(&[]).unwrap(), [true; 0]);
}

#[test]
fn what_is_read_does_not_grow_with_the_file() {
    let scratch = Scratch::new();
    let at = |n: usize, user: &str| Heartbeat {
        // All in one minute: the worst case.
        timestamp: MIDNIGHT + (n % 60_000) as i64,
        user_id: user.into(),
        device_id: format!("{n:06}"),
        ..beat(0)
    };
    let absent: Vec<_> = (0..10).map(|n| at(n * 5_000, "z")).collect();
    let bytes_for = |rows: usize| {
        let mut published: Vec<_> = (0..rows).map(|n| at(n, "u")).collect();
        published.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
        let name = publish(&scratch.dataset, &published);
        let mut lookup = scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
        let header = lookup.bytes_read();
        assert!(header <= MAX_HEADER_LEN as u64, "a header of {header} bytes");
        assert!(lookup.contains(&refs(&absent)).unwrap().iter().all(|stands| !stands));
        lookup.bytes_read() - header
    };
    let (small, large) = (bytes_for(2_000), bytes_for(100_000));
    assert!(large <= 10 * 3 * BLOCK_LEN as u64, "{large} bytes read");
    assert!(large <= 3 * small, "{small} bytes for 2,000 rows, {large} for 100,000");
}

#[test]
fn a_late_row_costs_two_blocks_of_a_large_file_however_its_rows_lie() {
    const ROWS: usize = 300_000;
    const LATE: usize = 300;
    const DAY_MS: usize = MS_PER_MINUTE as usize * MINUTES_PER_DAY as usize;
    let scratch = Scratch::new();
    let spread = |n: usize, over_ms: usize| (n * 7_919_317 % over_ms) as i64;
    let times: [(&str, &dyn Fn(usize) -> i64); 5] = [
        ("over ten minutes", &|n| spread(n, 600_000)),
        ("in one second", &|n| spread(n, 1_000)),
        ("at whole minutes of an hour", &|n| spread(n, 3_600_000) / 60_000 * 60_000),
        ("over the day", &|n| spread(n, DAY_MS)),
        ("in ten minutes, but for one percent over the day", &|n| {
            spread(n, if n.is_multiple_of(100) { DAY_MS } else { 600_000 })
        }),
    ];
    for (what, time) in times {
        let (_temp, mut index) = index_of(&scratch, (0..ROWS).map(|n| key_at(MIDNIGHT + time(n), n)));
        let header = index.bytes_read();
        assert!(header <= MAX_HEADER_LEN as u64, "{what}: a header of {header} bytes");
        let mut late: Vec<_> = (0..LATE).map(|n| (key_at(MIDNIGHT + time(n * 997), ROWS + n), n)).collect();
        late.sort_unstable();
        index.search(&late, |row, n| panic!("{what}: row {row} has the key of late row {n}")).unwrap();
        let each = (index.bytes_read() - header) / LATE as u64;
        assert!(each <= 2 * BLOCK_LEN as u64, "{what}: {each} bytes for a late row");
    }
}

#[test]
fn keys_that_lie_as_unevenly_as_can_be_cost_a_halving_search() {
    let scratch = Scratch::new();
    // Half of them at the start of a minute, each next one twice as far from there.
    let keys = |n: u64| if n < 50_000 { n } else { (1 << (n % 52)) + n };
    let (_temp, mut index) = index_of(&scratch, (0..100_000).map(keys));
    for n in (0..100_000).step_by(991) {
        let before = index.bytes_read();
        let mut found = Vec::new();
        index.search(&[(keys(n), 0)], |row, _| found.push(u64::from(row))).unwrap();
        assert!(found.contains(&n));
        // Four guesses, the halvings of 10,000 blocks, and the block behind: the pages, of equal upper halves, do not help.
        let blocks = (index.bytes_read() - before) / BLOCK_LEN as u64;
        assert!(blocks <= 4 + 14 + 1, "{blocks} blocks for row {n}");
    }
}

#[test]
fn rows_asked_for_densely_are_read_together() {
    let scratch = Scratch::new();
    let keys: Vec<_> = (0..20_000).map(|n| key_at(MIDNIGHT + n as i64 * 30, n)).collect();
    let (temp, mut index) = index_of(&scratch, keys.iter().copied());
    let mut asked: Vec<_> = keys.into_iter().zip(0..).collect();
    asked.sort_unstable();
    let mut found = 0;
    index.search(&asked, |row, n| found += usize::from(row as usize == n)).unwrap();
    assert_eq!(found, asked.len());
    // A run of blocks is where they should be: it may begin a little early, and end a little late.
    let len = fs::metadata(temp.path()).unwrap().len();
    assert!(index.bytes_read() <= len * 4 / 3, "{} bytes read of {len}", index.bytes_read());
}

#[test]
fn a_file_of_other_minutes_is_not_even_opened() {
    let scratch = Scratch::new();
    let early: Vec<_> = (0..50).map(|n| Heartbeat { timestamp: MIDNIGHT + n, ..beat(0) }).collect();
    let name = publish(&scratch.dataset, &early);
    let mut lookup = scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
    fs::remove_file(scratch.dataset.paths().staged(BUCKET, Staged::Index(name))).unwrap();
    let before = lookup.bytes_read();
    let late = Heartbeat { timestamp: MIDNIGHT + 3_600_000, ..beat(0) };
    assert_eq!(lookup.contains(&[late.as_ref()]).unwrap(), [false]);
    assert_eq!(lookup.bytes_read(), before);
    let again = scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
    assert_eq!(again.bytes_read(), 0, "its header is known");
}

#[test]
fn a_missing_or_damaged_index_is_built_anew() {
    let scratch = Scratch::new();
    let rows = beats(500);
    let name = publish(&scratch.dataset, &rows);
    let path = scratch.dataset.paths().staged(BUCKET, Staged::Index(name));
    let good = fs::read(&path).unwrap();
    let finds_all = |what: &str| {
        // A process that knows no header yet.
        let options = super::super::Options { data: scratch.dataset.root().to_owned(), ..Default::default() };
        let dataset = Dataset::open(&options, Arc::new(super::super::RealFs)).unwrap();
        let mut lookup = dataset.identity_lookup(BUCKET, &[name]).unwrap();
        assert!(lookup.contains(&refs(&rows)).unwrap().iter().all(|stands| *stands), "{what}");
        assert!(fs::read(&path).unwrap() == good, "{what}: built as before");
    };
    fs::remove_file(&path).unwrap();
    finds_all("missing");
    for len in [0, 20, 100, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        finds_all(&format!("cut to {len}"));
    }
    for at in (0..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        finds_all(&format!("byte {at} damaged"));
    }
    // And when the header is known from before.
    let mut lookup = scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
    fs::write(&path, &good[..good.len() - 300]).unwrap();
    assert!(lookup.contains(&refs(&rows)).unwrap().iter().all(|stands| *stands));
}

#[test]
fn a_hit_is_confirmed_in_the_file() {
    let scratch = Scratch::new();
    let rows = beats(100);
    let name = publish(&scratch.dataset, &rows);
    // An index in which the keys of rows that are not there lead to rows that are: what equal hashes would look like.
    let absent: Vec<_> = (1_000..1_100).map(beat).collect();
    let mut keys = KeySorter::new(scratch.dataset.clone(), BUCKET);
    absent.iter().for_each(|row| keys.push(key_of(&row.as_ref())).unwrap());
    let index = scratch.dataset.write_index(BUCKET, name, keys).unwrap();
    index.rename_to(&scratch.dataset.paths().staged(BUCKET, Staged::Index(name))).unwrap();
    let mut lookup = scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
    assert!(lookup.contains(&refs(&absent)).unwrap().iter().all(|stands| !stands));
    assert!(lookup.bytes_read() > scratch.dataset.published_len(BUCKET, &name).unwrap() / 2, "the file was asked");
}

#[test]
fn the_format_is_fixed() {
    let scratch = Scratch::new();
    let mut keys = KeySorter::new(scratch.dataset.clone(), BUCKET);
    for row in [beat(1), beat(0)] {
        keys.push(key_of(&row.as_ref())).unwrap();
    }
    let (temp, file) = TempFile::create(&scratch.dataset, BUCKET).unwrap();
    build::write(keys, ContentHash(0x0123_4567_89ab_cdef), file).unwrap();
    let hex: String = fs::read(temp.path()).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    // Another value is another format: raise the version in the header.
    let header = format!(
        "53595354494458000200000002000000efcdab8967452301e9d5160001{}e39b0b0003ab179786722b6c",
        "0".repeat(2 * 179)
    );
    let block = "f3a43afee39b0b00000000001aa96daee8d5160001000000757c6040b90ac510";
    assert_eq!(hex, format!("{header}{block}"));
}

#[test]
fn an_index_is_never_built_from_a_damaged_file() {
    let scratch = Scratch::new();
    let name = publish(&scratch.dataset, &beats(100));
    fs::remove_file(scratch.dataset.paths().staged(BUCKET, Staged::Index(name))).unwrap();
    let path = scratch.dataset.paths().published(BUCKET, &name);
    let file = File::options().write(true).open(&path).unwrap();
    // In a row group, and where only the hash of the whole file looks.
    let bytes = fs::read(&path).unwrap();
    let footer = bytes.windows(6).rposition(|window| window == b"Polars").unwrap();
    for at in [60, footer] {
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        let refused = scratch.dataset.identity_lookup(BUCKET, &[name]);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "byte {at}");
        file.write_all_at(&[bytes[at]], at as u64).unwrap();
    }
    scratch.dataset.identity_lookup(BUCKET, &[name]).unwrap();
}

#[test]
fn runs_that_do_not_fit_in_memory_make_the_same_index() {
    let scratch = Scratch::new();
    let write = |run_entries| {
        let mut keys = KeySorter::with_run(scratch.dataset.clone(), BUCKET, run_entries);
        beats(5_000).iter().for_each(|row| keys.push(key_of(&row.as_ref())).unwrap());
        let (temp, file) = TempFile::create(&scratch.dataset, BUCKET).unwrap();
        build::write(keys, ContentHash(1), file).unwrap();
        fs::read(temp.path()).unwrap()
    };
    assert!(write(1 << 20) == write(1_100));
    assert!(write(1 << 20) == write(1_000));
    let left = super::super::test_support::entries_below(&scratch.dataset.paths().staging_folder(BUCKET));
    assert_eq!(left, [""; 0], "runs leave nothing behind");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a plain list: clustered, equal and far-apart keys.
    #[test]
    fn a_search_finds_exactly_the_entries_of_its_keys(
        mut keys in proptest::collection::vec((0..3_u64, 0..40_u64, prop_oneof![Just(1_u64), Just(1 << 40), Just(1 << 47)]), 0..600),
        repeats in 1..120_usize,
    ) {
        let scratch = Scratch::new();
        let key = |(minute, n, step): (u64, u64, u64)| (minute * 700) << HASH_BITS | (n * step);
        let first = keys.first().copied();
        keys.extend(std::iter::repeat_n(first, repeats).flatten());
        let published: Vec<u64> = keys.iter().copied().map(key).collect();
        let (temp, _) = index_of(&scratch, published.iter().copied());
        let mut asked: Vec<_> = (0..3).flat_map(|m| (0..40).flat_map(move |n| [1, 1 << 40, 1 << 47].map(|s| key((m, n, s))))).collect();
        asked.sort_unstable();
        for every in [1, 7, 50] {
            let asked: Vec<_> = asked.iter().copied().step_by(every).enumerate().map(|(i, key)| (key, i)).collect();
            let mut found = Vec::new();
            IndexFile::open(temp.path(), ContentHash(1)).unwrap().search(&asked, |row, i| found.push((i, row))).unwrap();
            found.sort_unstable();
            let expected: Vec<_> = asked.iter().flat_map(|(key, i)| {
                (0_u32..).zip(&published).filter(move |(_, other)| *other == key).map(move |(row, _)| (*i, row))
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// Rows of any time, of which half are published, in files of one page and of many.
    #[test]
    fn rows_of_any_time_are_found(
        times in proptest::collection::vec(
            prop_oneof![
                // Before 1970, about midnight, in one second, over the day.
                -200_000_000_i64..0,
                MIDNIGHT - 2..MIDNIGHT + 2,
                MIDNIGHT + 4_000_000..MIDNIGHT + 4_001_000,
                MIDNIGHT..MIDNIGHT + 86_400_000,
                any::<i64>(),
            ],
            0..400,
        ),
        crowd in prop_oneof![Just(0_usize), Just(25_000)],
    ) {
        let scratch = Scratch::new();
        let of_crowd = (0..crowd).map(|n| key_at(MIDNIGHT + 4_000_000 + n as i64 % 1_000, 1_000_000 + n));
        let rows: Vec<_> = (0..).zip(&times).map(|(n, time)| key_at(*time, n)).collect();
        let published = || (0_u32..).zip(rows.iter().copied().step_by(2));
        let (_temp, mut index) = index_of(&scratch, published().map(|(_, key)| key).chain(of_crowd));
        let mut asked: Vec<_> = rows.iter().copied().zip(0_usize..).collect();
        asked.sort_unstable();
        let mut found = Vec::new();
        index.search(&asked, |row, n| found.push((row as usize * 2, n))).unwrap();
        found.sort_unstable();
        let expected: Vec<_> = (0..rows.len()).step_by(2).map(|n| (n, n)).collect();
        prop_assert_eq!(found, expected);
    }
}
