//! Cluster: a partition that moves to another node under load loses and doubles nothing, nor does a node that hands over to
//! its replica.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::fleet::figures;
use support::oracle::partition_of;
use support::{Beat, SOON, World, cluster, wait};

/// A heartbeat of now, of some user of this partition.
fn beat_of(partition: u64) -> Beat {
    let users = (0..).map(|n| format!("somebody-{n}"));
    let user = users.into_iter().find(|user| partition_of(user, 4) == partition).unwrap();
    Beat::of(&user, "device")
}

#[test]
fn a_slot_that_moves_under_load_loses_and_doubles_nothing() {
    let [first, second, third] = cluster::start::<3>();
    let nodes = format!("--buffer={},{}", second.url(), third.url());
    let world = World::on_redis(first).reached_by([nodes, "--redis-cluster".to_owned()]);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(500, SOON);
    let everyone = [world.redis(), &second, &third];
    let client = world.client(&fleet.serve);
    let mut moved = 0;
    for partition in [0, 2] {
        let slot = cluster::slot_of(world.redis(), partition);
        let home = everyone.iter().position(|node| cluster::has_slot(node, slot)).unwrap();
        let (from, to) = (everyone[home], everyone[(home + 1) % everyone.len()]);
        // There and back again.
        for (from, to) in [(from, to), (to, from)] {
            let kept = producers.kept();
            moved += cluster::move_slot(slot, from, to, &everyone, || {
                // The keys of this partition stand on two nodes now, and the scripts need them on one; the others go on.
                for other in 0..4 {
                    let answer = client.post(&beat_of(other));
                    assert!(answer.status == 202 || answer.status == 503 && other == partition, "{}", answer.text);
                }
            });
            wait::until("heartbeats to be taken in again", SOON, || producers.kept() > kept + 200);
        }
    }
    producers.stop();
    assert!(moved >= 4, "hardly a key was moved: {moved}");
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten(&world);
    assert_eq!(figures(&format!("4 slots moved ({moved} keys)"), &world, &snapshot, said), 0);
    assert_eq!(said, 0);
    world.audit();
}

#[test]
fn a_node_that_hands_over_to_its_replica_under_load_loses_and_doubles_nothing() {
    let [first, second, third] = cluster::start::<3>();
    let replica = cluster::replica_of(&third, &[&first, &second, &third]);
    let nodes = format!("--buffer={},{}", second.url(), third.url());
    let world = World::on_redis(first).reached_by([nodes, "--redis-cluster".to_owned()]);
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(500, SOON);
    cluster::hand_over_to(&replica);
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten(&world);
    assert_eq!(figures("CLUSTER FAILOVER", &world, &snapshot, said), 0);
    assert_eq!(said, 0);
    world.audit();
}
