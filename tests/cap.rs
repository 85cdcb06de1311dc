//! Cap: the buffer never passes its cap under 50 concurrent producers, and says 503 with Retry-After.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::{Beats, Buffer, Client, SOON, World, on_every_buffer};

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
                let fullest = world.holdings().most(field);
                assert!(fullest <= cap / PARTITIONS, "{fullest} {field} in a partition, {} allowed", cap / PARTITIONS);
            }
        });
        let produce = |n: usize| move || fill(client, &Beats::new(1, 3).named(format!("producer-{n}")), 1 + n % 9);
        let producers: Vec<_> = (0..PRODUCERS).map(|n| scope.spawn(produce(n))).collect();
        let failed = producers.into_iter().any(|producer| producer.join().is_err());
        done.store(true, Ordering::Relaxed);
        assert!(!failed && watcher.join().is_ok(), "a producer or the watcher failed");
    });
    assert!(world.holdings().most(field) <= cap / PARTITIONS);
}

fn fifty_producers_never_pass_the_cap_of_heartbeats(buffer: Buffer) {
    const CAP: u64 = 4_000;
    let world = World::on(buffer);
    let cap = [format!("--buffer-max-heartbeats={CAP}")];
    let mut collector = world.collector().door_args(cap).without_batcher().without_compactor().start();
    let client = collector.client();

    fill_by_fifty(&world, &client, "pending", CAP);
    // One by one, every partition takes its last heartbeat, and not one more: the cap is exact.
    let single = Beats::days_ago(400, 1, 1);
    (0..800).for_each(|_| drop(client.post(&single.next())));
    assert_eq!(world.held("pending"), CAP);
    assert_eq!(world.held("accepted"), CAP);

    // What was acknowledged is all there, and there is room again.
    collector.start_batcher();
    world.await_drained(SOON);
    world.publish();
    world.audit();
    client.must_keep(&Beats::days_ago(40, 1, 2).take(100));
    world.await_drained(SOON);
    world.publish();
}

fn fifty_producers_never_pass_the_cap_of_bytes(buffer: Buffer) {
    const CAP: u64 = 256 * 1024;
    let world = World::on(buffer);
    let cap = [format!("--buffer-max-bytes={CAP}B")];
    let mut collector = world.collector().door_args(cap).without_batcher().without_compactor().start();

    fill_by_fifty(&world, &collector.client(), "bytes", CAP);
    // A cap that is hardly used would hold as well.
    assert!(world.held("bytes") > CAP * 9 / 10, "{}", world.held("bytes"));

    collector.start_batcher();
    world.await_drained(SOON);
    world.publish();
    world.audit();
}

on_every_buffer! {
    fifty_producers_never_pass_the_cap_of_heartbeats,
    fifty_producers_never_pass_the_cap_of_bytes,
}
