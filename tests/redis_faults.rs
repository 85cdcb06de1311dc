//! Redis away, hanging, paused, full or without disk means 503 and recovery by itself; nothing acknowledged is lost, nothing is
//! doubled, and what drains goes on as long as Redis lets it. What a dying Redis loses is in `redis_durability`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::time::{Duration, Instant};

use support::fleet::figures;
use support::tmpfs::Tmpfs;
use support::{Beat, Beats, Buffer, Fleet, Producers, QUICK_LEASE, RedisServer, SOON, World, wait};

/// Ends a test of a fault that takes nothing: under the ledger nothing is lost or doubled, the books balance, and no loss was
/// told of.
fn nothing_is_lost(what: &str, world: &World, fleet: &Fleet, producers: Producers) {
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten(world);
    assert_eq!((figures(what, world, &snapshot, said), said), (0, 0));
    assert_eq!(world.audit()["verdict"], "balanced");
    fleet.serve.await_status("/health", 200, SOON);
}

/// Has Redis answer nobody for longer than any deadline and any lease, and has it go on.
fn hangs_under_load(what: &str, hang: impl Fn(&RedisServer), go_on: impl Fn(&RedisServer)) {
    let world = World::on(Buffer::Redis);
    let fleet = world.fleet_with(&["--push-deadline=1s", "--step-deadline=1s"], &QUICK_LEASE);
    let producers = fleet.producers(&world);
    for _ in 0..2 {
        producers.await_kept(500, SOON);
        let begun = Instant::now();
        hang(world.redis());
        fleet.serve.await_status("/health/ready", 503, SOON);
        for batcher in &fleet.batchers {
            batcher.await_status("/health", 503, SOON);
        }
        // Pushes have timed out by now, leases have run out, batchers count as dead.
        wait::until("every deadline to pass", SOON, || begun.elapsed() > Duration::from_millis(2_500));
        go_on(world.redis());
        fleet.serve.await_status("/health/ready", 200, SOON);
    }
    nothing_is_lost(what, &world, &fleet, producers);
}

#[test]
fn a_redis_that_is_stopped_past_deadlines_and_leases_loses_and_doubles_nothing() {
    hangs_under_load("2 × SIGSTOP and SIGCONT of Redis", RedisServer::stop_process, RedisServer::cont);
}

#[test]
fn a_redis_that_pauses_all_clients_loses_and_doubles_nothing() {
    hangs_under_load(
        "2 × CLIENT PAUSE ALL",
        |redis| assert_eq!(redis.cli(&["CLIENT", "PAUSE", "3000", "ALL"]), "OK"),
        |_| {},
    );
}

#[test]
fn a_redis_that_pauses_writes_loses_and_doubles_nothing() {
    hangs_under_load(
        "2 × CLIENT PAUSE WRITE",
        |redis| assert_eq!(redis.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]), "OK"),
        |redis| assert_eq!(redis.cli(&["CLIENT", "UNPAUSE"]), "OK"),
    );
}

#[test]
fn scripts_that_redis_forgets_under_load_are_loaded_again_unseen() {
    let world = World::on(Buffer::Redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    for _ in 0..40 {
        producers.await_kept(50, SOON);
        assert_eq!(world.redis().cli(&["SCRIPT", "FLUSH"]), "OK");
    }
    let refused = fleet.serve.metrics().sum("systole_push_refused_heartbeats_total").unwrap_or(0.0);
    assert_eq!(refused, 0.0, "a push was refused for it");
    nothing_is_lost("40 × SCRIPT FLUSH", &world, &fleet, producers);
}

#[test]
fn a_redis_at_its_maxmemory_under_load_refuses_pushes_and_drains_and_accepts_again_by_itself() {
    let world = World::on(Buffer::Redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(500, SOON);
    let used = || -> u64 {
        let memory = world.redis().cli(&["INFO", "memory"]);
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        used.trim().parse().unwrap()
    };
    fleet.stop_batchers();
    let bound = used() + 500_000;
    assert_eq!(world.redis().cli(&["CONFIG", "SET", "maxmemory", &bound.to_string()]), "OK");
    // Once the producers have filled it.
    let full = fleet.serve.await_status("/health/ready", 503, 4 * SOON);
    assert!(full.text.contains("maxmemory"), "{}", full.text);
    let kept = producers.kept();
    let acked = world.held("acked");
    fleet.wake_batchers();
    wait::until("draining to go on", SOON, || world.held("acked") > acked);
    fleet.serve.await_status("/health/ready", 200, SOON);
    wait::until("heartbeats to be taken in again", SOON, || producers.kept() > kept + 200);
    nothing_is_lost("maxmemory reached", &world, &fleet, producers);
}

#[test]
fn a_redis_whose_disk_is_full_refuses_pushes_and_goes_on_by_itself_when_there_is_room() {
    let Some(disk) = Tmpfs::mount("16m") else { return };
    let redis = RedisServer::with().appendfsync("everysec").in_folder(disk.path()).start();
    let world = World::on_redis(redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(500, SOON);
    for _ in 0..2 {
        let ballast = disk.fill();
        let full = fleet.serve.await_status("/health/ready", 503, SOON);
        assert!(full.text.contains("MISCONF"), "{}", full.text);
        let refused = world.client(&fleet.serve).post(&Beat::of("somebody", "device"));
        assert_eq!(refused.status, 503, "{}", refused.text);
        std::fs::remove_file(ballast).unwrap();
        fleet.serve.await_status("/health/ready", 200, SOON);
        producers.await_kept(300, SOON);
    }
    nothing_is_lost("2 × Redis's disk full, appendfsync everysec", &world, &fleet, producers);
}

/// Redis ends where it cannot keep its word.
#[test]
fn a_redis_that_dies_of_its_full_disk_loses_nothing_with_fsync_always() {
    let Some(disk) = Tmpfs::mount("16m") else { return };
    let redis = RedisServer::with().in_folder(disk.path()).start();
    let mut world = World::on_redis(redis);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    for _ in 0..2 {
        producers.await_kept(500, SOON);
        let ballast = disk.fill();
        wait::until("Redis to give up", SOON, || world.redis_mut().has_ended());
        fleet.serve.await_status("/health/ready", 503, SOON);
        std::fs::remove_file(ballast).unwrap();
        world.redis_mut().restart();
        fleet.serve.await_status("/health/ready", 200, SOON);
    }
    nothing_is_lost("2 × Redis's disk full, appendfsync always", &world, &fleet, producers);
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

const PARTITIONS: u64 = 4;

/// Has what is in these lists stand under another name, or stand where it was.
fn rename_lists(redis: &RedisServer, from: &str, to: &str) {
    for partition in 0..PARTITIONS {
        let key = |list: &str| format!("systole:{{p{partition}}}:{list}");
        if redis.cli(&["EXISTS", &key(from)]) == "1" {
            redis.cli(&["RENAME", &key(from), &key(to)]);
        }
    }
}

/// As docs/reliability.md says: what is counted in `column` and gone for good is counted as dropped.
fn give_up(redis: &RedisServer, columns: &[&str]) {
    for partition in 0..PARTITIONS {
        let state = format!("systole:{{p{partition}}}:state");
        let gone: u64 = redis.cli(&["HGET", &state, columns[0]]).parse().unwrap_or(0);
        for column in columns {
            redis.cli(&["HINCRBY", &state, column, &format!("-{gone}")]);
        }
        redis.cli(&["HINCRBY", &state, "dropped", &gone.to_string()]);
    }
}

#[test]
fn frames_that_vanish_from_redis_are_named_until_they_are_back_or_given_up() {
    let world = World::on(Buffer::Redis);
    world.register();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    let audit = |code: i32, words: &str| {
        let said = world.books(&["audit"]).run().expect_code(code).stdout;
        assert!(said.contains(words), "{said}");
    };
    client.must_keep(&Beats::new(20, 1).take(20));
    audit(0, "the books balance");
    rename_lists(world.redis(), "pending", "aside");
    audit(1, "VANISHED: 20 acknowledged heartbeats");
    rename_lists(world.redis(), "aside", "pending");
    audit(0, "the books balance");

    // In a claim that stands.
    let mut batch = world.batch().failpoints("fragment.created=error").start();
    wait::until("everything to be claimed", SOON, || world.held("claimed") == 20);
    batch.sigkill();
    rename_lists(world.redis(), "processing", "aside");
    audit(1, "VANISHED: 20 acknowledged heartbeats");
    let batch = world.batch().start();
    let health = wait::value("the claims to be named", SOON, || {
        let health = batch.get("/health").map(|answer| answer.text).unwrap_or_default();
        if health.contains("frames of the claim are missing") { Ok(health) } else { Err(health) }
    });
    assert!(health.contains("docs/reliability.md"), "{health}");
    assert_eq!((world.held("claimed"), world.held("acked")), (20, 0));
    rename_lists(world.redis(), "aside", "processing");
    world.await_drained(SOON);
    world.publish();
    batch.stop();

    // Gone for good, waiting and claimed.
    client.must_keep(&Beats::new(20, 1).named("waiting").take(20));
    rename_lists(world.redis(), "pending", "gone");
    give_up(world.redis(), &["pending"]);
    audit(0, "the books balance");
    client.must_keep(&Beats::new(20, 1).named("claimed").take(20));
    let mut batch = world.batch().failpoints("fragment.created=error").start();
    wait::until("everything to be claimed", SOON, || world.held("claimed") == 20);
    batch.sigkill();
    rename_lists(world.redis(), "processing", "gone");
    give_up(world.redis(), &["claimed", "claim_rows"]);
    let batch = world.batch().start();
    batch.await_status("/health/ready", 200, SOON);
    audit(0, "the books balance");
    assert_eq!((world.held("acked"), world.held("dropped")), (20, 40));
    wait::until("the emptied claims to be closed", SOON, || {
        (0..PARTITIONS).all(|p| world.redis().cli(&["HGET", &format!("systole:{{p{p}}}:state"), "claim_id"]).is_empty())
    });
    batch.stop();
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
