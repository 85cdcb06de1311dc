use std::fs;

use super::super::test_support::{
    BUCKET, RecordingFs, Scratch, beat, beats, entries_below, plain_record, publish, rows_of,
};
use super::super::{ContentHash, FragmentName, Options, PublishRecord};
use super::*;
use crate::heartbeat::{ClaimId, Heartbeat};

const NOW: Duration = Duration::ZERO;

/// Merges `files` into one that is not published yet.
fn merge(dataset: &Dataset, files: &[PublishedName]) -> Prepared {
    let mut record = PublishRecord::default();
    let mut rows = Vec::new();
    for name in files {
        record.absorb(&dataset.publish_record(BUCKET, name).unwrap());
        rows.extend(rows_of(&mut dataset.open_published(BUCKET, name).unwrap()));
    }
    rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
    let mut builder = dataset.begin_published(BUCKET).unwrap();
    rows.iter().for_each(|row| builder.push(row.as_ref()).unwrap());
    builder.finish(&record).unwrap()
}

fn published_rows(dataset: &Dataset) -> Vec<Heartbeat> {
    let mut rows = Vec::new();
    for name in dataset.list_published(BUCKET).unwrap() {
        dataset.verify_published(BUCKET, &name).unwrap();
        rows.extend(rows_of(&mut dataset.open_published(BUCKET, &name).unwrap()));
    }
    rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
    rows
}

fn three_files(dataset: &Dataset) -> Vec<PublishedName> {
    let rows = beats(30);
    let by_number = |n: usize| rows.iter().filter(|row| row.received_at % 3 == n as i64).cloned().collect::<Vec<_>>();
    (0..3).map(|n| publish(dataset, &by_number(n))).collect()
}

#[test]
fn small_files_become_one_and_large_ones_are_kept_in_one_step() {
    let scratch = Scratch::recorded();
    let dataset = &scratch.dataset;
    let files = three_files(dataset);
    scratch.steps();
    let mut replacement = dataset.begin_replacement(BUCKET).unwrap();
    replacement.keep(&files[0]).unwrap();
    let prepared = merge(dataset, &files[1..]);
    let added = replacement.add(prepared).unwrap();
    let before_exchange = scratch.steps();
    assert!(before_exchange.iter().all(|step| !step.contains(" heartbeats/") || step.starts_with("hard_link")));
    let retired = replacement.exchange().unwrap();

    let (staging, heartbeats) = (format!("staging/{BUCKET}"), format!("heartbeats/{BUCKET}"));
    assert_eq!(
        scratch.steps(),
        [
            format!("sync_dir {staging}/.next-<id>"),
            format!("sync_dir {staging}"),
            "sync_dir heartbeats/date=2026-11-22".into(),
            format!("exchange {staging}/.next-<id> {heartbeats}"),
            format!("sync_dir {staging}"),
            "sync_dir heartbeats/date=2026-11-22".into(),
            format!("rename {staging}/.next-<id> {staging}/.old-<id>"),
        ]
    );
    assert_eq!(dataset.list_published(BUCKET).unwrap(), [files[0], added]);
    assert_eq!(published_rows(dataset), beats(30));

    // What readers under way hold is still there, until it is deleted, with the indexes that nobody needs any more.
    let known = dataset.retired(BUCKET).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].id, retired.id);
    assert!(known[0].age < Duration::from_secs(60));
    dataset.delete_retired(BUCKET, &known[0]).unwrap();
    let mut left = [files[0], added].iter().map(|name| Staged::Index(*name).to_string()).collect::<Vec<_>>();
    left.sort();
    assert_eq!(entries_below(&dataset.paths().staging_folder(BUCKET)), left);
    assert_eq!(published_rows(dataset), beats(30));
    dataset.delete_retired(BUCKET, &known[0]).unwrap();
}

#[test]
fn an_exchange_that_would_lose_a_file_is_refused() {
    let scratch = Scratch::new();
    let files = three_files(&scratch.dataset);
    let mut replacement = scratch.dataset.begin_replacement(BUCKET).unwrap();
    replacement.add(merge(&scratch.dataset, &files[1..])).unwrap();
    assert!(matches!(replacement.exchange(), Err(Error::Conflict { .. })));
    assert_eq!(scratch.dataset.list_published(BUCKET).unwrap(), files);
    let mut indexes: Vec<_> = files.iter().map(|name| Staged::Index(*name).to_string()).collect();
    indexes.sort();
    assert_eq!(entries_below(&scratch.dataset.paths().staging_folder(BUCKET)), indexes);
}

#[test]
fn whatever_step_fails_readers_see_all_rows_and_a_later_pass_completes_it() {
    let steps = [
        "create_dir staging/",
        "hard_link",
        "create_new",
        "sync_dir staging/date=2026-11-22/partition=7/.next",
        "exchange",
        "sync_dir heartbeats/date",
        "rename staging/date=2026-11-22/partition=7/.next",
    ];
    for step in steps {
        let scratch = Scratch::recorded();
        let dataset = &scratch.dataset;
        let files = three_files(dataset);
        let consolidate = || {
            let mut replacement = dataset.begin_replacement(BUCKET)?;
            let current = dataset.list_published(BUCKET)?;
            replacement.keep(&current[0])?;
            let rows = current[1..].iter().flat_map(|name| rows_of(&mut dataset.open_published(BUCKET, name).unwrap()));
            let mut rows: Vec<_> = rows.collect();
            rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
            let mut builder = dataset.begin_published(BUCKET)?;
            rows.iter().try_for_each(|row| builder.push(row.as_ref()))?;
            replacement.add(builder.finish(&plain_record(&rows))?)?;
            replacement.exchange()
        };
        scratch.fs().refuse(step, io::ErrorKind::StorageFull);
        assert!(consolidate().is_err(), "{step}");
        scratch.fs().allow_all();
        assert_eq!(published_rows(dataset), beats(30), "{step}");
        if !step.starts_with("rename") {
            assert_eq!(dataset.list_published(BUCKET).unwrap(), files, "{step}");
        }
        consolidate().unwrap();
        assert_eq!(published_rows(dataset), beats(30), "{step}");
        dataset.clean_leftovers(BUCKET, NOW).unwrap();
        for retired in dataset.retired(BUCKET).unwrap() {
            dataset.delete_retired(BUCKET, &retired).unwrap();
        }
        let left = entries_below(&dataset.paths().staging_folder(BUCKET));
        assert_eq!(left.len(), 2, "{step}: an index for each of two files: {left:?}");
        assert_eq!(published_rows(dataset), beats(30), "{step}");
    }
}

#[test]
fn leftovers_go_when_old_and_nothing_else_does() {
    let scratch = Scratch::new();
    let dataset = &scratch.dataset;
    let name = publish(dataset, &[beat(1)]);
    let staging = dataset.paths().staging_folder(BUCKET);
    let fragment = FragmentName { claim: ClaimId::from_u128(1), hash: ContentHash(2), rows: 3 };
    let orphan = PublishedName { hash: ContentHash(9), ..name };
    let stay = [Staged::Fragment(fragment), Staged::Index(name), Staged::Lock, Staged::CompactLock];
    for staged in [&stay[..1], &stay[2..], &[Staged::Temp(Uuid::now_v7()), Staged::Index(orphan)]].concat() {
        fs::write(staging.join(staged.to_string()), "").unwrap();
    }
    fs::write(staging.join("foreign"), "").unwrap();
    let next = staging.join(Staged::Next(Uuid::now_v7()).to_string());
    fs::create_dir(&next).unwrap();
    fs::write(next.join(name.to_string()), "").unwrap();

    assert_eq!(dataset.clean_leftovers(BUCKET, Duration::from_secs(3600)).unwrap(), Cleaned::default());
    let cleaned = dataset.clean_leftovers(BUCKET, NOW).unwrap();
    assert_eq!(cleaned, Cleaned { temp_files: 1, folders: 1, indexes: 1 });
    let mut left: Vec<_> = stay.iter().map(ToString::to_string).chain(["foreign".into()]).collect();
    left.sort();
    assert_eq!(entries_below(&staging), left);
}

#[test]
fn a_folder_that_an_exchange_has_just_put_aside_is_young_however_old_its_files() {
    let scratch = Scratch::new();
    let dataset = &scratch.dataset;
    publish(dataset, &[beat(1)]);
    let next = dataset.paths().staged(BUCKET, Staged::Next(Uuid::now_v7()));
    fs::create_dir(&next).unwrap();
    let two_hours_ago = std::time::SystemTime::now() - Duration::from_secs(7_200);
    fs::File::open(&next).unwrap().set_modified(two_hours_ago).unwrap();
    assert_eq!(dataset.clean_leftovers(BUCKET, Duration::from_secs(3_600)).unwrap(), Cleaned::default());
    assert!(next.exists());
}

#[test]
fn without_exchange_nothing_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let recording = RecordingFs::new(dir.path());
    recording.refuse("exchange", io::ErrorKind::InvalidInput);
    let options = Options { data: dir.path().to_owned(), ..Options::default() };
    let dataset = Dataset::open_or_create(&options, std::sync::Arc::new(recording)).unwrap();
    assert!(matches!(dataset.begin_replacement(BUCKET), Err(Error::Unsupported { .. })));
}
