//! `--watch`: prompt after a quiet spell, patient under a stream, honest about what is wrong.

use std::fs;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::Options;
use super::support::{Scene, beats};
use crate::telemetry::health::{Health, PartHealth};

/// Runs `during` beside a watching compactor, which must then end when asked to.
async fn while_watching(scene: &Scene, during: impl AsyncFnOnce(&Health)) {
    let (health, shutdown) = (Health::new(), CancellationToken::new());
    let watch = scene.compactor().watch(&health, shutdown.clone());
    let work = async {
        during(&health).await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(watch, work) };
    let (watched, ()) =
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("the watch ends when asked to");
    watched.unwrap();
    assert!(health.snapshot().is_empty(), "its parts leave the board");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn part(health: &Health, name: &str) -> Option<PartHealth> {
    health.snapshot().into_iter().find(|part| part.name == name)
}

fn quick() -> Options {
    Options { publish_scan_every: Duration::from_millis(20).into(), ..Options::default() }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(future);
}

#[test]
fn the_first_rows_go_straight_through_and_the_next_wait_their_turn() {
    let scene = Scene::with(quick());
    run(while_watching(&scene, async |health| {
        until("well", || part(health, "publishing").is_some_and(|part| part.ok)).await;
        let staged = Instant::now();
        scene.stage(1, &beats("u", 0..10));
        until("published", || !scene.published_paths().is_empty()).await;
        assert!(staged.elapsed() < Duration::from_secs(10), "far less than publish_after");
        scene.stage(2, &beats("u", 10..20));
        until("seen", || part(health, "publishing").is_some_and(|part| part.detail.contains("10 rows wait"))).await;
        assert_eq!(scene.published_paths().len(), 1);
    }));
    assert_eq!(scene.staged().len(), 1, "the rows of a minute are published together");
}

#[test]
fn enough_rows_do_not_wait() {
    let scene = Scene::with(Options { publish_rows: 100, ..quick() });
    run(while_watching(&scene, async |_| {
        scene.stage(1, &beats("u", 0..10));
        until("published", || scene.published_paths().len() == 1).await;
        scene.stage(2, &beats("u", 10..120));
        until("published", || scene.published_paths().len() == 2).await;
    }));
    assert_eq!(scene.published(), beats("u", 0..120));
}

#[test]
fn what_is_due_is_consolidated_beside_publishing() {
    let scene = Scene::with(Options { max_files: 2, ..quick() });
    for claim in 0..3 {
        scene.stage(claim, &beats("u", claim..claim + 1));
        scene.pass_with(Options::default());
    }
    assert_eq!(scene.published_paths().len(), 3);
    run(while_watching(&scene, async |_| {
        until("consolidated", || scene.published_paths().len() == 1).await;
    }));
    assert_eq!(scene.published(), beats("u", 0..3));
}

#[test]
fn a_bucket_in_trouble_turns_health_unwell_until_it_is_mended() {
    let scene = Scene::with(quick());
    scene.stage(1, &beats("u", 0..10));
    scene.pass();
    let published = scene.published_paths().remove(0);
    let whole = fs::read(&published).unwrap();
    fs::write(&published, b"").unwrap();
    let damaged = scene.stage(2, &beats("v", 0..10));
    // The birth of the damaged file is seconds ago, so only enough rows make the bucket due.
    let scene = Scene { options: Options { publish_rows: 1, ..quick() }, ..scene };
    run(while_watching(&scene, async |health| {
        let unwell = |what: &'static str| {
            move || part(health, "publishing").is_some_and(|part| !part.ok && part.detail.contains(what))
        };
        until("held back", unwell("is held back")).await;
        fs::write(&published, &whole).unwrap();
        until("well", || part(health, "publishing").is_some_and(|part| part.ok)).await;
        assert!(!scene.staged_path(&damaged).exists());
    }));
    assert_eq!(scene.published(), [beats("u", 0..10), beats("v", 0..10)].concat());
}
