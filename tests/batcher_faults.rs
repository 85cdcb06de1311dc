//! What a batcher does when the world fails it: it waits, says why, drops nothing, and goes on by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod batcher_support;

use std::time::Duration;

use batcher_support::{Kind, Mood, NOON, PARTITIONS, World, beat, each_once, on_every_buffer, until};
use bytesize::ByteSize;
use systole::buffer::{ClaimBudget, LeaseAnswer};
use systole::heartbeat::{BatcherId, ClaimId};

async fn a_full_disk_is_retried_until_there_is_room_and_the_claim_stands_meanwhile(world: World) {
    let (fs, dataset) = world.fragile();
    let batcher = world.batcher_on(dataset);
    fs.set(Mood::Full);
    let row = beat(1, 0, NOON);
    world.push(1, &[vec![row.clone()]]).await;
    batcher.until_unwell("partitions", "partition 1, for").await;
    let retries = batcher.metrics.retries.with_label_values(&["disk"]);
    until("it is tried again and again", async || (retries.get() > 5).then_some(())).await;
    let status = world.status(1).await;
    let claim = status.claim.expect("the claim stands");
    assert_eq!((claim.rows, claim.deaths, status.ledger.dead), (1, 0, 0));

    fs.set(Mood::Fine);
    world.drained(1).await;
    assert_eq!(world.rows(1), each_once([&row]));
    batcher.until_well("partitions").await;
    batcher.stop().await;
}

// Only Redis lets others reach its lists.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_lost_frames_is_not_acknowledged_until_they_are_back() {
    let mut world = World::on(Kind::Redis).await;
    let (fs, dataset) = world.fragile();
    fs.set(Mood::Full);
    let frames = [vec![beat(1, 0, NOON)], vec![beat(1, 1, NOON), beat(1, 2, NOON)]];
    world.push(1, &frames).await;
    let batcher = world.batcher_on(dataset);
    batcher.until_unwell("partitions", "partition 1, for").await;
    world.redis().cli(&["LMOVE", "systole:{p1}:processing", "aside", "LEFT", "LEFT"]);
    batcher.until_unwell("partitions", "1 of 3 heartbeats").await;
    world.redis().cli(&["RENAME", "systole:{p1}:processing", "aside too"]);
    batcher.until_unwell("partitions", "3 of 3 heartbeats").await;
    fs.set(Mood::Fine);
    let retries = batcher.metrics.retries.with_label_values(&["buffer"]);
    let before = retries.get();
    until("it is tried again", async || (retries.get() > before + 2).then_some(())).await;
    let status = world.status(1).await;
    assert_eq!((status.ledger.claimed, status.ledger.acked, status.claim.is_some()), (3, 0, true));

    world.redis().cli(&["RENAME", "aside too", "systole:{p1}:processing"]);
    world.redis().cli(&["LMOVE", "aside", "systole:{p1}:processing", "LEFT", "LEFT"]);
    let status = world.drained(1).await;
    assert_eq!((status.ledger.acked, status.ledger.dead), (3, 0));
    assert_eq!(world.rows(1), each_once(frames.iter().flatten()));
    batcher.until_well("partitions").await;
    batcher.stop().await;
}

async fn one_partition_in_trouble_does_not_hold_up_the_others(mut world: World) {
    world.options.claims_at_once = 1;
    let batcher = world.batcher();
    // A folder that cannot be made: a file stands where it must go.
    let staging = world.dataset.root().join("staging/date=2026-11-22");
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join("partition=2"), "in the way").unwrap();
    for partition in 0..PARTITIONS {
        world.push(partition, &[vec![beat(partition, 0, NOON)]]).await;
    }
    for partition in [0, 1, 3] {
        world.drained(partition).await;
    }
    batcher.until_unwell("partitions", "partition 2").await;
    std::fs::remove_file(staging.join("partition=2")).unwrap();
    world.drained(2).await;
    batcher.until_well("partitions").await;
    batcher.stop().await;
}

async fn below_min_free_nothing_is_claimed(world: World) {
    let batcher = world.batcher_on(world.dataset_keeping_free(ByteSize::pib(1000)));
    world.push(1, &[vec![beat(1, 0, NOON)]]).await;
    batcher.until_unwell("partitions", "min-free").await;
    let status = world.status(1).await;
    assert_eq!((status.claim, status.ledger.pending), (None, 1));
    batcher.stop().await;
}

async fn the_lease_is_renewed_while_a_write_hangs(mut world: World) {
    world.options.lease_ttl = Duration::from_secs(1).into();
    let (fs, dataset) = world.fragile();
    let batcher = world.batcher_on(dataset);
    fs.set(Mood::Hanging);
    world.push(1, &[vec![beat(1, 0, NOON)]]).await;
    until("the claim stands", async || world.status(1).await.claim).await;
    // Three times the lease's life.
    let rival = BatcherId::new();
    for _ in 0..60 {
        let answer = world.buffer.lease(1, rival, Duration::from_secs(60)).await.unwrap();
        assert!(matches!(answer, LeaseAnswer::Held { by, .. } if by == batcher.id));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fs.set(Mood::Fine);
    world.drained(1).await;
    batcher.stop().await;
}

// The lease is taken away inside the store, where only Redis lets a test reach.
#[tokio::test(flavor = "multi_thread")]
async fn a_batcher_that_lost_its_lease_neither_renames_nor_acknowledges() {
    let mut world = World::on(Kind::Redis).await;
    let (fs, dataset) = world.fragile();
    let batcher = world.batcher_on(dataset);
    fs.set(Mood::Hanging);
    let rows = [beat(1, 0, NOON), beat(1, 0, NOON + batcher_support::DAY_MS)];
    world.push(1, &[rows.to_vec()]).await;
    let claim = until("the claim stands", async || world.status(1).await.claim).await;
    // Another batcher has the lease now, as after a stop of longer than the lease's life.
    let rival = BatcherId::new();
    world.redis().cli(&["HSET", "systole:{p1}:state", "lease_owner", &rival.to_string()]);
    world.redis().cli(&["HINCRBY", "systole:{p1}:state", "lease_epoch", "1"]);
    let epoch = world.redis().cli(&["HGET", "systole:{p1}:state", "lease_epoch"]).parse().unwrap();
    let far = (Duration::from_secs(600).as_millis() + 2_000_000_000_000).to_string();
    world.redis().cli(&["HSET", "systole:{p1}:state", "lease_until_ms", &far]);
    // Three renewals later it knows.
    tokio::time::sleep(*world.options.renew_every * 3).await;
    fs.set(Mood::Fine);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.status(1).await.claim.map(|claim| claim.id), Some(claim.id), "not acknowledged");
    assert!(world.fragments(1).len() <= 1, "at most the rename that was under way");

    // The rival finishes the same claim, and the books balance.
    let lease = systole::buffer::Lease { partition: 1, batcher: rival, epoch };
    let budget = ClaimBudget { rows: 10, bytes: 1 << 20, frames: 10 };
    let handed = world.buffer.claim(&lease, ClaimId::new(), budget).await.unwrap().unwrap();
    assert_eq!((handed.id, handed.standing), (claim.id, true));
    world.buffer.release(&lease).await.unwrap();
    world.drained(1).await;
    assert_eq!(world.rows(1), each_once(&rows));
    batcher.stop().await;
}

async fn a_stop_amid_retries_gives_every_lease_back_at_once_and_is_no_death(mut world: World) {
    world.options.retry_first = Duration::from_secs(3600).into();
    world.options.retry_most = Duration::from_secs(3600).into();
    let (fs, dataset) = world.fragile();
    fs.set(Mood::Full);
    let batcher = world.batcher_on(dataset);
    world.push(1, &[vec![beat(1, 0, NOON)]]).await;
    batcher.until_unwell("partitions", "partition 1").await;
    let id = batcher.id;
    assert!(batcher.stop().await < Duration::from_secs(2));
    for partition in 0..PARTITIONS {
        assert_eq!(world.status(partition).await.owner, None);
    }
    assert!(world.buffer.batchers().await.unwrap().iter().all(|(living, _)| *living != id));
    assert!(world.status(1).await.claim.is_some());

    let next = world.batcher();
    world.drained(1).await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_away_is_no_death_and_nothing_is_lost() {
    let mut world = World::on(Kind::Redis).await;
    let (fs, dataset) = world.fragile();
    let batcher = world.batcher_on(dataset);
    fs.set(Mood::Full);
    let row = beat(1, 0, NOON);
    world.push(1, &[vec![row.clone()]]).await;
    until("the claim stands", async || world.status(1).await.claim).await;
    // The append-only file is written out every second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.redis().kill();
    batcher.until_unwell("batcher", "alive").await;
    tokio::time::sleep(*world.options.lease_ttl).await;
    world.redis().restart();
    batcher.until_well("batcher").await;
    let renewed = until("it works again", async || {
        let status = world.buffer.status(1).await.ok()?;
        status.owner.filter(|owner| *owner == batcher.id).and(status.claim)
    });
    assert_eq!(renewed.await.deaths, 0);
    fs.set(Mood::Fine);
    world.drained(1).await;
    assert_eq!(world.rows(1), each_once([&row]));
    batcher.stop().await;
}

async fn fragments_that_nobody_publishes_are_reported(mut world: World) {
    world.options.publish_lag = Duration::from_millis(1).into();
    world.push(1, &[vec![beat(1, 0, NOON)]]).await;
    let first = world.batcher();
    world.drained(1).await;
    first.stop().await;
    // Met by the sweep, though this batcher did not store it.
    let second = world.batcher();
    second.until_unwell("publish lag", "date=2026-11-22/partition=1").await;
    second.stop().await;
}

on_every_buffer! {
    a_full_disk_is_retried_until_there_is_room_and_the_claim_stands_meanwhile,
    one_partition_in_trouble_does_not_hold_up_the_others,
    below_min_free_nothing_is_claimed,
    the_lease_is_renewed_while_a_write_hangs,
    a_stop_amid_retries_gives_every_lease_back_at_once_and_is_no_death,
    fragments_that_nobody_publishes_are_reported,
}
