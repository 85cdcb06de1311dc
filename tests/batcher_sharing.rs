//! Several batchers beside each other: every partition is worked on by one of them, whoever comes, goes or fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod batcher_support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use batcher_support::{DAY_MS, Mood, NOON, PARTITIONS, SLOW_SYNC, World, beat, each_once, on_every_buffer, until};
use systole::dataset::Bucket;
use systole::heartbeat::{BatcherId, Heartbeat, Partition};

async fn owners(world: &World) -> BTreeMap<Partition, Option<BatcherId>> {
    let mut owners = BTreeMap::new();
    for partition in 0..PARTITIONS {
        owners.insert(partition, world.status(partition).await.owner);
    }
    owners
}

async fn all_owned_by(world: &World, batchers: &[BatcherId]) {
    until("each partition has one of these owners", async || {
        let owners = owners(world).await;
        owners.values().all(|owner| owner.is_some_and(|owner| batchers.contains(&owner))).then_some(())
    })
    .await;
}

async fn the_partitions_of_one_that_leaves_go_to_the_other_and_no_others_move(world: World) {
    let [one, two] = [world.batcher(), world.batcher()];
    all_owned_by(&world, &[one.id, two.id]).await;
    until("both know of each other", async || {
        let held = one.metrics.partitions_owned.get() + two.metrics.partitions_owned.get();
        (held == i64::from(PARTITIONS)).then_some(())
    })
    .await;
    tokio::time::sleep(*world.options.announce_every * 10).await;
    let before = owners(&world).await;
    one.stop().await;
    all_owned_by(&world, &[two.id]).await;
    assert_eq!(two.metrics.yields.get(), 0);
    let epochs_of_stayers = (0..PARTITIONS).filter(|partition| before[partition] == Some(two.id));
    for partition in epochs_of_stayers {
        assert_eq!(owners(&world).await[&partition], Some(two.id));
    }
    for partition in 0..PARTITIONS {
        world.push(partition, &[vec![beat(partition, 0, NOON)]]).await;
        world.drained(partition).await;
    }
    two.stop().await;
}

async fn rows_pushed_while_batchers_come_and_go_stand_once(world: World) {
    let mut pushed: BTreeMap<Partition, Vec<Heartbeat>> = BTreeMap::new();
    let mut running = vec![world.batcher()];
    for round in 0..6 {
        for partition in 0..PARTITIONS {
            let rows: Vec<_> = (0..50).map(|n| beat(partition, n % 3, NOON + round * 1000 + n as i64)).collect();
            world.push(partition, &rows.chunks(7).map(<[_]>::to_vec).collect::<Vec<_>>()).await;
            pushed.entry(partition).or_default().extend(rows);
        }
        if round % 2 == 0 {
            running.push(world.batcher());
        } else {
            running.remove(0).stop().await;
        }
    }
    for (partition, rows) in &pushed {
        let status = world.drained(*partition).await;
        assert_eq!(status.ledger.acked, rows.len() as u64);
        assert_eq!(world.rows(*partition), each_once(rows));
    }
    for batcher in running {
        batcher.stop().await;
    }
}

async fn what_one_cannot_finish_is_left_to_another(mut world: World) {
    world.options.yield_after = Duration::from_millis(500).into();
    let (fs, dataset) = world.fragile();
    let failing = world.batcher_on(dataset);
    fs.set(Mood::Full);
    let rows: Vec<_> = (0..PARTITIONS).map(|partition| beat(partition, 0, NOON)).collect();
    for (partition, row) in (0..).zip(&rows) {
        world.push(partition, &[vec![row.clone()]]).await;
    }
    // Alone it keeps trying, however long that takes.
    failing.until_unwell("partitions", "partition 3").await;
    tokio::time::sleep(*world.options.yield_after * 3).await;
    assert_eq!(failing.metrics.yields.get(), 0);

    let able = world.batcher();
    for (partition, row) in (0..).zip(&rows) {
        let status = world.drained(partition).await;
        assert_eq!((status.ledger.acked, status.ledger.dead), (1, 0));
        assert_eq!(world.rows(partition), each_once([row]));
    }
    // It counts after the acknowledgement that the buffer shows.
    until("it to have counted", async || (able.metrics.batches.get() == u64::from(PARTITIONS)).then_some(())).await;
    failing.stop().await;
    able.stop().await;
}

/// Publishes what is staged in a partition, as far as its batcher sees: takes it away. Never ends.
async fn take_away(world: &World, partition: Partition, taken: &mut BTreeSet<Bucket>) {
    loop {
        for (bucket, name) in world.fragments(partition) {
            taken.insert(bucket);
            let _lock = world.dataset.lock_bucket_exclusive(bucket).unwrap();
            world.dataset.delete_fragments(bucket, &[name]).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_claim_of_many_dates_on_a_slow_disk_is_finished_though_what_is_stored_is_published_meanwhile(
    mut world: World,
) {
    const DATES: i64 = 60;
    world.options.yield_after = (SLOW_SYNC * 15).into();
    let ((disk, dataset), (other_disk, other_dataset)) = (world.fragile(), world.fragile());
    disk.set(Mood::Slow);
    other_disk.set(Mood::Slow);
    let [one, two] = [world.batcher_on(dataset), world.batcher_on(other_dataset)];
    until("both know of each other", async || {
        let held = one.metrics.partitions_owned.get() + two.metrics.partitions_owned.get();
        (held == i64::from(PARTITIONS)).then_some(())
    })
    .await;
    tokio::time::sleep(*world.options.announce_every * 10).await;
    let late: Vec<_> = (0..DATES).map(|days| beat(0, 0, NOON - days * DAY_MS)).collect();
    world.push(0, std::slice::from_ref(&late)).await;
    let mut taken = BTreeSet::new();
    let status = tokio::select! {
        status = world.drained(0) => status,
        () = take_away(&world, 0, &mut taken) => unreachable!("it never ends"),
    };
    assert_eq!(status.ledger.acked, DATES as u64);
    taken.extend(world.fragments(0).into_iter().map(|(bucket, _)| bucket));
    assert_eq!(taken.len(), late.len());
    for batcher in [one, two] {
        assert_eq!(batcher.metrics.yields.get(), 0, "it got on all the time");
        batcher.stop().await;
    }
}

on_every_buffer! {
    a_claim_of_many_dates_on_a_slow_disk_is_finished_though_what_is_stored_is_published_meanwhile,
    the_partitions_of_one_that_leaves_go_to_the_other_and_no_others_move,
    rows_pushed_while_batchers_come_and_go_stand_once,
    what_one_cannot_finish_is_left_to_another,
}
