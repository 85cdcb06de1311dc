//! Damage stays where it is, is named, and stops nothing else.

use std::fs;

use tokio_util::sync::CancellationToken;

use super::super::visit::{Watcher, Work};
use super::super::{Error, Options, Silent, Summary};
use super::support::{Scene, beats, claim_id};
use crate::dataset::Bucket;

#[test]
fn damaged_fragments_go_to_quarantine_and_the_others_are_published() {
    let scene = Scene::new();
    scene.stage(1, &beats("a", 0..100));
    let flipped = scene.stage(2, &beats("b", 0..100));
    let torn = scene.stage(3, &beats("c", 0..100));
    let empty = scene.stage(4, &beats("d", 0..100));
    let mut bytes = fs::read(scene.staged_path(&flipped)).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 4;
    fs::write(scene.staged_path(&flipped), &bytes).unwrap();
    fs::write(scene.staged_path(&torn), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(scene.staged_path(&empty), b"").unwrap();

    let summary = scene.pass();
    assert_eq!((summary.fragments_merged, summary.fragments_quarantined, summary.in_quarantine), (1, 3, 3));
    assert!(!summary.is_clean());
    assert_eq!(scene.published(), beats("a", 0..100));
    let quarantined = scene.dataset.quarantined(scene.bucket).unwrap();
    assert_eq!(quarantined.iter().map(|one| one.name).collect::<Vec<_>>(), [flipped, torn, empty]);
    assert!(quarantined.iter().all(|one| !one.reason.is_empty()));
    assert_eq!(scene.pass().in_quarantine, 3, "they stay, and stay named");
}

#[test]
fn fragments_that_cannot_be_opened_do_not_keep_those_behind_them_waiting() {
    let scene = Scene::with(Options { publish_rows: 10, ..Options::default() });
    let path = scene.staged_path(&scene.stage(1, &beats("a", 0..10)));
    scene.stage(2, &beats("b", 0..10));
    scene.stage(3, &beats("c", 0..10));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let (compactor, stop) = (scene.compactor(), CancellationToken::new());
    let watcher = Watcher { progress: &Silent, stop: &stop };
    // One file at a time, as the watch publishes.
    for published in 1..=2 {
        let visited = compactor.visit(scene.bucket, Work::PublishOne, watcher, &mut Summary::default());
        assert!(matches!(visited, Err(Error::LeftStaged { left: 1, .. })), "{visited:?}");
        assert_eq!(scene.published_paths().len(), published);
    }
}

#[test]
fn a_fragment_that_cannot_be_opened_stays_staged_and_the_others_are_published() {
    let scene = Scene::new();
    scene.stage(1, &beats("a", 0..10));
    let unreadable = scene.stage(2, &beats("b", 0..10));
    let path = scene.staged_path(&unreadable);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    // A link to itself: an error of the operating system, no fault of the fragment.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let summary = scene.pass();
    assert_eq!((summary.failed.len(), summary.fragments_merged, summary.in_quarantine), (1, 1, 0), "{summary}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert!(scene.pass().is_clean());
    assert_eq!(scene.published(), [beats("a", 0..10), beats("b", 0..10)].concat());
}

#[test]
fn a_quarantined_fragment_that_its_batcher_writes_again_is_published() {
    let scene = Scene::new();
    let name = scene.stage(1, &beats("a", 0..10));
    fs::write(scene.staged_path(&name), b"").unwrap();
    scene.pass();
    scene.stage(1, &beats("a", 0..10));
    scene.pass();
    assert_eq!(scene.published(), beats("a", 0..10));
}

#[test]
fn a_damaged_published_file_holds_back_its_bucket_and_no_other() {
    let scene = Scene::new();
    let other = Bucket::of(0, 0);
    scene.stage(1, &beats("a", 0..10));
    scene.pass();
    let published = scene.published_paths().remove(0);
    let whole = fs::read(&published).unwrap();
    fs::write(&published, b"").unwrap();
    scene.stage(2, &beats("b", 0..10));
    scene.stage_in(other, 3, &beats("c", 0..10));

    let summary = scene.pass();
    assert_eq!(summary.held_back.len(), 1, "{summary}");
    assert!(summary.held_back[0].reason.contains("heartbeats-"), "{summary}");
    assert_eq!(scene.staged().len(), 1, "nothing is merged while what stands is unknown");
    assert_eq!(scene.dataset.list_published(other).unwrap().len(), 1);

    fs::write(&published, whole).unwrap();
    assert!(scene.pass().is_clean());
    assert_eq!(scene.published(), [beats("a", 0..10), beats("b", 0..10)].concat());
}

/// Three small files that are due to be consolidated, of which the first is damaged by `damage`.
fn consolidate_a_damaged_file(damage: impl FnOnce(&mut Vec<u8>)) {
    let scene = Scene::with(Options { max_files: 2, ..Options::default() });
    for claim in 0..3 {
        // Minutes apart, so that no identity has to be looked up in the file that is damaged.
        let first = claim * 1_000_000;
        scene.stage(claim, &beats("a", first..first + 10));
        if claim < 2 {
            scene.pass();
        }
    }
    let published = scene.published_paths().remove(0);
    let mut bytes = fs::read(&published).unwrap();
    damage(&mut bytes);
    fs::write(&published, bytes).unwrap();
    let summary = scene.pass();
    assert_eq!((summary.held_back.len(), summary.files_consolidated), (1, 0), "{summary}");
    assert_eq!(scene.published_paths().len(), 3);
}

#[test]
fn a_bit_that_flipped_in_the_rows_of_a_published_file_is_seen_before_it_is_consolidated() {
    consolidate_a_damaged_file(|bytes| bytes[20] ^= 1);
}

#[test]
fn a_bit_that_flipped_in_the_record_of_a_published_file_is_seen_before_it_is_consolidated() {
    consolidate_a_damaged_file(|bytes| {
        let claim = format!("{:032x}", claim_id(0).to_u128()).into_bytes();
        let at = bytes.windows(claim.len()).position(|window| window == claim).unwrap();
        // Another digit, so that the record still reads: as one of another claim.
        bytes[at + claim.len() - 1] ^= 1;
    });
}
