//! A network that breaks between Systole and Redis, before or after a step took effect, loses and doubles nothing.
//!
//! On Redis only: nothing lies between the embedded buffer and its process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;

use support::proxy::{Proxy, Weather};
use support::{Beats, Buffer, Producers, SOON, World, wait};

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
