//! What becomes of a claim: fragments, always the same ones, and dead letters for what can never be written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod batcher_support;

use batcher_support::{DAY_MS, Kind, NOON, PARTITIONS, World, beat, each_once, on_every_buffer, until};
use systole::buffer::ClaimBudget;
use systole::dataset::{Bucket, encode_fragment};
use systole::heartbeat::{ClaimId, Frame, Heartbeat, OpenFrame};

const ALL: ClaimBudget = ClaimBudget { rows: 1000, bytes: 1 << 20, frames: 1000 };

/// Three frames of two dates, out of order.
fn some_frames(partition: u16) -> Vec<Vec<Heartbeat>> {
    vec![
        vec![beat(partition, 2, NOON), beat(partition, 0, NOON + 5)],
        vec![beat(partition, 1, NOON - DAY_MS), beat(partition, 0, NOON)],
        vec![beat(partition, 0, NOON - DAY_MS)],
    ]
}

async fn what_was_pushed_stands_in_fragments_one_for_each_date_and_the_books_balance(world: World) {
    let batcher = world.batcher();
    let frames: Vec<_> = (0..PARTITIONS).map(some_frames).collect();
    for (partition, frames) in (0..).zip(&frames) {
        world.push(partition, frames).await;
    }
    for (partition, frames) in (0..).zip(&frames) {
        let status = world.drained(partition).await;
        assert_eq!((status.ledger.acked, status.ledger.dead), (5, 0));
        assert_eq!(world.rows(partition), each_once(frames.iter().flatten()));
        for (bucket, name) in world.fragments(partition) {
            let mut reader = world.dataset.open_fragment(bucket, &name).unwrap();
            while let Some(batch) = reader.next_batch().unwrap() {
                assert!((1..batch.len()).all(|at| batch.row(at - 1) <= batch.row(at)), "sorted");
                assert!((0..batch.len()).all(|at| Bucket::of(batch.row(at).timestamp, partition) == bucket));
            }
        }
    }
    // It counts after the acknowledgements that the buffer shows.
    until("it to have counted", async || (batcher.metrics.batches.get() >= u64::from(PARTITIONS)).then_some(())).await;
    assert_eq!(batcher.metrics.rows.get(), 5 * u64::from(PARTITIONS));
    batcher.stop().await;
}

async fn a_standing_claim_of_a_dead_owner_is_written_to_the_same_names(world: World) {
    world.push(1, &some_frames(1)).await;
    // An owner that stored one of its two fragments, and died.
    let lease = world.lease_of_one_who_dies(1).await;
    let claim = world.buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap().unwrap();
    let opened: Vec<_> = claim.frames.iter().map(|frame| OpenFrame::open(frame).unwrap()).collect();
    let mut rows: Vec<_> = opened.iter().flat_map(|frame| frame.all_rows().unwrap()).collect();
    rows.sort();
    rows.retain(|row| row.timestamp >= NOON);
    let bucket = Bucket::of(NOON, 1);
    let name = world.dataset.store_fragment(bucket, claim.id, &encode_fragment(&rows).unwrap()).unwrap();

    // New frames are no part of the standing claim.
    world.push(1, &[vec![beat(1, 7, NOON)]]).await;
    let batcher = world.batcher();
    world.drained(1).await;
    let of_claim: Vec<_> = world.fragments(1).into_iter().filter(|(_, name)| name.claim == claim.id).collect();
    assert_eq!(of_claim.len(), 2);
    assert!(of_claim.contains(&(bucket, name)), "{of_claim:?} instead of {name}");
    let everything = some_frames(1).into_iter().flatten().chain([beat(1, 7, NOON)]).collect::<Vec<_>>();
    assert_eq!(world.rows(1), each_once(&everything));
    batcher.stop().await;
}

// A frame is damaged inside the store, where only Redis lets a test reach; here and in the next two.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_frame_becomes_a_dead_letter_and_the_others_are_kept() {
    let mut world = World::on(Kind::Redis).await;
    let (before, after) = (beat(0, 0, NOON), beat(0, 1, NOON));
    world.push(0, &[vec![before.clone()], vec![beat(0, 2, NOON), beat(0, 3, NOON)], vec![after.clone()]]).await;
    // The last byte of the second frame's last text flips.
    let damage = "local f = redis.call('LINDEX', KEYS[1], 1) \
                  redis.call('LSET', KEYS[1], 1, string.sub(f, 1, -2) .. '!')";
    world.redis().cli(&["EVAL", damage, "1", "systole:{p0}:pending"]);
    let batcher = world.batcher();
    let status = world.drained(0).await;
    assert_eq!((status.ledger.acked, status.ledger.dead), (2, 2));
    assert_eq!(world.rows(0), each_once([&before, &after]));
    let letters = world.buffer.dead_letters(0, None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].rows, 2);
    assert!(letters[0].reason.contains("checksum"), "{}", letters[0].reason);
    until("it to have counted", async || (batcher.metrics.condemned_rows.get() == 2).then_some(())).await;
    batcher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_nothing_but_damage_is_acknowledged_without_a_fragment() {
    let mut world = World::on(Kind::Redis).await;
    world.redis().cli(&["RPUSH", "systole:{p2}:pending", "no frame at all"]);
    let batcher = world.batcher();
    let status = world.drained(2).await;
    // No push wrote it, so the books do not know it, neither before nor after.
    assert_eq!((status.ledger.acked, status.ledger.dead), (0, 0));
    assert_eq!(world.buffer.dead_letters(2, None, 10).await.unwrap().len(), 1);
    assert_eq!(world.fragments(2), []);
    batcher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_a_newer_version_is_waited_for_and_never_condemned() {
    let mut world = World::on(Kind::Redis).await;
    world.push(3, &[vec![beat(3, 0, NOON)]]).await;
    world.redis().cli(&[
        "EVAL",
        &format!("redis.call('RPUSH', KEYS[1], '{}')", lua_text(&newer())),
        "1",
        "systole:{p3}:pending",
    ]);
    let batcher = world.batcher();
    batcher.until_unwell("partitions", "format version 9").await;
    batcher.until_unwell("partitions", "partition 3").await;
    let status = world.status(3).await;
    assert!(status.claim.is_some(), "the claim stands");
    assert_eq!(status.ledger.dead, 0);
    assert!(batcher.metrics.retries.with_label_values(&["format"]).get() > 0);
    // Other partitions are not held up.
    world.push(0, &[vec![beat(0, 0, NOON)]]).await;
    world.drained(0).await;
    assert!(batcher.stop().await.as_secs() < 5);
}

/// A frame as a newer Systole might push it.
fn newer() -> Vec<u8> {
    let mut bytes = Frame::encode([beat(3, 1, NOON).as_ref()]).unwrap().bytes().to_vec();
    bytes[0] = 9;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&bytes[..9]);
    hash.update(&bytes[17..]);
    bytes[9..17].copy_from_slice(&hash.digest().to_le_bytes());
    bytes
}

/// Bytes as a Lua string, since redis-cli takes text only.
fn lua_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03}")).collect()
}

async fn a_frame_that_killed_three_owners_becomes_a_dead_letter(world: World) {
    let frames = some_frames(1);
    world.push(1, &frames).await;
    // Three die somewhere, three more with the second frame in hand.
    for death in 0..6 {
        let lease = world.lease_of_one_who_dies(1).await;
        let claim = world.buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap().unwrap();
        assert_eq!(claim.deaths, death);
        if death >= 3 {
            world.buffer.take_in_hand(&lease, claim.id, Some(1)).await.unwrap();
        }
    }
    let batcher = world.batcher();
    let status = world.drained(1).await;
    assert_eq!((status.ledger.acked, status.ledger.dead), (3, 2));
    let letters = world.buffer.dead_letters(1, None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("3 batchers died"), "{}", letters[0].reason);
    assert_eq!(world.rows(1), each_once(frames[0].iter().chain(&frames[2])));

    // Retried by a person, it is written after all.
    assert!(world.buffer.retry_dead_letter(1, letters[0].id).await.unwrap());
    until("the retried rows stand", async || (world.rows(1) == each_once(frames.iter().flatten())).then_some(())).await;
    batcher.stop().await;
}

async fn a_claim_that_killed_three_owners_by_chance_loses_nothing_to_care(world: World) {
    let frames = some_frames(1);
    world.push(1, &frames).await;
    for _ in 0..4 {
        let lease = world.lease_of_one_who_dies(1).await;
        world.buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap().unwrap();
    }
    let batcher = world.batcher();
    let status = world.drained(1).await;
    assert_eq!((status.ledger.acked, status.ledger.dead), (5, 0));
    assert_eq!(world.rows(1), each_once(frames.iter().flatten()));
    batcher.stop().await;
}

on_every_buffer! {
    what_was_pushed_stands_in_fragments_one_for_each_date_and_the_books_balance,
    a_standing_claim_of_a_dead_owner_is_written_to_the_same_names,
    a_frame_that_killed_three_owners_becomes_a_dead_letter,
    a_claim_that_killed_three_owners_by_chance_loses_nothing_to_care,
}
