//! A network that breaks between Systole and Redis, before or after a step took effect, loses and doubles nothing.
//!
//! On Redis only: nothing lies between the embedded buffer and its process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::fleet::figures;
use support::proxy::{Proxy, Weather};
use support::{Beats, Buffer, Dice, Producers, QUICK_LEASE, SOON, World, wait};

/// So long it storms at least.
const STORM: Duration = Duration::from_secs(6);

#[test]
fn a_push_whose_answer_is_lost_is_no_202_and_sent_again_is_published_once() {
    let world = World::on(Buffer::Redis);
    let (_direct, _batch) = world.serve_and_batch();
    let proxy = Proxy::to(world.redis().port(), ":pending");
    let serve = world.serve().args([format!("--buffer={}", proxy.url())]).start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    // One that passes, so that Redis knows the script of the next one.
    let source = Beats::new(10, 1);
    client.must_keep(&source.take(10));
    let beats = source.take(50);

    proxy.set(Weather::AnswersLost);
    let answer = client.post_all(&beats);
    assert_eq!(answer.status, 503, "{}", answer.text);
    // It did take effect, at least once.
    wait::until("the push to arrive", SOON, || world.held("accepted") > 10);
    proxy.set(Weather::Fair);
    serve.await_status("/health/ready", 200, SOON);
    client.must_keep(&beats);

    world.await_drained(SOON);
    assert_eq!(world.publish().rows().count(), 60);
    world.audit();
}

#[test]
fn a_batcher_whose_answers_are_lost_loses_and_doubles_nothing() {
    let world = World::on(Buffer::Redis);
    world.register();
    // Every step names the state of its partition.
    let proxy = Proxy::to(world.redis().port(), ":state");
    let batch = world.batch().args([format!("--buffer={}", proxy.url())]).start();
    let _watch = world.watch().start();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);

    let producers = Producers::start(vec![world.client(&serve); 2], Arc::new(Beats::new(50, 2)), 20);
    for weather in [Weather::AnswersLost, Weather::Cut, Weather::AnswersLost, Weather::AnswersLost] {
        producers.await_kept(200, SOON);
        let lost = proxy.lost();
        proxy.set(weather);
        producers.await_kept(200, SOON);
        if weather == Weather::AnswersLost {
            wait::until("answers to be lost", SOON, || proxy.lost() > lost + 3);
        }
        proxy.set(Weather::Fair);
    }
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    batch.await_status("/health", 200, SOON);
    world.audit();
}

#[test]
fn a_storm_between_every_role_and_redis_loses_and_doubles_nothing() {
    let mut dice = Dice::loaded_anew();
    let world = World::on(Buffer::Redis);
    let network = Proxy::stormy(world.redis().port(), &mut dice);
    let world = world.reached_by([format!("--buffer={}", network.url())]);
    let fleet = world.fleet_with(&["--push-deadline=1s", "--step-deadline=1s"], &QUICK_LEASE);
    let producers = fleet.producers(&world);
    producers.await_kept(300, SOON);
    network.set(Weather::Storm);
    let begun = Instant::now();
    wait::until("the storm to have done its worst", 2 * SOON, || {
        begun.elapsed() > STORM && network.struck().iter().all(|struck| *struck >= 5)
    });
    let struck = network.struck();
    network.set(Weather::Fair);
    producers.await_kept(300, 2 * SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let [lost, torn, swallowed, late] = struck;
    let what = format!("storm: {lost} answers lost, {torn} torn, {swallowed} swallowed, {late} late");
    let said = fleet.said_forgotten(&world);
    assert_eq!((figures(&what, &world, &snapshot, said), said), (0, 0));
    fleet.serve.await_status("/health", 200, SOON);
    for batcher in &fleet.batchers {
        batcher.await_status("/health", 200, SOON);
    }
    assert_eq!(world.audit()["verdict"], "balanced");
}
