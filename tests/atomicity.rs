//! Atomicity: kill -9 at every step of fragment, publish and consolidate leaves no damaged and no doubled published row.
//!
//! The steps are the failpoints that stand in the source, sorted by the first words of their names; the last test sees to
//! it that none is left out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::{Beat, Beats, Client, Launch, QUICK_LEASE, SOON, Snapshot, Systole, World, failpoints};

/// Steps of a batcher that writes a fragment.
const FRAGMENT: &[&str] = &["fragment."];
/// Steps of a pass that publishes.
const PUBLISH: &[&str] = &["publish.", "compactor.publish.", "fragments.", "compactor.recover."];
/// Steps of a pass that consolidates.
const CONSOLIDATE: &[&str] = &["consolidate.", "compactor.consolidate."];
/// Steps of deleting what a consolidation replaced.
const RETIRE: &[&str] = &["retire.", "compactor.retired."];
/// Steps of laying a damaged fragment aside.
const QUARANTINE: &[&str] = &["quarantine.", "compactor.quarantine."];

/// The failpoints of dataset and compactor whose names begin so.
fn steps(begin: &[&str]) -> Vec<String> {
    let mut names = failpoints::in_part("dataset");
    names.extend(failpoints::in_part("compactor"));
    names.retain(|name| begin.iter().any(|prefix| name.starts_with(prefix)));
    assert!(!names.is_empty(), "no failpoint begins with any of {begin:?}");
    names.into_iter().collect()
}

/// A collector that is filled bit by bit.
struct Stage {
    beats: Beats,
    again: Beat,
    client: Client,
    _serve: Systole,
    world: World,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        world.register();
        let serve = world.serve().start();
        serve.await_status("/health/ready", 200, SOON);
        let beats = Beats::new(30, 2);
        let again = beats.next();
        Self { again, beats, client: world.client(&serve), _serve: serve, world }
    }

    /// New heartbeats, and one that has come before.
    fn post(&self) {
        let mut bulk = self.beats.take(60);
        bulk.push(self.again.clone());
        self.client.must_keep(&bulk);
    }

    /// The same, as fragments.
    fn post_and_drain(&self) {
        self.post();
        self.world.await_drained(SOON);
    }

    /// What readers see at this instant is whole: no damage, no double, nothing out of place.
    fn assert_sound(&self, after: &str) {
        let snapshot = Snapshot::read(self.world.dataset()).unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert_eq!(snapshot.faults(), Vec::<String>::new(), "after {after}");
    }

    fn assert_books_and_files(&self) {
        self.world.judge();
        self.world.verify();
        self.world.audit();
    }
}

#[test]
fn a_kill_at_every_step_of_a_fragment_leaves_nothing_damaged_or_doubled() {
    let stage = Stage::new();
    for name in steps(FRAGMENT) {
        stage.post();
        let batch = stage.world.batch().args(QUICK_LEASE);
        batch.clone().failpoints(&format!("{name}=kill")).start().await_killed(SOON);
        // The compactor may meet what the dead one left, before anyone repairs it.
        stage.world.compact().run().expect_code(0);
        stage.assert_sound(&name);
        let batch = batch.start();
        stage.world.await_drained(SOON);
        batch.stop();
        stage.world.publish();
    }
    stage.assert_books_and_files();
}

/// Two passes that die at `name`, if they reach it; one of them must.
fn kill_two_passes(stage: &Stage, pass: &Launch, name: &str) {
    let dying = pass.clone().failpoints(&format!("{name}=kill"));
    let killed = [0, 1].map(|_| {
        let killed = dying.clone().run().was_killed();
        stage.assert_sound(name);
        killed
    });
    assert!(killed.contains(&true), "{name} was not reached");
}

#[test]
fn a_kill_at_every_step_of_a_publish_leaves_nothing_damaged_or_doubled() {
    let stage = Stage::new();
    let batch = stage.world.batch().start();
    for name in steps(PUBLISH) {
        stage.post_and_drain();
        kill_two_passes(&stage, &stage.world.compact(), &name);
        stage.world.publish();
    }
    stage.assert_books_and_files();
    drop(batch);
}

/// Kills at each of these steps of a pass that always has something to consolidate, and a large file to link.
fn kill_consolidations(names: Vec<String>) {
    const LARGE: &str = "--large-file-rows=50";
    let stage = Stage::new();
    let batch = stage.world.batch().start();
    stage.client.must_keep(&stage.beats.take(400));
    for name in names {
        // Small files are merged from three on: two come here, one in the pass.
        for _ in 0..2 {
            stage.post_and_drain();
            stage.world.compact().args(["--max-files=100000", "--small-file-share=1", LARGE]).run().expect_code(0);
        }
        stage.post_and_drain();
        let pass = stage.world.compact().args(["--max-files=2", "--small-file-share=0", "--reader-grace=0s", LARGE]);
        kill_two_passes(&stage, &pass, &name);
        pass.run().expect_code(0);
        stage.world.judge();
    }
    stage.assert_books_and_files();
    drop(batch);
}

#[test]
fn a_kill_at_every_step_of_a_consolidation_leaves_nothing_damaged_or_doubled() {
    kill_consolidations(steps(CONSOLIDATE));
}

#[test]
fn a_kill_while_the_replaced_files_are_deleted_leaves_nothing_damaged_or_doubled() {
    kill_consolidations(steps(RETIRE));
}

#[test]
fn a_kill_while_a_damaged_fragment_is_laid_aside_publishes_nothing_of_it_and_keeps_it() {
    for name in steps(QUARANTINE) {
        let stage = Stage::new();
        let batch = stage.world.batch().start();
        stage.post_and_drain();
        batch.stop();
        let fragment = stage.world.staged().into_iter().next().unwrap();
        let mut bytes = std::fs::read(&fragment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&fragment, &bytes).unwrap();

        kill_two_passes(&stage, &stage.world.compact(), &name);
        // A damaged fragment is something found: exit code 1, however often it is asked.
        for _ in 0..2 {
            stage.world.compact().run().expect_code(1);
            stage.assert_sound(&name);
        }
        let published = Snapshot::read(stage.world.dataset()).unwrap();
        let lost = published.disagreements(&stage.world.ledger).len();
        assert!(lost > 0 && lost < 61, "{lost} of 61: all but one fragment are published");
        let kept = support::oracle::every_file(&stage.world.dataset().join("staging"));
        assert!(kept.iter().any(|path| std::fs::read(path).is_ok_and(|content| content == bytes)), "{kept:?}");
        // Quarantined is accounted for.
        stage.world.audit();
    }
}

#[test]
fn every_step_has_its_test() {
    let known = [FRAGMENT, PUBLISH, CONSOLIDATE, RETIRE, QUARANTINE].concat();
    assert_eq!(steps(&known), steps(&[""]));
}
