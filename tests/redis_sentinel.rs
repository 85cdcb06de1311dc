//! Failover: when Sentinel makes a replica the master, nothing is lost that the replica confirmed, and what it did not have is
//! noticed and said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::time::Instant;

use support::fleet::{UNDER_WAY, figures};
use support::proxy::{Proxy, Weather};
use support::sentinel::Sentinel;
use support::{RedisServer, SOON, World, wait};

/// A world on a master and its replica, which a Sentinel watches. The replica reaches the master through the network.
fn watched() -> (World, RedisServer, Sentinel, Proxy) {
    let master = RedisServer::with().set("repl-diskless-sync-delay", "0").start();
    let network = Proxy::to(master.port(), "");
    let replica = RedisServer::with().replica_of(network.port()).start();
    let sentinel = Sentinel::watch(&master, &replica);
    let world = World::on_redis(master).reached_by(sentinel.flags());
    (world, replica, sentinel, network)
}

#[test]
fn a_failover_under_load_loses_nothing_that_a_replica_confirmed() {
    let (mut world, replica, sentinel, _network) = watched();
    let fleet = world.fleet_with(&["--wait-replicas=1", "--wait-replicas-timeout=1s"], &[]);
    assert!(fleet.serve.part("buffer").1.contains("1 replicas confirm each push"));
    let producers = fleet.producers(&world);
    producers.await_kept(1_000, SOON);
    world.redis_mut().kill();
    sentinel.await_master(&replica);
    let kept = producers.kept();
    let mut old = std::mem::replace(world.redis_mut(), replica);
    fleet.serve.await_status("/health/ready", 200, SOON);
    // Until another replica is there, nobody confirms: nothing is answered 202.
    assert!(producers.kept() <= kept + UNDER_WAY, "answered 202 without a replica");
    old.restart_as_replica_of(world.redis().port());
    producers.await_kept(300, 2 * SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten();
    assert_eq!(figures("failover by Sentinel, WAIT 1", &world, &snapshot, said), 0);
    assert_eq!(said, 0, "what nobody was promised is not said to be forgotten");
    world.audit();
}

#[test]
fn a_failover_to_a_replica_that_lagged_loses_what_had_not_reached_it_which_is_noticed_and_said() {
    let (mut world, replica, sentinel, network) = watched();
    let fleet = world.fleet();
    let producers = fleet.producers(&world);
    producers.await_kept(1_000, SOON);
    fleet.stop_batchers();
    let begun = Instant::now();
    let accepted = world.held("accepted");
    let of_replica = || support::Holdings::in_redis(&replica, 4).sum("accepted");
    wait::until("the replica to have all of before", SOON, || of_replica() >= accepted);
    network.set(Weather::Stalled);
    producers.await_kept(500, SOON);
    world.redis_mut().kill();
    network.set(Weather::Cut);
    sentinel.await_master(&replica);
    assert!(world.ledger.excuse_since(begun) >= 1_000);
    let _dead = std::mem::replace(world.redis_mut(), replica);
    fleet.wake_batchers();

    let said = fleet.await_said_forgotten();
    fleet.serve.await_status("/health/ready", 200, SOON);
    producers.await_kept(300, SOON);
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let lost = figures("failover to a replica that lagged", &world, &snapshot, said);
    assert!(lost >= 300, "the failover lost nothing: {lost}");
    assert!((lost..=lost + UNDER_WAY).contains(&said), "{lost} are lost, and {said} are said to be forgotten");
    world.audit();
}
