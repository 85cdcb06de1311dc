//! Rollback: a Redis that comes back older than it was is noticed, what it forgot is said, no more is lost than that, and what
//! comes a second time is published once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::time::Instant;

use serde_json::Value;
use support::fleet::{UNDER_WAY, figures};
use support::oracle::count_rows;
use support::{Buffer, Fleet, Producers, SOON, Snapshot, World, wait};

fn surplus(audit: &Value) -> u64 {
    audit["partitions"].as_array().unwrap().iter().map(|books| books["surplus"].as_u64().unwrap()).sum()
}

/// Goes on under load on a Redis that has gone back. Answers what is published in the end, and what the door said.
fn go_on(world: &World, fleet: &Fleet, producers: Producers) -> (Snapshot, u64) {
    fleet.await_gone_back();
    fleet.serve.await_status("/health/ready", 200, SOON);
    producers.await_kept(300, SOON);
    producers.stop();
    let said = fleet.said_forgotten(world);
    (world.await_rest(2 * SOON), said)
}

#[test]
fn a_torn_file_of_redis_loses_its_tail_which_is_noticed_and_said() {
    let mut world = World::on(Buffer::Redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(1_000, SOON);
    // What comes from now on stands in no file of the dataset.
    fleet.stop_batchers();
    let begun = Instant::now();
    let aof = world.redis().aof();
    let length = std::fs::metadata(&aof).unwrap().len();
    producers.await_kept(500, SOON);
    world.redis_mut().kill();
    producers.await_ended(SOON);
    assert!(world.ledger.excuse_since(begun) >= 1_000);
    // In the middle of an entry: Redis cuts that off as well, and says so in its log only.
    std::fs::OpenOptions::new().write(true).open(&aof).unwrap().set_len(length + 100).unwrap();
    world.redis_mut().restart();
    fleet.wake_batchers();

    let (snapshot, said) = go_on(&world, &fleet, producers);
    let lost = figures("a truncated append-only file", &world, &snapshot, said);
    assert!(lost >= 400, "the tail was not lost: {lost}");
    assert!((lost..=lost + UNDER_WAY).contains(&said), "{lost} are lost, and {said} are said to be forgotten");
    // A claim that was being written when the batchers stopped may have been forgotten, too.
    let audit = world.audit();
    assert!(audit["verdict"] == "balanced" || audit["verdict"] == "surplus", "{audit}");
}

#[test]
fn an_older_file_of_redis_brings_merged_claims_back_which_are_published_once() {
    let mut world = World::on(Buffer::Redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(1_000, SOON);
    let begun = Instant::now();
    let backup = world.redis().back_up();
    let known = world.held("accepted");
    // Some of what the backup holds as pending is merged meanwhile, and so is some of what it knows nothing of.
    producers.await_kept(1_500, SOON);
    wait::until("more to be published than the backup knows of", SOON, || count_rows(world.dataset()) as u64 > known);
    world.redis_mut().kill();
    producers.await_ended(SOON);
    assert!(world.ledger.excuse_since(begun) >= 1_000);
    world.redis_mut().restore(&backup);
    world.redis_mut().restart();

    let (snapshot, said) = go_on(&world, &fleet, producers);
    let lost = figures("a restored older append-only file", &world, &snapshot, said);
    assert!(said >= 1_500 - UNDER_WAY, "it said that only {said} are forgotten");
    assert!(lost <= said, "{lost} are lost, and {said} are said to be forgotten");
    let audit = world.audit();
    assert_eq!(audit["verdict"], "surplus", "{audit}");
    // What was forgotten is lost or stands in the files.
    assert!(said <= lost + surplus(&audit) + UNDER_WAY, "{said} forgotten, {lost} lost, surplus {}", surplus(&audit));
    world.books(&["audit", "--accept"]).run().expect_code(0);
    assert_eq!(world.audit()["verdict"], "balanced");
    world.verify();
}

#[test]
fn a_door_that_is_told_of_no_loss_says_nothing_of_one() {
    let mut world = World::on(Buffer::Redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    for _ in 0..2 {
        producers.await_kept(500, SOON);
        // Not even over a backup that is as new as the file.
        world.redis_mut().kill();
        let backup = world.redis().back_up();
        world.redis_mut().restore(&backup);
        world.redis_mut().restart();
        fleet.serve.await_status("/health/ready", 200, SOON);
    }
    producers.stop();
    world.await_rest(2 * SOON);
    assert_eq!(fleet.said_forgotten(&world), 0);
}
