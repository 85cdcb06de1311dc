//! Race: two batchers on the same users lose nothing.
//!
//! On Redis only: the embedded buffer has one process, and one batcher in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{Beats, Buffer, Producers, SOON, World};

#[test]
fn two_batchers_on_the_same_users_lose_nothing() {
    let world = World::on(Buffer::Redis);
    let (serve, _a) = world.serve_and_batch();
    let _b = world.batch().start();
    let _watch = world.watch().start();

    let beats = Arc::new(Beats::new(5, 2));
    let producers = Producers::start(vec![world.client(&serve); 4], beats, 50);
    producers.await_kept(6_000, SOON);
    producers.stop();

    world.await_published(SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn a_batcher_that_slept_past_its_lease_loses_and_doubles_nothing() {
    let world = World::on(Buffer::Redis);
    let (serve, first) = world.serve_and_batch();
    let second = world.batch().start();
    let _watch = world.watch().start();
    // In small bulks: the buffer must not fill while leases run out.
    let producers = Producers::start(vec![world.client(&serve)], Arc::new(Beats::new(5, 2)), 2);

    // Whatever it holds when it falls asleep passes to the other one, and it wakes as a zombie in the middle of it.
    for sleeper in [&first, &second, &first] {
        producers.await_kept(200, SOON);
        sleeper.sigstop();
        let acked = world.held("acked");
        let everything = producers.kept();
        support::wait::until("the other one to take over", SOON, || world.held("acked") >= everything.max(acked));
        sleeper.cont();
    }
    producers.await_kept(500, SOON);
    producers.stop();

    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn the_death_of_a_batcher_passes_its_claims_to_the_other() {
    let world = World::on(Buffer::Redis);
    let (serve, mut first) = world.serve_and_batch();
    let _second = world.batch().start();
    let producers = Producers::start(vec![world.client(&serve); 2], Arc::new(Beats::new(20, 2)), 50);
    for _ in 0..6 {
        producers.await_kept(300, SOON);
        first.sigkill();
        first = world.batch().start();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    world.await_drained(Duration::from_secs(20));
    world.publish();
    world.audit();
}
