//! Redis: a restart loses nothing acknowledged; Redis away means 503 and recovery by itself; a full Redis still drains.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Beat, Beats, Buffer, Producers, RedisServer, SOON, World, wait};

#[test]
fn a_redis_killed_under_load_loses_nothing_with_fsync_always() {
    let mut world = World::on(Buffer::Redis);
    let (serve, _batch) = world.serve_and_batch();
    let _watch = world.watch().start();
    let producers = Producers::start(vec![world.client(&serve); 4], Arc::new(Beats::new(50, 2)), 20);
    for _ in 0..3 {
        producers.await_kept(2_000, SOON);
        world.redis_mut().kill();
        world.redis_mut().restart();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
}

/// While Redis syncs the last second it answers from memory: what it has not written to the file by then dies with it. It
/// does so for two seconds; the third is for the clocks of three processes on a busy machine.
const WINDOW: Duration = Duration::from_secs(3);

#[test]
fn a_redis_killed_under_load_loses_at_most_two_seconds_with_fsync_every_second() {
    let mut world = World::on_redis(RedisServer::with().appendfsync("everysec").start());
    let (serve, _batch) = world.serve_and_batch();
    let _watch = world.watch().start();
    let producers = Producers::start(vec![world.client(&serve); 2], Arc::new(Beats::new(50, 2)), 2);
    for _ in 0..2 {
        let before = producers.kept();
        let begun = Instant::now();
        wait::until("the window to be filled", SOON, || begun.elapsed() > 2 * WINDOW);
        assert!(producers.kept() > before + 100, "hardly anything was sent");
        world.redis_mut().kill();
        assert!(world.ledger.excuse_since(Instant::now() - WINDOW) > 50, "nothing is left to be lost");
        world.redis_mut().restart();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn a_redis_stopped_in_order_loses_nothing_with_fsync_every_second() {
    let mut world = World::on_redis(RedisServer::with().appendfsync("everysec").start());
    let (serve, _batch) = world.serve_and_batch();
    let _watch = world.watch().start();
    let producers = Producers::start(vec![world.client(&serve); 4], Arc::new(Beats::new(50, 2)), 20);
    for _ in 0..2 {
        producers.await_kept(2_000, SOON);
        world.redis_mut().shut_down();
        world.redis_mut().restart();
    }
    producers.await_kept(300, SOON);
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn redis_away_means_503_and_recovery_by_itself() {
    let mut world = World::on(Buffer::Redis);
    let (serve, batch) = world.serve_and_batch();
    let client = world.client(&serve);
    let beats = Beats::new(10, 1);
    client.must_keep(&beats.take(10));

    world.redis_mut().kill();
    let refused = client.post_all(&beats.take(10));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.header("retry-after").is_some());
    serve.await_status("/health/ready", 503, SOON);
    serve.await_status("/health", 503, SOON);
    batch.await_status("/health", 503, SOON);
    assert_eq!(serve.get("/health/live").unwrap().status, 200);
    assert_eq!(batch.get("/health/live").unwrap().status, 200);

    world.redis_mut().restart();
    serve.await_status("/health", 200, SOON);
    batch.await_status("/health", 200, SOON);
    client.must_keep(&beats.take(10));
    world.await_drained(SOON);
    world.publish();
    world.audit();
}

#[test]
fn a_redis_that_hangs_means_503_in_time_and_never_202() {
    let world = World::on(Buffer::Redis);
    let (serve, _batch) = world.serve_and_batch();
    let client = world.client(&serve);
    let beats = Beats::new(10, 1);
    client.must_keep(&beats.take(10));

    world.redis().stop_process();
    let refused = client.post_all(&beats.take(10));
    assert_eq!(refused.status, 503, "{}", refused.text);
    serve.await_status("/health/ready", 503, SOON);
    world.redis().cont();

    // The push that timed out may have been held after all: that is why the client sends it again.
    serve.await_status("/health", 200, SOON);
    client.must_keep(&beats.take(10));
    world.await_drained(SOON);
    world.publish();
}

#[test]
fn an_erased_redis_is_an_alarm_and_never_a_fresh_start() {
    let mut world = World::on(Buffer::Redis);
    let (serve, batch) = world.serve_and_batch();
    let client = world.client(&serve);
    client.must_keep(&Beats::new(10, 1).take(10));
    world.await_drained(SOON);

    world.redis_mut().restart_empty();
    serve.await_status("/health", 503, SOON);
    batch.await_status("/health", 503, SOON);
    let refused = client.post(&Beat::of("somebody", "device"));
    assert_eq!(refused.status, 503, "{}", refused.text);
    // Nor by a batcher that starts now.
    let another = world.batch().start();
    another.await_status("/health", 503, SOON);
    assert_eq!(client.post(&Beat::of("somebody", "device")).status, 503);

    // A person says that this is right.
    drop((another, batch));
    world.books(&["adopt"]).run().expect_code(0);
    let _batch = world.batch().start();
    serve.await_status("/health", 200, SOON);
    client.must_keep(&Beats::days_ago(10, 1, 1).take(10));
    world.await_drained(SOON);
    world.publish();
}

#[test]
fn a_full_redis_still_drains() {
    let world = World::on_redis(RedisServer::with().maxmemory("3mb").start());
    world.register();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    let beats = Beats::new(50, 2);

    // Until Redis itself has no memory left; the cap is far away.
    wait::until("Redis to be full", SOON, || client.post_all(&beats.take(500)).status == 503);
    let refusals = (0..3).filter(|_| client.post_all(&beats.take(500)).status == 503).count();
    assert!(refusals > 0, "it was not full for long");
    assert!(world.ledger.kept() > 0);

    let _batch = world.batch().start();
    world.await_drained(SOON);
    client.must_keep(&beats.take(500));
    world.await_drained(SOON);
    world.publish();
    world.audit();
}

#[test]
fn a_redis_that_may_forget_is_refused_with_the_line_to_mend_it() {
    for (redis, advice) in [
        (RedisServer::with().appendonly("no").start(), "appendonly yes"),
        (RedisServer::with().maxmemory_policy("allkeys-lru").start(), "maxmemory-policy noeviction"),
    ] {
        let world = World::on_redis(redis);
        let refused = world.serve().run().expect_code(2);
        assert!(refused.stderr.contains(advice), "{}", refused.stderr);
    }
}

#[test]
fn a_redis_that_may_forget_is_refused_also_by_a_serve_that_started_before_it() {
    let world = World::on(Buffer::Redis);
    world.register();
    assert_eq!(world.redis().cli(&["CONFIG", "SET", "appendonly", "no"]), "OK");
    // It does not answer while `serve` starts, so that the check at the start finds nothing to judge.
    world.redis().stop_process();
    let serve = world.serve().start();
    world.redis().cont();
    let client = world.client(&serve);
    let beats = Beats::new(10, 1);
    wait::until("the volatile Redis to be named", SOON, || {
        assert_eq!(client.post_all(&beats.take(5)).status, 503, "answered 202 for what Redis may forget");
        serve.get("/health/ready").is_some_and(|answer| answer.text.contains("appendonly"))
    });
    assert_eq!(world.held("accepted"), 0);

    assert_eq!(world.redis().cli(&["CONFIG", "SET", "appendonly", "yes"]), "OK");
    serve.await_status("/health/ready", 200, SOON);
    client.must_keep(&beats.take(5));
    let _batch = world.batch().start();
    world.await_drained(SOON);
    world.publish();
}
