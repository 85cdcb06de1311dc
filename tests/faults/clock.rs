//! Clocks that jump a day ahead and a day back, of each role and of Redis: nothing is lost or doubled, leases and waits
//! recover, and what the door refuses meanwhile is what is documented.

use std::sync::Arc;

use crate::support::fake_clock::FakeClock;
use crate::support::oracle::count_rows;
use crate::support::{Beat, Beats, Buffer, Launch, Producers, QUICK_LEASE, RedisServer, SOON, Systole, World, wait};

/// Ahead, then two days back, then right again.
const JUMPS: [&str; 3] = ["+1d", "-1d", "+0"];

fn redis_by(clock: &FakeClock) -> Option<RedisServer> {
    let setup = RedisServer::with();
    Some(clock.env_of_redis()?.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start())
}

/// Of yesterday: neither too old nor too far ahead for any of these clocks.
fn yesterday() -> Arc<Beats> {
    Arc::new(Beats::days_ago(20, 2, 1))
}

/// Sets the clock to and fro under load; after each jump what comes in is written and published.
fn jump(world: &World, door: &Systole, clock: &FakeClock) {
    let load = Producers::start(vec![world.client(door); 2], yesterday(), 10);
    load.await_kept(100, SOON);
    for offset in JUMPS {
        clock.set(offset);
        load.await_kept(100, 2 * SOON);
        let kept = load.kept();
        wait::until("what came in to be written", 2 * SOON, || world.held("acked") >= kept);
        wait::until("what came in to be published", 2 * SOON, || count_rows(world.dataset()) as u64 >= kept);
    }
    let kept = load.stop();
    world.await_drained(SOON);
    world.await_published(2 * SOON);
    assert_eq!(world.held("dead"), 0, "nothing was to blame");
    world.verify();
    world.audit();
    eprintln!("{} jumps, {kept} acknowledged, 0 lost, 0 doubled", JUMPS.len());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Door,
    Batcher,
    Compactor,
    Redis,
}

fn jump_of(role: Role) {
    let Some(clock) = FakeClock::new() else { return };
    let redis = if role == Role::Redis { redis_by(&clock) } else { Some(RedisServer::start()) };
    let Some(redis) = redis else { return };
    let world = World::on_redis(redis);
    let launched = |of: Role, launch: Launch| if of == role { clock.lead(launch) } else { launch }.start();
    let _batch = launched(Role::Batcher, world.batch());
    let _right = world.batch().start();
    let _watch = launched(Role::Compactor, world.watch());
    let serve = launched(Role::Door, world.serve());
    serve.await_status("/health/ready", 200, SOON);
    jump(&world, &serve, &clock);
}

#[test]
fn the_clock_of_a_door_may_jump() {
    jump_of(Role::Door);
}

#[test]
fn the_clock_of_a_batcher_may_jump() {
    jump_of(Role::Batcher);
}

#[test]
fn the_clock_of_a_compactor_may_jump() {
    jump_of(Role::Compactor);
}

#[test]
fn the_clock_of_redis_may_jump() {
    jump_of(Role::Redis);
}

#[test]
fn the_clock_of_the_whole_machine_may_jump() {
    let Some(clock) = FakeClock::new() else { return };
    let world = World::on(Buffer::Embedded);
    let up = clock.lead(world.up()).start();
    world.address_is(&up);
    jump(&world, &up, &clock);
}

#[test]
fn a_batcher_that_died_ahead_of_redis_s_clock_is_succeeded_at_once() {
    let Some(clock) = FakeClock::new() else { return };
    clock.set("+1d");
    let Some(redis) = redis_by(&clock) else { return };
    let world = World::on_redis(redis);
    let mut first = world.batch().args(QUICK_LEASE).failpoints("batcher.claimed=wait").start();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    world.client(&serve).must_keep(&Beats::new(20, 2).take(100));
    wait::until("claims", SOON, || world.held("claimed") > 0);
    first.sigkill();
    clock.set("+0");
    let _second = world.batch().args(QUICK_LEASE).start();
    world.await_drained(SOON);
    world.publish();
    world.audit();
}

#[test]
fn a_door_a_day_behind_refuses_what_lies_ahead_of_it_and_says_so() {
    let Some(clock) = FakeClock::new() else { return };
    let world = World::on(Buffer::Embedded);
    let up = clock.lead(world.up()).args(["--max-clock-skew=5min"]).start();
    world.address_is(&up);
    let client = world.client(&up);
    clock.set("-1d");
    let early = Beat::of("user", "early");
    let answer = client.post(&early);
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("future"), "{}", answer.text);
    clock.set("+1d");
    // A day old, as far as it knows.
    assert_eq!(client.post(&Beat::of("user", "late")).status, 202);
    clock.set("+0");
    assert_eq!(client.post(&early).status, 202);
    world.await_published(SOON);
    world.audit();
}
