//! Durability: a Redis that is killed under load loses what its settings say, no more; Systole says beforehand which they
//! are, and afterwards how much.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::fleet::figures;
use support::{Beats, Buffer, Fleet, Producers, RedisServer, SOON, World, wait};

/// Kills Redis so often under load, and answers the heartbeats lost, and those that the door says were forgotten.
fn killed_under_load(mut world: World, rounds: usize, what: &str) -> (u64, u64) {
    let fleet = world.fleet();
    assert!(fleet.serve.part("buffer").1.contains(what), "{:?}", fleet.serve.part("buffer"));
    let producers = fleet.producers(&world);
    for _ in 0..rounds {
        producers.await_kept(1_000, SOON);
        world.redis_mut().kill();
        world.redis_mut().restart();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    assert_eq!(world.audit()["verdict"], "balanced");
    let said = fleet.said_forgotten(&world);
    (figures(&format!("{rounds} × SIGKILL, {what}"), &world, &snapshot, said), said)
}

#[test]
fn a_redis_killed_under_load_loses_nothing_with_fsync_always() {
    assert_eq!(killed_under_load(World::on(Buffer::Redis), 4, "appendfsync always"), (0, 0));
}

/// Redis hands its file to the system before it answers, and the system outlives it.
#[test]
fn a_redis_killed_under_load_loses_nothing_without_fsync_while_its_machine_lives() {
    let redis = RedisServer::with().appendfsync("no").start();
    assert_eq!(killed_under_load(World::on_redis(redis), 4, "appendfsync no"), (0, 0));
}

/// While Redis syncs the last second it answers from memory: what it has not written to the file by then dies with it. It
/// does so for two seconds; the third is for the clocks of three processes on a busy machine.
const WINDOW: Duration = Duration::from_secs(3);

#[test]
fn a_redis_killed_under_load_loses_at_most_two_seconds_with_fsync_every_second() {
    let mut world = World::on_redis(RedisServer::with().appendfsync("everysec").start());
    let fleet = world.fleet();
    assert!(fleet.serve.part("buffer").1.contains("appendfsync everysec"));
    // As fast as they can these would send a hundred thousand in that time.
    let producers = Producers::start(vec![world.client(&fleet.serve); 2], Arc::new(Beats::new(50, 2)), 2);
    for _ in 0..2 {
        let before = producers.kept();
        let begun = Instant::now();
        wait::until("the window to be filled", SOON, || begun.elapsed() > WINDOW + WINDOW / 3);
        assert!(producers.kept() > before + 100, "hardly anything was sent");
        world.redis_mut().kill();
        let killed = Instant::now();
        producers.await_ended(SOON);
        assert!(world.ledger.excuse_since(killed - WINDOW) > 50, "nothing is left to be lost");
        world.redis_mut().restart();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    world.audit();
    let said = fleet.said_forgotten(&world);
    let lost = figures("2 × SIGKILL, appendfsync everysec", &world, &snapshot, said);
    assert!(lost <= said, "{lost} are lost, and {said} are said to be forgotten");
}

#[test]
fn a_redis_stopped_in_order_loses_nothing_with_fsync_every_second() {
    let mut world = World::on_redis(RedisServer::with().appendfsync("everysec").start());
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    for _ in 0..2 {
        producers.await_kept(1_000, SOON);
        world.redis_mut().shut_down();
        world.redis_mut().restart();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    world.audit();
    assert_eq!(figures("2 × SIGTERM, appendfsync everysec", &world, &snapshot, fleet.said_forgotten(&world)), 0);
    assert_eq!(fleet.said_forgotten(&world), 0);
}

/// How many heartbeats the door says that the erased buffer held at most.
fn said_to_be_held(fleet: &Fleet) -> u64 {
    let said = fleet.serve.await_status("/health/ready", 503, SOON).text;
    wait::value("the alarm to say how much was held", SOON, || {
        let (_, detail) = fleet.serve.part("buffer");
        let (_, number) = detail.split_once("it held at most ").ok_or_else(|| format!("{detail}; {said}"))?;
        number.split(' ').next().unwrap().parse().map_err(|_| detail.clone())
    })
}

/// Takes everything out of Redis under load. It is an alarm and never a fresh start; a person adopts what is there, and what
/// is lost is no more than was said.
fn erased_under_load(redis: RedisServer, flags: &[&str], what: &str, erase: impl FnOnce(&mut RedisServer)) {
    let mut world = World::on_redis(redis);
    let fleet = world.fleet_with(flags, flags);
    let durability = fleet.serve.part("buffer").1;
    assert_eq!(durability.contains("volatile"), !flags.is_empty(), "{durability}");
    let producers = fleet.producers(&world);
    producers.await_kept(1_000, SOON);
    wait::until("some to be written", SOON, || world.held("acked") > 0);
    // Now some of it waits in the buffer, and goes with it.
    fleet.stop_batchers();
    producers.await_kept(300, SOON);
    erase(world.redis_mut());
    let held = said_to_be_held(&fleet);
    assert!(held >= 300, "{held}");
    fleet.wake_batchers();
    // One of the two may have no share of so few partitions, and then nothing to say.
    wait::until("a batcher's alarm", SOON, || {
        fleet.batchers.iter().any(|batcher| batcher.get("/health").is_some_and(|health| health.status == 503))
    });
    let client = world.client(&fleet.serve);
    assert_eq!(client.post_all(&Beats::new(9, 1).named("late").take(20)).status, 503);
    assert_eq!(world.redis().cli(&["KEYS", "systole:{*"]), "", "somebody began anew");
    // Nothing of what was answered is certain now, and nobody may count on more than the files hold.
    world.ledger.excuse_since(Instant::now() - 60 * SOON);

    let Fleet { serve, batchers, watch } = fleet;
    batchers.into_iter().for_each(support::Systole::stop);
    world.books(&["adopt"]).args(flags.iter().copied()).run().expect_code(0);
    let audit = world.books(&["audit", "--json"]).run().expect_code(0).json();
    let batch = || world.batch().args(flags.iter().copied()).start();
    let fleet = Fleet { serve, batchers: vec![batch(), batch()], watch };
    fleet.serve.await_status("/health/ready", 200, SOON);
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let lost = figures(what, &world, &snapshot, held);
    assert!(lost > 0 && lost <= held, "{lost} are lost, and at most {held} were said to be");
    let surplus = |audit: &serde_json::Value| -> u64 {
        audit["partitions"].as_array().unwrap().iter().map(|books| books["surplus"].as_u64().unwrap()).sum()
    };
    assert_eq!(audit["verdict"], "surplus", "what is in the files is said to be beyond the new books");
    assert!(surplus(&audit) > 0, "{audit}");
    world.books(&["audit", "--accept"]).run().expect_code(0);
    assert_eq!(world.audit()["verdict"], "balanced");
}

#[test]
fn an_erased_redis_is_an_alarm_that_says_how_much_it_held() {
    erased_under_load(RedisServer::start(), &[], "FLUSHALL", |redis| {
        redis.cli(&["FLUSHALL"]);
    });
}

#[test]
fn a_volatile_redis_is_called_so_and_its_death_is_an_alarm_that_says_how_much_it_held() {
    let redis = RedisServer::with().appendonly("no").start();
    let refused = World::on_redis(redis);
    refused.serve().refused(2, &["appendonly yes", "--allow-volatile-buffer"]);
    drop(refused);

    let allowed = ["--allow-volatile-buffer"];
    let redis = RedisServer::with().appendonly("no").start();
    erased_under_load(redis, &allowed, "SIGKILL without an append-only file", |redis| {
        redis.kill();
        redis.restart();
    });
}
