use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::super::test_support::{BUCKET, MIDNIGHT, Scratch, beat, beats, publish};
use super::super::{ContentHash, Error};
use super::*;
use crate::heartbeat::Heartbeat;

fn refs(rows: &[Heartbeat]) -> Vec<HeartbeatRef<'_>> {
    rows.iter().map(Heartbeat::as_ref).collect()
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
        assert!(lookup.contains(&refs(&absent)).unwrap().iter().all(|stands| !stands));
        lookup.bytes_read()
    };
    let (small, large) = (bytes_for(2_000), bytes_for(100_000));
    // Up to four blocks of 512 bytes a row, and the header.
    assert!(large <= 10 * 4 * 512 + 64, "{large} bytes read");
    assert!(large <= 4 * small, "{small} bytes for 2,000 rows, {large} for 100,000");
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
    let header = "53595354494458000100000002000000efcdab896745230100000000000000000000000002000000aabd614527020c44";
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
        let mut sorter = KeySorter::with_run(scratch.dataset.clone(), BUCKET, 100);
        published.iter().for_each(|key| sorter.push(*key).unwrap());
        let (temp, file) = TempFile::create(&scratch.dataset, BUCKET).unwrap();
        build::write(sorter, ContentHash(1), file).unwrap();

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
}
