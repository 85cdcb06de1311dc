//! Scale-out: batchers share the partitions; one that joins or dies moves only those that it must.
//!
//! On Redis only: the embedded buffer has one process, and one batcher in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::{Beats, Buffer, SOON, World, wait};

const PARTITIONS: u64 = 16;

/// Who holds the lease of each partition, as Redis has it. Fails while a lease is free or its holder is not `alive`.
fn owners(world: &World, alive: usize) -> Result<BTreeMap<u64, String>, String> {
    let owner = |n: u64| {
        let owner = world.redis().cli(&["HGET", &format!("systole:{{p{n}}}:state"), "lease_owner"]);
        if owner.is_empty() { Err(format!("partition {n} has no owner")) } else { Ok((n, owner)) }
    };
    let owners: BTreeMap<u64, String> = (0..PARTITIONS).map(owner).collect::<Result<_, _>>()?;
    let holders: BTreeSet<&String> = owners.values().collect();
    if holders.len() == alive { Ok(owners) } else { Err(format!("{} of {alive} batchers hold leases", holders.len())) }
}

/// The owners once they have stayed the same for a while.
fn settled_owners(world: &World, alive: usize) -> BTreeMap<u64, String> {
    let mut last = BTreeMap::new();
    let mut same = 0;
    wait::value("the leases to settle", SOON, || {
        let now = owners(world, alive)?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same >= 10 { Ok(last.clone()) } else { Err("they move".to_owned()) }
    })
}

fn moved(before: &BTreeMap<u64, String>, after: &BTreeMap<u64, String>) -> Vec<u64> {
    before.keys().filter(|partition| before[partition] != after[partition]).copied().collect()
}

#[test]
fn a_batcher_that_joins_or_dies_moves_only_the_partitions_it_must() {
    let world = World::on(Buffer::Redis);
    let batch = || world.batch().args([format!("--partitions={PARTITIONS}")]).start();
    let (_a, _b) = (batch(), batch());
    let two = settled_owners(&world, 2);

    let mut third = batch();
    let three = settled_owners(&world, 3);
    let newcomer: Vec<&String> = three.values().filter(|owner| !two.values().any(|known| known == *owner)).collect();
    assert!(!newcomer.is_empty(), "the third got nothing");
    for partition in moved(&two, &three) {
        assert_eq!(&three[&partition], newcomer[0], "partition {partition} moved between the two old ones");
    }

    third.sigkill();
    let again = settled_owners(&world, 2);
    assert_eq!(again, two, "after the third died everything is as it was");
}

#[test]
fn two_batchers_hold_claims_of_two_partitions_at_once() {
    let world = World::on(Buffer::Redis);
    // Each stands still with the first thing that it claims in hand.
    let batch = || world.batch().args([format!("--partitions={PARTITIONS}")]);
    let stuck = || batch().failpoints("batcher.claimed=wait").start();
    let (a, b) = (stuck(), stuck());
    settled_owners(&world, 2);
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    world.client(&serve).must_keep(&Beats::new(100, 1).take(400));

    wait::value("a claim of each batcher", SOON, || {
        let holders = claim_holders(&world);
        if holders.len() == 2 { Ok(()) } else { Err(format!("held by {holders:?}")) }
    });

    drop((a, b));
    let _batch = batch().start();
    wait::until("everything to be written", SOON, || written(&world) == 400);
    world.publish();
}

/// Who holds a lease on a partition with a standing claim.
fn claim_holders(world: &World) -> BTreeSet<String> {
    let field = |n, field| world.redis().cli(&["HGET", &format!("systole:{{p{n}}}:state"), field]);
    let claimed = (0..PARTITIONS).filter(|n| !field(*n, "claim_id").is_empty());
    claimed.map(|n| field(n, "lease_owner")).collect()
}

fn written(world: &World) -> u64 {
    let acked = |n| world.redis().cli(&["HGET", &format!("systole:{{p{n}}}:state"), "acked"]);
    (0..PARTITIONS).map(|n| acked(n).parse().unwrap_or(0)).sum()
}
