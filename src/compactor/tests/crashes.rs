//! Whatever step a compactor dies at, the next pass leaves the same rows, each once, and balanced books.

use tokio_util::sync::CancellationToken;

use super::super::{Options, Silent};
use super::support::{Crashing, Scene, beats, claim_id, open};

/// Stages by `prepare`, dies at every single step of a pass in turn, and holds what a clean pass makes of the rest against
/// what `expected` says.
fn survives_a_crash_at_every_step(options: impl Fn() -> Options, prepare: impl Fn(&Scene), expected: impl Fn(&Scene)) {
    let prepared = Scene::with(options());
    prepare(&prepared);
    for step in 0.. {
        let scene = prepared.copy();
        let fs = Crashing::never();
        let crashing = scene.compactor_on(open(scene.folder.path(), fs.clone()));
        fs.arm(step);
        let _ = crashing.pass(&Silent, &CancellationToken::new());
        let died = fs.is_dead();
        drop(crashing);
        let summary = scene.pass();
        assert!(summary.is_clean(), "step {step}: {summary}");
        assert!(scene.staged().is_empty(), "step {step}");
        expected(&scene);
        let rows = scene.published();
        let claims = scene.merged_claims();
        assert!(scene.pass().is_clean());
        assert_eq!(
            (scene.published(), scene.merged_claims()),
            (rows, claims),
            "step {step}: a further pass moves nothing"
        );
        if !died {
            assert!(step > 10, "the pass did nothing that could be interrupted");
            return;
        }
    }
}

#[test]
fn publishing_survives_a_crash_at_every_step() {
    survives_a_crash_at_every_step(
        Options::default,
        |scene| {
            scene.stage(1, &beats("u", 0..50));
            scene.pass();
            scene.stage(2, &beats("u", 25..75));
            scene.stage(3, &beats("u", 60..80));
            scene.stage(1, &beats("u", 0..50));
        },
        |scene| {
            assert_eq!(scene.published(), beats("u", 0..80));
            assert_eq!(scene.merged_claims(), [(claim_id(1), 50), (claim_id(2), 50), (claim_id(3), 20)]);
        },
    );
}

#[test]
fn merging_in_several_steps_survives_a_crash_at_every_step() {
    survives_a_crash_at_every_step(
        || Options { merge_memory: Some(bytesize::ByteSize::b(1)), ..Options::default() },
        |scene| {
            for claim in 0..4 {
                scene.stage(claim, &beats("u", claim * 10..claim * 10 + 15));
            }
        },
        |scene| assert_eq!(scene.published(), beats("u", 0..45)),
    );
}

#[test]
fn consolidating_survives_a_crash_at_every_step() {
    let options = || Options {
        max_files: 2,
        large_file_rows: 100,
        reader_grace: std::time::Duration::ZERO.into(),
        ..Options::default()
    };
    survives_a_crash_at_every_step(
        options,
        |scene| {
            scene.stage(0, &beats("u", 0..200));
            scene.pass();
            for claim in 1..4 {
                scene.stage(claim, &beats("v", claim * 10..claim * 10 + 15));
                if claim < 3 {
                    scene.pass();
                }
            }
        },
        |scene| {
            assert_eq!(scene.published(), [beats("u", 0..200), beats("v", 10..45)].concat());
            let claims = [(claim_id(0), 200), (claim_id(1), 15), (claim_id(2), 15), (claim_id(3), 15)];
            assert_eq!(scene.merged_claims(), claims);
            assert_eq!(scene.published_paths().len(), 2);
        },
    );
}

#[test]
fn what_a_dead_predecessor_published_is_synced_before_its_fragments_are_deleted() {
    let scene = Scene::new();
    scene.stage(1, &beats("u", 0..50));
    scene.pass();
    // As if the predecessor had died behind its rename.
    scene.stage(1, &beats("u", 0..50));
    let fs = Crashing::never();
    let compactor = scene.compactor_on(open(scene.folder.path(), fs.clone()));
    fs.steps();
    compactor.pass(&Silent, &CancellationToken::new()).unwrap();
    let steps = fs.steps();
    let first = |what: &str| steps.iter().position(|step| step.contains(what)).unwrap();
    let bucket = format!("heartbeats/{}", scene.bucket);
    let parent = bucket.rsplit_once('/').unwrap().0;
    let deleted = first("remove_file");
    assert!(steps[deleted].contains(".part_"), "{steps:?}");
    for folder in [bucket.as_str(), parent, "heartbeats"] {
        let synced = steps.iter().position(|step| step.starts_with("sync_dir") && step.ends_with(folder)).unwrap();
        assert!(synced < deleted, "{folder}: {steps:?}");
    }
}
