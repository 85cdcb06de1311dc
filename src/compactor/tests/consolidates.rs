//! Many files become few; rows, records and readers stay as they were.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;

use super::super::{Options, Silent};
use super::support::{Crashing, Scene, beats, claim_id, open};
use crate::dataset::{self, Bucket, Dataset, MergedClaim, PublishRecord, RealFs};

fn options() -> Options {
    Options {
        max_files: 4,
        large_file_rows: 100,
        reader_grace: std::time::Duration::from_secs(3600).into(),
        ..Options::default()
    }
}

/// A bucket with one large file and five small ones.
fn scene() -> Scene {
    let scene = Scene::with(options());
    scene.stage(0, &beats("u", 0..200));
    scene.pass();
    for claim in 1..6 {
        scene.stage(claim, &beats("u", claim * 5..claim * 5 + 200 - claim));
        scene.stage(claim + 100, &beats("v", claim * 5..claim * 5 + 10));
        if claim < 5 {
            let summary = scene.pass();
            assert_eq!(summary.files_consolidated, 0, "{summary}");
        }
    }
    scene
}

#[test]
fn small_files_become_one_and_the_large_one_is_linked_unchanged() {
    let scene = scene();
    let large = scene.published_paths().remove(0);
    let inode = fs::metadata(&large).unwrap().ino();
    let summary = scene.pass();
    assert_eq!(summary.files_consolidated, 5, "{summary}");
    assert_eq!(scene.published_paths().len(), 2);
    assert_eq!(fs::metadata(&large).unwrap().ino(), inode);
    let rows = [beats("u", 0..220), beats("v", 5..35)].concat();
    assert_eq!(scene.published(), rows);
    let mut claims: Vec<_> = (0..6).chain(101..106).map(claim_id).collect();
    claims.sort();
    assert_eq!(scene.merged_claims().into_iter().map(|(claim, _)| claim).collect::<Vec<_>>(), claims);
    scene.stage(3, &beats("u", 15..212));
    assert_eq!(scene.pass().fragments_known, 1, "a record survives consolidation");
    assert_eq!(scene.published(), rows);
}

#[test]
fn what_was_replaced_is_deleted_after_the_grace_and_not_before() {
    let mut scene = scene();
    scene.pass();
    assert_eq!(scene.dataset.retired(scene.bucket).unwrap().len(), 1);
    assert_eq!(scene.pass().retired_deleted, 0);
    scene.options.reader_grace = std::time::Duration::ZERO.into();
    assert_eq!(scene.pass().retired_deleted, 1);
    assert!(scene.dataset.retired(scene.bucket).unwrap().is_empty());
    assert!(scene.pass().is_clean());
    assert_eq!(scene.published().len(), 250);
}

#[test]
fn a_past_date_is_consolidated_once() {
    let mut scene = Scene::new();
    scene.bucket = Bucket::of(0, 0);
    for claim in 0..3 {
        scene.stage(claim, &beats("u", 0..10));
        let summary = scene.pass();
        // The first has nothing to be merged with, the third comes on the same day.
        assert_eq!(summary.files_consolidated, if claim == 1 { 2 } else { 0 }, "{summary}");
    }
    assert_eq!(scene.published_paths().len(), 2);
}

#[test]
fn a_row_that_stands_twice_holds_the_bucket_back_instead_of_being_dropped() {
    let scene = Scene::with(Options { max_files: 2, ..Options::default() });
    let row = beats("u", 0..1);
    for claim in 0..3 {
        // Past the compactor, as only a fault in the program could.
        let mut file = scene.dataset.begin_published(scene.bucket).unwrap();
        file.push(row[0].as_ref()).unwrap();
        let merged = MergedClaim { claim: claim_id(claim), hash: crate::dataset::ContentHash(1), rows: 1 };
        let record =
            PublishRecord { claims: vec![merged], merged_rows: 1, published_rows: 1, ..PublishRecord::default() };
        scene.dataset.commit_published(file.finish(&record).unwrap()).unwrap();
    }
    let summary = scene.pass();
    assert!(summary.held_back[0].reason.contains("more than one"), "{summary}");
    assert_eq!(scene.published_paths().len(), 3);
}

#[test]
fn files_that_name_the_same_claim_are_merged_together() {
    let scene = Scene::with(options());
    scene.stage(7, &beats("u", 0..200));
    scene.pass();
    for last in 1..6 {
        // The claim of the large file came back in another fragment.
        scene.stage(if last == 1 { 7 } else { last }, &beats("v", 0..last));
        scene.pass();
    }
    assert_eq!(scene.published_paths().len(), 1, "the large file was drawn in");
    let claims = scene.merged_claims();
    assert_eq!(claims.iter().filter(|(claim, _)| *claim == claim_id(7)).count(), 2);
    assert_eq!(scene.published(), [beats("u", 0..200), beats("v", 0..5)].concat());
}

#[test]
fn nothing_is_consolidated_where_the_disk_would_be_filled_beyond_min_free() {
    let scene = scene();
    let narrow = dataset::Options {
        data: scene.folder.path().to_owned(),
        min_free: ByteSize::pib(1),
        ..dataset::Options::default()
    };
    let compactor = scene.compactor_on(Dataset::open(&narrow, Arc::new(RealFs)).unwrap());
    let summary = compactor.pass(&Silent, &CancellationToken::new()).unwrap();
    assert_eq!((summary.files_published, summary.files_consolidated), (1, 0), "{summary}");
    assert!(summary.failed[0].reason.contains("min-free"), "{summary}");
    assert_eq!(scene.published_paths().len(), 6);
    assert_eq!(scene.pass().files_consolidated, 5, "with room it goes on");
    assert_eq!(scene.published().len(), 250);
}

#[test]
fn a_file_that_cannot_be_kept_is_noticed_before_the_others_are_merged() {
    let mut scene = Scene::with(options());
    let disk = Crashing::never();
    scene.dataset = open(scene.folder.path(), disk.clone());
    let compactor = scene.compactor();
    let pass = || compactor.pass(&Silent, &CancellationToken::new()).unwrap();
    // Minutes apart, so that no identity has to be looked up in the large file.
    let rows = |claim: i64| beats("u", claim * 1_000_000..claim * 1_000_000 + if claim == 0 { 200 } else { 10 });
    for claim in 0..5 {
        scene.stage(claim, &rows(claim));
        pass();
    }
    // It is known by now, so that nothing reads its footer but what would keep it.
    let large = scene.published_paths().remove(0);
    let whole = fs::read(&large).unwrap();
    fs::write(&large, &whole[..whole.len() - 1]).unwrap();
    scene.stage(5, &rows(5));
    assert_eq!(pass().held_back.len(), 1, "five small files are due");
    disk.steps();
    assert_eq!(pass().held_back.len(), 1);
    let written = disk.steps().into_iter().filter(|step| step.starts_with("create_new")).count();
    assert_eq!(written, 0, "nothing is merged in vain");
    fs::write(&large, whole).unwrap();
    assert_eq!(pass().files_consolidated, 5);
    assert_eq!(scene.published(), (0..6).flat_map(rows).collect::<Vec<_>>());
}

#[test]
fn where_folders_cannot_be_exchanged_the_files_stay_as_many_as_they_are() {
    let mut scene = scene();
    scene.dataset = open(scene.folder.path(), Crashing::without_exchange());
    assert!(!scene.dataset.capabilities().exchange);
    for _ in 0..2 {
        let summary = scene.pass();
        assert!(summary.is_clean() && summary.files_consolidated == 0, "{summary}");
    }
    assert_eq!(scene.published_paths().len(), 6);
    assert_eq!(scene.published().len(), 250);
}
