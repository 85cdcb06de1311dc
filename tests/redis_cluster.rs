//! Cluster: a partition that moves to another node under load loses and doubles nothing, nor does a node that hands over to
//! its replica, or one that is killed where a replica has confirmed; and whoever reads meanwhile misses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::authors::{Authors, MayFail};
use support::fleet::{Fleet, figures};
use support::oracle::partition_of;
use support::{Beat, RedisServer, SOON, World, cluster, wait};

/// Of each partition some.
const AUTHORS: u64 = 8;

/// Every role, and a door that sees the files.
fn fleet(world: &World) -> Fleet {
    world.fleet_with(&[&format!("--data={}", world.dataset().display())], &[])
}

fn authors(world: &World, fleet: &Fleet) -> Authors {
    Authors::start(&world.client(&fleet.serve), &fleet.serve.url(), AUTHORS, MayFail::WritesToo)
}

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
    let fleet = fleet(&world);
    let (producers, authors) = (fleet.producers(&world), authors(&world, &fleet));
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
            authors.await_reads(AUTHORS);
        }
    }
    authors.stop();
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
    let fleet = fleet(&world);
    let (producers, authors) = (fleet.producers(&world), authors(&world, &fleet));
    producers.await_kept(500, SOON);
    cluster::hand_over_to(&replica);
    producers.await_kept(300, SOON);
    authors.await_reads(2 * AUTHORS);
    authors.stop();
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten(&world);
    assert_eq!(figures("CLUSTER FAILOVER", &world, &snapshot, said), 0);
    assert_eq!(said, 0);
    world.audit();
}

#[test]
fn a_node_that_is_killed_under_load_takes_nothing_along_that_its_replica_has_confirmed() {
    let [first, second, third] = cluster::start::<3>();
    let masters = [&first, &second, &third];
    let replicas = cluster::replica_of_each(&masters);
    let nodes: Vec<String> = masters[1..].iter().copied().chain(&replicas).map(RedisServer::url).collect();
    // One that has some partition, and is not the one that the test itself asks.
    let has_some =
        |node: &RedisServer| (0..4).any(|partition| cluster::has_slot(node, cluster::slot_of(node, partition)));
    let victim = if has_some(&second) { 1 } else { 2 };
    assert!(has_some(masters[victim]));
    let [first, mut second, mut third] = [first, second, third];
    let world =
        World::on_redis(first).reached_by([format!("--buffer={}", nodes.join(",")), "--redis-cluster".to_owned()]);
    let data = format!("--data={}", world.dataset().display());
    let fleet = world.fleet_with(&[&data, "--wait-replicas=1", "--wait-replicas-timeout=1s"], &[]);
    let (producers, authors) = (fleet.producers(&world), authors(&world, &fleet));
    producers.await_kept(500, SOON);
    authors.await_reads(AUTHORS);

    let killed = if victim == 1 { &mut second } else { &mut third };
    killed.kill();
    cluster::await_master(&replicas[victim]);
    // Nobody confirms what the new master is given until the old one is its replica.
    killed.restart();
    producers.await_kept(300, 2 * SOON);
    authors.await_reads(2 * AUTHORS);
    authors.stop();
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten(&world);
    assert_eq!(figures("SIGKILL of a Cluster's node, WAIT 1", &world, &snapshot, said), 0);
    assert_eq!(said, 0, "what nobody was promised is not said to be forgotten");
    world.audit();
}

// One whose machine is gone answers as little: nobody refuses a connection to it.
#[test]
fn a_node_that_hangs_for_good_keeps_nobody_out_once_its_replica_has_taken_over() {
    let [first, second, third] = cluster::start::<3>();
    let masters = [&first, &second, &third];
    let has_some =
        |node: &RedisServer| (0..4).any(|partition| cluster::has_slot(node, cluster::slot_of(node, partition)));
    let hung = if has_some(&second) { &second } else { &third };
    assert!(has_some(hung));
    let replica = cluster::replica_of(hung, &masters);
    let nodes = format!("--buffer={},{}", second.url(), third.url());
    let world = World::on_redis(first).reached_by([nodes, "--redis-cluster".to_owned()]);
    let fleet = fleet(&world);
    let client = world.client(&fleet.serve);
    let all_are_taken = || {
        let answers = (0..4).map(|partition| client.try_post_one(&beat_of(partition)));
        answers.fold(true, |all, answer| all & answer.is_ok_and(|answer| answer.status == 202))
    };
    wait::until("heartbeats of every partition to be taken in", SOON, all_are_taken);
    world.await_drained(SOON);

    hung.stop_process();
    cluster::await_master(&replica);
    wait::until("heartbeats of every partition to be taken in again", 2 * SOON, all_are_taken);
    world.await_drained(2 * SOON);
    hung.cont();
    world.await_rest(2 * SOON);
}
