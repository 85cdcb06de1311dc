//! Cap: the buffer never passes its cap under 50 concurrent producers, and says 503 with Retry-After.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::{Beats, Client, SOON, World};

const PRODUCERS: usize = 50;
const PARTITIONS: u64 = 4;

/// Sends bulks of `bulk` until five in a row were refused; a refusal must be a 503 that says when to come again.
fn fill(client: &Client, beats: &Beats, bulk: usize) {
    let mut refused = 0;
    while refused < 5 {
        let answer = client.post_all(&beats.take(bulk));
        match answer.status {
            202 => refused = 0,
            503 => {
                let retry_after = answer.header("retry-after").expect("Retry-After").parse::<u64>();
                assert!(retry_after.is_ok_and(|seconds| seconds > 0), "{:?}", answer.headers);
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                refused += 1;
            }
            other => panic!("{other}: {}", answer.text),
        }
    }
}

/// Fifty producers at once, each of one user and so of one partition; meanwhile and afterwards no partition may hold more
/// than its share of `cap`, by `field`.
fn fill_by_fifty(world: &World, client: &Client, field: &str, cap: u64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let fullest = world.most_in_redis(field);
                assert!(fullest <= cap / PARTITIONS, "{fullest} {field} in a partition, {} allowed", cap / PARTITIONS);
            }
        });
        let produce = |n: usize| move || fill(client, &Beats::new(1, 3).named(format!("producer-{n}")), 1 + n % 9);
        let producers: Vec<_> = (0..PRODUCERS).map(|n| scope.spawn(produce(n))).collect();
        let failed = producers.into_iter().any(|producer| producer.join().is_err());
        done.store(true, Ordering::Relaxed);
        assert!(!failed && watcher.join().is_ok(), "a producer or the watcher failed");
    });
    assert!(world.most_in_redis(field) <= cap / PARTITIONS);
}

#[test]
fn fifty_producers_never_pass_the_cap_of_heartbeats() {
    const CAP: u64 = 4_000;
    let world = World::new();
    world.register();
    let serve = world.serve().args([format!("--buffer-max-heartbeats={CAP}")]).start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);

    fill_by_fifty(&world, &client, "pending", CAP);
    // One by one, every partition takes its last heartbeat, and not one more: the cap is exact.
    let single = Beats::days_ago(400, 1, 1);
    (0..800).for_each(|_| drop(client.post(&single.next())));
    assert_eq!(world.in_redis("pending"), CAP);
    assert_eq!(world.in_redis("accepted"), CAP);

    // What was acknowledged is all there, and there is room again.
    let batch = world.batch().start();
    world.await_drained(SOON);
    world.publish();
    world.audit();
    client.must_keep(&Beats::days_ago(40, 1, 2).take(100));
    world.await_drained(SOON);
    batch.stop();
    world.publish();
}

#[test]
fn fifty_producers_never_pass_the_cap_of_bytes() {
    const CAP: u64 = 256 * 1024;
    let world = World::new();
    world.register();
    let serve = world.serve().args([format!("--buffer-max-bytes={CAP}B")]).start();
    serve.await_status("/health/ready", 200, SOON);

    fill_by_fifty(&world, &world.client(&serve), "bytes", CAP);
    // A cap that is hardly used would hold as well.
    assert!(world.in_redis("bytes") > CAP * 9 / 10, "{}", world.in_redis("bytes"));

    let _batch = world.batch().start();
    world.await_drained(SOON);
    world.publish();
    world.audit();
}
