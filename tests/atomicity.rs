//! Atomicity: kill -9 at every step of fragment, publish and consolidate leaves no damaged and no doubled published row.
//!
//! The steps are the failpoints that stand in the source, sorted by the first words of their names; the last test sees to
//! it that none is left out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::{Beat, Beats, Buffer, Client, Collector, SOON, Snapshot, World, failpoints, on_every_buffer};

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

/// What readers see at this instant is whole: no damage, no double, nothing out of place.
fn assert_sound(world: &World, after: &str) {
    let snapshot = Snapshot::read(world.dataset()).unwrap_or_else(|error| panic!("after {after}: {error}"));
    assert_eq!(snapshot.faults(), Vec::<String>::new(), "after {after}");
}

/// A collector that is filled bit by bit. Nothing is published but by a pass.
struct Stage<'w> {
    beats: Beats,
    again: Beat,
    client: Client,
    collector: Collector<'w>,
    world: &'w World,
}

impl<'w> Stage<'w> {
    /// Of a collector that is yet to be started.
    fn of(world: &'w World, collector: Collector<'w>) -> Self {
        let collector = collector.without_compactor().start();
        let beats = Beats::new(30, 2);
        let again = beats.next();
        Self { again, beats, client: collector.client(), collector, world }
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

    /// A compactor with these settings dies at `name`, and leaves what readers see whole.
    fn compactor_dies_at(&mut self, name: &str, args: &[&str]) {
        let world = self.world;
        self.collector.compactor_dies_at(name, args, || assert_sound(world, name));
    }

    fn assert_sound(&self, after: &str) {
        assert_sound(self.world, after);
    }

    fn assert_books_and_files(&self) {
        self.world.judge();
        self.world.verify();
        self.world.audit();
    }
}

fn a_kill_at_every_step_of_a_fragment_leaves_nothing_damaged_or_doubled(buffer: Buffer) {
    let world = World::on(buffer);
    let mut stage = Stage::of(&world, world.collector().with_quick_leases().without_batcher());
    for name in steps(FRAGMENT) {
        stage.post();
        stage.collector.batcher_dies_at(&format!("{name}=kill"));
        // The compactor may meet what the dead one left, before anyone repairs it.
        world.compact().run().expect_code(0);
        stage.assert_sound(&name);
        stage.collector.start_batcher();
        world.await_drained(SOON);
        stage.collector.stop_batcher();
        world.publish();
    }
    stage.assert_books_and_files();
}

fn a_kill_at_every_step_of_a_publish_leaves_nothing_damaged_or_doubled(buffer: Buffer) {
    let world = World::on(buffer);
    let mut stage = Stage::of(&world, world.collector());
    for name in steps(PUBLISH) {
        stage.post_and_drain();
        stage.compactor_dies_at(&name, &[]);
        world.publish();
    }
    stage.assert_books_and_files();
}

/// Kills at each of these steps of a compactor that always has something to consolidate, and a large file to link.
fn kill_consolidations(buffer: Buffer, names: Vec<String>) {
    const LARGE: &str = "--large-file-rows=50";
    const CONSOLIDATE: [&str; 4] = ["--max-files=2", "--small-file-share=0", "--reader-grace=0s", LARGE];
    let world = World::on(buffer);
    let mut stage = Stage::of(&world, world.collector());
    stage.client.must_keep(&stage.beats.take(400));
    for name in names {
        // Small files are merged from three on.
        for _ in 0..3 {
            stage.post_and_drain();
            world.compact().args(["--max-files=100000", "--small-file-share=1", LARGE]).run().expect_code(0);
        }
        stage.compactor_dies_at(&name, &CONSOLIDATE);
        world.compact().args(CONSOLIDATE).run().expect_code(0);
        world.judge();
    }
    stage.assert_books_and_files();
}

fn a_kill_at_every_step_of_a_consolidation_leaves_nothing_damaged_or_doubled(buffer: Buffer) {
    kill_consolidations(buffer, steps(CONSOLIDATE));
}

fn a_kill_while_the_replaced_files_are_deleted_leaves_nothing_damaged_or_doubled(buffer: Buffer) {
    kill_consolidations(buffer, steps(RETIRE));
}

fn a_kill_while_a_damaged_fragment_is_laid_aside_publishes_nothing_of_it_and_keeps_it(buffer: Buffer) {
    for name in steps(QUARANTINE) {
        let world = World::on(buffer);
        let mut stage = Stage::of(&world, world.collector());
        stage.post_and_drain();
        let fragment = world.staged().into_iter().next().unwrap();
        let mut bytes = std::fs::read(&fragment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&fragment, &bytes).unwrap();

        stage.compactor_dies_at(&name, &[]);
        // A damaged fragment is something found: exit code 1, however often it is asked.
        for _ in 0..2 {
            world.compact().run().expect_code(1);
            stage.assert_sound(&name);
        }
        let published = Snapshot::read(world.dataset()).unwrap();
        let lost = published.disagreements(&world.ledger).len();
        assert!(lost > 0 && lost < 61, "{lost} of 61: all but one fragment are published");
        let kept = support::oracle::every_file(&world.dataset().join("staging"));
        assert!(kept.iter().any(|path| std::fs::read(path).is_ok_and(|content| content == bytes)), "{kept:?}");
        // Quarantined is accounted for.
        world.audit();
    }
}

on_every_buffer! {
    a_kill_at_every_step_of_a_fragment_leaves_nothing_damaged_or_doubled,
    a_kill_at_every_step_of_a_publish_leaves_nothing_damaged_or_doubled,
    a_kill_at_every_step_of_a_consolidation_leaves_nothing_damaged_or_doubled,
    a_kill_while_the_replaced_files_are_deleted_leaves_nothing_damaged_or_doubled,
    a_kill_while_a_damaged_fragment_is_laid_aside_publishes_nothing_of_it_and_keeps_it,
}

#[test]
fn every_step_has_its_test() {
    let known = [FRAGMENT, PUBLISH, CONSOLIDATE, RETIRE, QUARANTINE].concat();
    assert_eq!(steps(&known), steps(&[""]));
}
