//! Published means once.

use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;

use super::super::{Options, Silent};
use super::support::{Scene, beat, beats, claim_id};
use crate::heartbeat::Heartbeat;

#[test]
fn what_is_staged_is_published_once_however_often_a_pass_runs() {
    let scene = Scene::new();
    scene.stage(1, &beats("b", 0..100));
    scene.stage(2, &beats("a", 50..150));
    let first = scene.pass();
    assert_eq!((first.fragments_merged, first.rows_published, first.rows_deduplicated), (2, 200, 0));
    assert!(first.is_clean(), "{first}");
    let expected = [beats("a", 50..150), beats("b", 0..100)].concat();
    assert_eq!(scene.published(), expected);
    assert!(scene.staged().is_empty());
    for _ in 0..3 {
        let again = scene.pass();
        assert_eq!((again.fragments_merged, again.files_published), (0, 0));
    }
    assert_eq!(scene.published(), expected);
    assert_eq!(scene.merged_claims(), [(claim_id(1), 100), (claim_id(2), 100)]);
}

#[test]
fn of_equal_identities_the_lowest_stays_and_what_is_published_stays_for_ever() {
    let scene = Scene::new();
    let with = |received_at, attributes: Option<&str>| Heartbeat {
        received_at,
        attributes: attributes.map(Into::into),
        ..beat("u", 1)
    };
    scene.stage(1, &[with(20, Some("{}")), with(20, None), beat("t", 5)]);
    scene.stage(2, &[with(21, None)]);
    let summary = scene.pass();
    assert_eq!((summary.rows_published, summary.rows_deduplicated), (2, 2));
    assert_eq!(scene.published(), [beat("t", 5), with(20, None)]);

    scene.stage(3, &[with(1, None), beat("v", 1)]);
    let summary = scene.pass();
    assert_eq!((summary.rows_published, summary.rows_deduplicated), (1, 1));
    assert_eq!(scene.published(), [beat("t", 5), with(20, None), beat("v", 1)]);
}

#[test]
fn a_fragment_that_returns_after_it_was_merged_is_only_deleted() {
    let scene = Scene::new();
    scene.stage(1, &beats("u", 0..10));
    scene.pass();
    let zombie = scene.stage(1, &beats("u", 0..10));
    let summary = scene.pass();
    assert_eq!((summary.fragments_known, summary.fragments_merged, summary.files_published), (1, 0, 0));
    assert!(!scene.staged_path(&zombie).exists());
    assert_eq!(scene.published(), beats("u", 0..10));
    assert_eq!(scene.merged_claims(), [(claim_id(1), 10)]);
}

#[test]
fn another_fragment_of_a_merged_claim_is_merged_again_and_named_but_adds_only_what_is_new() {
    let scene = Scene::new();
    scene.stage(1, &beats("u", 0..10));
    scene.pass();
    scene.stage(1, &beats("u", 0..11));
    let summary = scene.pass();
    assert_eq!((summary.fragments_merged, summary.rows_published, summary.rows_deduplicated), (1, 1, 10));
    assert_eq!(scene.published(), beats("u", 0..11));
    assert_eq!(scene.merged_claims(), [(claim_id(1), 10), (claim_id(1), 11)]);
}

#[test]
fn a_publish_without_a_new_row_leaves_a_file_of_no_rows_that_keeps_its_record() {
    let scene = Scene::new();
    scene.stage(1, &beats("u", 0..10));
    scene.pass();
    scene.stage(2, &beats("u", 0..10));
    let summary = scene.pass();
    assert_eq!((summary.files_published, summary.rows_published, summary.rows_deduplicated), (1, 0, 10));
    assert_eq!(scene.published_paths().len(), 2);
    assert_eq!(scene.published(), beats("u", 0..10));
    scene.stage(2, &beats("u", 0..10));
    assert_eq!(scene.pass().fragments_known, 1);
}

#[test]
fn a_backlog_is_published_in_files_of_a_bounded_size() {
    let scene = Scene::with(Options { publish_rows: 10, ..Options::default() });
    for claim in 0..5 {
        scene.stage(claim, &beats("u", claim * 3..claim * 3 + 6));
    }
    let summary = scene.pass();
    assert_eq!((summary.files_published, summary.fragments_merged), (5, 5));
    assert_eq!(scene.published(), beats("u", 0..18));
}

#[test]
fn the_memory_budget_changes_the_steps_and_not_the_rows() {
    let scene = Scene::with(Options { merge_memory: Some(ByteSize::b(1)), ..Options::default() });
    for claim in 0..9 {
        scene.stage(claim, &beats("u", claim * 7..claim * 7 + 30));
    }
    let summary = scene.pass();
    assert_eq!((summary.rows_merged, summary.rows_published), (270, 86));
    assert_eq!(scene.published(), beats("u", 0..86));
    let staging = scene.folder.path().join("staging").join(scene.bucket.to_string());
    let temp_files = std::fs::read_dir(staging).unwrap();
    assert!(!temp_files.map(|entry| entry.unwrap().file_name()).any(|name| name.to_string_lossy().contains("tmp")));
}

#[test]
fn a_pass_that_is_asked_to_stop_changes_nothing_and_says_so() {
    let scene = Scene::new();
    scene.stage(1, &beats("u", 0..10));
    let stop = CancellationToken::new();
    stop.cancel();
    let summary = scene.compactor().pass(&Silent, &stop).unwrap();
    assert!(summary.stopped && !summary.is_clean());
    assert_eq!((scene.staged().len(), scene.published_paths().len()), (1, 0));
}
