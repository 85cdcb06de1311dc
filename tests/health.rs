//! Health: /health turns 503 within 15 s, says what is wrong, and turns 200 by itself afterwards. With default settings.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::time::Duration;

use support::{Beats, Buffer, Launch, SOON, World, on_every_buffer};

/// The promise.
const PROMISED: Duration = Duration::from_secs(15);

/// `serve` with the settings that users have.
fn serve(world: &World) -> Launch {
    world.launch("serve").args(["--listen=127.0.0.1:0".to_owned(), format!("--buffer={}", world.redis().url())])
}

// A batcher that dies alone: of processes apart. What becomes of a part of `up` that fails stands in tests/up.rs.
#[test]
fn health_turns_503_when_no_batcher_is_alive_and_200_by_itself() {
    let world = World::on(Buffer::Redis);
    let mut batch = world.launch("batch").args([
        "--listen=127.0.0.1:0".to_owned(),
        format!("--buffer={}", world.redis().url()),
        format!("--data={}", world.dataset().display()),
    ]);
    let mut first = batch.clone().start();
    let serve = serve(&world).start();
    serve.await_status("/health", 200, SOON);

    first.sigkill();
    let unwell = serve.await_status("/health", 503, PROMISED);
    assert!(unwell.text.contains("batcher"), "{}", unwell.text);
    // Heartbeats are still accepted: they wait in the buffer.
    assert_eq!(serve.get("/health/ready").unwrap().status, 200);
    world.client(&serve).must_keep(&Beats::days_ago(2, 1, 1).take(10));

    batch = batch.args(["--min-free=0B"]);
    let _second = batch.start();
    serve.await_status("/health", 200, SOON);
    // The dead one's leases first have to run out.
    world.await_drained(2 * SOON);
    world.publish();
}

// A part of `up` is started again. Here the process ends, so that whoever supervises it starts a sound one: without its committer
// it would answer 503 for ever while it calls itself ready.
#[test]
fn a_door_whose_committer_panics_ends_and_says_why() {
    let world = World::on(Buffer::Redis);
    world.register();
    let mut door = serve(&world).failpoints("committer.before_push=panic*1").start();
    door.await_status("/health/ready", 200, SOON);
    let client = world.client(&door);
    let beats = Beats::days_ago(2, 1, 1).take(2);
    assert_eq!(client.try_post_one(&beats[0]).map_or(503, |answer| answer.status), 503);
    let status = door.wait_exit(SOON);
    assert!(!status.success(), "{status}");
    let log = door.log().join("\n");
    assert!(log.contains("committer failed"), "{log}");
    let next = serve(&world).start();
    next.await_status("/health/ready", 200, SOON);
    world.client(&next).must_keep(&beats);
}

fn health_turns_503_when_one_partition_is_not_drained_and_says_which(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().start();
    let (serve, batch) = (collector.door(), collector.batcher());
    serve.await_status("/health", 200, SOON);
    let client = collector.client();
    let beats = Beats::days_ago(40, 1, 1).take(200);

    // A file where the bucket's folder must be: only this partition cannot be written.
    let date = jiff::Timestamp::from_millisecond(beats[0].identity.timestamp).unwrap().strftime("date=%Y-%m-%d");
    let bucket = world.dataset().join("staging").join(date.to_string()).join("partition=3");
    std::fs::create_dir_all(bucket.parent().unwrap()).unwrap();
    std::fs::write(&bucket, "in the way").unwrap();

    client.must_keep(&beats);
    let unwell = serve.await_status("/health", 503, PROMISED);
    assert!(unwell.text.contains("partition 3"), "{}", unwell.text);
    let unwell = batch.await_status("/health", 503, SOON);
    assert!(unwell.text.contains("partition 3") || unwell.text.contains("partition=3"), "{}", unwell.text);

    std::fs::remove_file(&bucket).unwrap();
    serve.await_status("/health", 200, SOON);
    batch.await_status("/health", 200, SOON);
    world.await_published(SOON);
    world.await_drained(SOON);
    world.audit();
}

on_every_buffer! {
    health_turns_503_when_one_partition_is_not_drained_and_says_which,
}
