//! Writer fails: full disk, no permission, SIGKILL between any two steps: nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use support::tmpfs::Tmpfs;
use support::{Beats, Buffer, Collector, Producers, SOON, World, failpoints, on_every_buffer, wait};

/// A writer that cannot write says so, holds everything back, and goes on by itself once it can.
fn survives(world: &World, collector: &Collector<'_>, break_it: impl FnOnce(), mend_it: impl FnOnce()) {
    let (client, batch) = (collector.client(), collector.batcher());
    let beats = Beats::new(30, 2);
    client.must_keep(&beats.take(100));
    world.await_published(SOON);

    break_it();
    client.must_keep(&beats.take(200));
    batch.await_status("/health", 503, SOON);
    assert!(world.held("pending") + world.held("claimed") > 0, "it was not broken");

    mend_it();
    batch.await_status("/health", 200, SOON);
    world.await_drained(SOON);
    assert_eq!(world.held("dead"), 0, "a fault of the world makes no dead letters");
    world.await_published(SOON);
    world.audit();
}

// The disk of the dataset alone, while the buffer's is well. What `up` does, whose buffer is on the same disk, stands in
// tests/up.rs.
#[test]
fn a_full_disk_loses_nothing() {
    let Some(disk) = Tmpfs::mount("8m") else { return };
    let world = World::on(Buffer::Redis).dataset_in(disk.path());
    let collector = world.collector().start();
    survives(&world, &collector, || drop(disk.fill()), || std::fs::remove_file(disk.path().join("ballast")).unwrap());
}

#[test]
fn a_disk_that_turns_read_only_loses_nothing() {
    let Some(disk) = Tmpfs::mount("8m") else { return };
    let world = World::on(Buffer::Redis).dataset_in(disk.path());
    let collector = world.collector().start();
    survives(&world, &collector, || disk.read_only(true), || disk.read_only(false));
}

#[test]
fn a_disk_with_no_room_to_spare_is_not_written_to() {
    let Some(disk) = Tmpfs::mount("8m") else { return };
    let world = World::on(Buffer::Redis).dataset_in(disk.path());
    world.register();
    // Less is free than it is told to leave.
    let batch = world.batch().args(["--min-free=16MiB"]).start();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    world.client(&serve).must_keep(&Beats::new(10, 1).take(50));
    batch.await_status("/health", 503, SOON);
    assert_eq!((world.held("pending"), world.held("claimed")), (50, 0));
    batch.stop();
    let _batch = world.batch().start();
    world.await_drained(SOON);
    world.publish();
}

fn a_lost_permission_loses_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    // Root may write anywhere; a root without these two capabilities may not.
    let bounded = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"];
    let is_root = rustix::process::geteuid().is_root();
    let collector = world.collector();
    let collector = if is_root { collector.batcher_under(bounded) } else { collector }.start();

    let chmod = |mode| {
        let each = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        folders(&world.dataset().join("staging")).iter().for_each(|folder| each(folder));
    };
    survives(&world, &collector, || chmod(0o555), || chmod(0o755));
}

fn folders(top: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![top.to_owned()];
    for entry in std::fs::read_dir(top).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        all.extend(folders(&entry.path()));
    }
    all
}

/// Failpoints that need more than a claim to be reached; each has its own test below.
const SPECIAL: [&str; 2] = ["batcher.before_release", "batcher.in_hand"];

fn a_batcher_killed_between_any_two_steps_loses_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().with_quick_leases().without_batcher().without_compactor().start();
    let client = collector.client();
    let (beats, older) = (Beats::new(30, 2), Beats::days_ago(30, 2, 3));

    let mut names = failpoints::in_part("batcher");
    names.retain(|name| !SPECIAL.contains(&name.as_str()));
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        // Of two dates: so there is also a step between two fragments of one claim.
        client.must_keep(&beats.take(40));
        client.must_keep(&older.take(40));
        collector.batcher_dies_at(&format!("{name}=kill"));
        // The next one does not die, and finds whatever the dead one left.
        collector.start_batcher();
        world.await_drained(SOON);
        collector.stop_batcher();
    }
    assert_eq!(world.held("dead"), 0, "no row is to blame");
    world.publish();
    world.audit();
}

fn a_batcher_killed_while_it_stops_loses_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    let dying = world.collector().without_compactor().batcher_failpoints("batcher.before_release=kill");
    let mut collector = dying.start();
    let client = collector.client();
    client.must_keep(&Beats::new(30, 2).take(60));
    world.await_drained(SOON);
    collector.batcher_dies_while_it_stops();
    client.must_keep(&Beats::days_ago(30, 2, 1).take(60));
    collector.start_batcher();
    world.await_drained(2 * SOON);
    world.publish();
}

fn a_frame_that_kills_every_batcher_becomes_a_dead_letter_and_the_others_are_written(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().with_quick_leases().without_batcher().without_compactor().start();
    let client = collector.client();
    // One frame each, all of one partition.
    let beats = Beats::new(1, 1).take(4);
    beats.iter().for_each(|beat| assert_eq!(client.post(beat).status, 202));

    // Three die with the claim; then it is worked frame by frame, and three more die over its third frame.
    for failpoint in ["batcher.claimed=kill"; 3].into_iter().chain(["batcher.in_hand=kill+2"; 3]) {
        collector.batcher_dies_at(failpoint);
    }
    collector.start_batcher();
    world.await_drained(SOON);
    assert_eq!(world.held("dead"), 1);
    world.compact().run().expect_code(0);
    let published = support::Snapshot::read(world.dataset()).unwrap();
    assert_eq!(published.faults(), Vec::<String>::new());
    assert_eq!(published.disagreements(&world.ledger).len(), 1, "all but the dead letter");
    world.audit();

    world.books(&["dead-letters", "retry", "--all"]).run().expect_code(0);
    wait::until("the retry", SOON, || world.held("dead") == 0);
    world.await_drained(SOON);
    world.publish();
    world.audit();
}

fn errors_of_the_disk_in_the_middle_of_everything_lose_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    // One at each step: the compactor waits twice as long after each error in one bucket.
    // One after the other, so that no bucket fails over and over and is left alone for a minute.
    let steps = failpoints::in_part("dataset");
    let errors: Vec<String> = steps.iter().zip(1..).map(|(step, n)| format!("{step}=error+{n}*1")).collect();
    let errors = errors.join(";");
    let collector = world.collector().batcher_failpoints(&errors).compactor_failpoints(&errors).start();
    let producers = Producers::start(vec![collector.client(); 2], Arc::new(Beats::new(50, 2)), 20);
    producers.await_kept(2_000, SOON);
    producers.stop();
    world.await_published(4 * SOON);
    world.await_drained(SOON);
    assert_eq!(world.held("dead"), 0, "a fault of the world makes no dead letters");
    world.audit();
}

on_every_buffer! {
    a_lost_permission_loses_nothing,
    a_batcher_killed_between_any_two_steps_loses_nothing,
    a_batcher_killed_while_it_stops_loses_nothing,
    a_frame_that_kills_every_batcher_becomes_a_dead_letter_and_the_others_are_written,
    errors_of_the_disk_in_the_middle_of_everything_lose_nothing,
}
