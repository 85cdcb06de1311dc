//! Writer fails: full disk, no permission, SIGKILL between any two steps: nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use support::tmpfs::Tmpfs;
use support::{Beats, Producers, QUICK_LEASE, SOON, Systole, World, failpoints, wait};

/// A writer that cannot write says so, holds everything back, and goes on by itself once it can.
fn survives(world: &World, serve: &Systole, batch: &Systole, break_it: impl FnOnce(), mend_it: impl FnOnce()) {
    let client = world.client(serve);
    let beats = Beats::new(30, 2);
    client.must_keep(&beats.take(100));
    world.await_drained(SOON);

    break_it();
    client.must_keep(&beats.take(200));
    batch.await_status("/health", 503, SOON);
    assert!(world.in_redis("pending") + world.in_redis("claimed") > 0, "it was not broken");

    mend_it();
    batch.await_status("/health", 200, SOON);
    world.await_drained(SOON);
    assert_eq!(world.in_redis("dead"), 0, "a fault of the world makes no dead letters");
    world.publish();
    world.audit();
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(disk) = Tmpfs::mount("8m") else { return };
    let world = World::new().dataset_in(disk.path());
    let (serve, batch) = world.serve_and_batch();
    survives(
        &world,
        &serve,
        &batch,
        || drop(disk.fill()),
        || std::fs::remove_file(disk.path().join("ballast")).unwrap(),
    );
}

#[test]
fn a_disk_that_turns_read_only_loses_nothing() {
    let Some(disk) = Tmpfs::mount("8m") else { return };
    let world = World::new().dataset_in(disk.path());
    let (serve, batch) = world.serve_and_batch();
    survives(&world, &serve, &batch, || disk.read_only(true), || disk.read_only(false));
}

#[test]
fn a_disk_with_no_room_to_spare_is_not_written_to() {
    let Some(disk) = Tmpfs::mount("8m") else { return };
    let world = World::new().dataset_in(disk.path());
    world.register();
    // Less is free than it is told to leave.
    let batch = world.batch().args(["--min-free=16MiB"]).start();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    world.client(&serve).must_keep(&Beats::new(10, 1).take(50));
    batch.await_status("/health", 503, SOON);
    assert_eq!((world.in_redis("pending"), world.in_redis("claimed")), (50, 0));
    batch.stop();
    let _batch = world.batch().start();
    world.await_drained(SOON);
    world.publish();
}

#[test]
fn a_lost_permission_loses_nothing() {
    let world = World::new();
    // Root may write anywhere; a root without these two capabilities may not.
    let bounded = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"];
    let is_root = rustix::process::geteuid().is_root();
    let batch = if is_root { world.batch().under(bounded) } else { world.batch() }.start();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);

    let chmod = |mode| {
        let each = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        folders(&world.dataset().join("staging")).iter().for_each(|folder| each(folder));
    };
    survives(&world, &serve, &batch, || chmod(0o555), || chmod(0o755));
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

#[test]
fn a_batcher_killed_between_any_two_steps_loses_nothing() {
    let world = World::new();
    world.register();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    let (beats, older) = (Beats::new(30, 2), Beats::days_ago(30, 2, 3));

    let mut names = failpoints::in_part("batcher");
    names.retain(|name| !SPECIAL.contains(&name.as_str()));
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        // Of two dates: so there is also a step between two fragments of one claim.
        client.must_keep(&beats.take(40));
        client.must_keep(&older.take(40));
        let batch = world.batch().args(QUICK_LEASE);
        batch.clone().failpoints(&format!("{name}=kill")).start().await_killed(SOON);
        // The next one does not die, and finds whatever the dead one left.
        let batch = batch.start();
        world.await_drained(SOON);
        batch.stop();
    }
    assert_eq!(world.in_redis("dead"), 0, "no row is to blame");
    world.publish();
    world.audit();
}

#[test]
fn a_batcher_killed_while_it_stops_loses_nothing() {
    let world = World::new();
    let (serve, batch) = world.serve_and_batch();
    batch.stop();
    world.client(&serve).must_keep(&Beats::new(30, 2).take(60));
    let mut batch = world.batch().failpoints("batcher.before_release=kill").start();
    world.await_drained(SOON);
    batch.sigterm();
    batch.await_killed(SOON);
    world.client(&serve).must_keep(&Beats::days_ago(30, 2, 1).take(60));
    let _batch = world.batch().start();
    world.await_drained(SOON);
    world.publish();
}

#[test]
fn a_frame_that_kills_every_batcher_becomes_a_dead_letter_and_the_others_are_written() {
    let world = World::new();
    world.register();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    // One frame each, all of one partition.
    let beats = Beats::new(1, 1).take(4);
    beats.iter().for_each(|beat| assert_eq!(client.post(beat).status, 202));

    // Three die with the claim; then it is worked frame by frame, and three more die over its third frame.
    for failpoint in ["batcher.claimed=kill"; 3].into_iter().chain(["batcher.in_hand=kill+2"; 3]) {
        world.batch().args(QUICK_LEASE).failpoints(failpoint).start().await_killed(SOON);
    }
    let _batch = world.batch().start();
    world.await_drained(SOON);
    assert_eq!(world.in_redis("dead"), 1);
    world.compact().run().expect_code(0);
    let published = support::Snapshot::read(world.dataset()).unwrap();
    assert_eq!(published.faults(), Vec::<String>::new());
    assert_eq!(published.disagreements(&world.ledger).len(), 1, "all but the dead letter");
    world.audit();

    world.books(&["dead-letters", "retry", "--all"]).run().expect_code(0);
    wait::until("the retry", SOON, || world.in_redis("dead") == 0);
    world.await_drained(SOON);
    world.publish();
    world.audit();
}

#[test]
fn errors_of_the_disk_in_the_middle_of_everything_lose_nothing() {
    let world = World::new();
    world.register();
    let errors: Vec<String> = failpoints::in_part("dataset").iter().map(|name| format!("{name}=error+3*2")).collect();
    let _batch = world.batch().failpoints(&errors.join(";")).start();
    let _watch = world.watch().failpoints(&errors.join(";")).start();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    let producers = Producers::start(vec![world.client(&serve); 2], Arc::new(Beats::new(50, 2)), 20);
    producers.await_kept(2_000, SOON);
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    assert_eq!(world.in_redis("dead"), 0, "a fault of the world makes no dead letters");
    world.audit();
}
