//! Several compactors and batchers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::{Options, Summary};
use super::support::{Scene, beats, open_with};
use crate::dataset::RealFs;

#[test]
fn compactors_at_once_publish_each_row_once_while_batchers_write() {
    let options = Options { max_files: 3, reader_grace: std::time::Duration::ZERO.into(), ..Options::default() };
    let (scene, done) = (Scene::with(options), AtomicBool::new(false));
    let summaries = std::thread::scope(|threads| {
        let compact = || {
            let mut summaries = Vec::new();
            while !done.load(Ordering::SeqCst) {
                summaries.push(scene.pass());
            }
            summaries
        };
        let compactors = [threads.spawn(compact), threads.spawn(compact)];
        for claim in 0..20 {
            scene.stage(claim, &beats("u", claim * 10..claim * 10 + 20));
        }
        done.store(true, Ordering::SeqCst);
        compactors.map(|compactor| compactor.join().unwrap()).concat()
    });
    let last = scene.pass();
    assert!(last.is_clean(), "{last}");
    let sum = |count: fn(&Summary) -> u64| summaries.iter().chain([&last]).map(count).sum::<u64>();
    assert!(summaries.iter().all(|summary| summary.failed.is_empty() && summary.held_back.is_empty()));
    assert_eq!(scene.published(), beats("u", 0..210));
    assert_eq!(sum(|summary| summary.fragments_merged), 20);
    assert_eq!(sum(|summary| summary.rows_published), 210);
    assert_eq!(sum(|summary| summary.rows_deduplicated), 190);
    assert_eq!(scene.merged_claims().len(), 20);
}

#[test]
fn a_bucket_that_another_compactor_has_is_skipped_and_named() {
    let scene = Scene::new();
    scene.stage(1, &beats("u", 0..10));
    let lock = scene.dataset.try_lock_compaction(scene.bucket).unwrap();
    let summary = scene.pass();
    assert_eq!((summary.skipped_locked.len(), summary.files_published), (1, 0));
    assert!(summary.is_clean(), "nothing is wrong with it");
    drop(lock);
    assert_eq!(scene.pass().files_published, 1);
}

#[test]
fn a_batcher_that_sits_on_the_lock_makes_a_bucket_wait_and_no_other() {
    let mut scene = Scene::new();
    scene.dataset = open_with(scene.folder.path(), Arc::new(RealFs), Duration::from_millis(50));
    scene.stage(1, &beats("u", 0..10));
    let other = crate::dataset::Bucket::of(0, 0);
    scene.stage_in(other, 2, &beats("v", 0..10));
    let lock = scene.dataset.lock_bucket_shared(scene.bucket).unwrap();
    let summary = scene.pass();
    assert_eq!((summary.skipped_locked.len(), summary.files_published), (1, 1), "{summary}");
    drop(lock);
    assert_eq!(scene.pass().files_published, 1);
    assert_eq!(scene.published(), beats("u", 0..10));
}
