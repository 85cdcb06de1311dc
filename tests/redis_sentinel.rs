//! Failover: when the Sentinels make a replica the master, nothing is lost that the replica confirmed, and what it did not have is
//! noticed and said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use support::authors::{Authors, MayFail};
use support::fleet::{UNDER_WAY, figures};
use support::proxy::{Proxy, Weather};
use support::sentinel::Sentinels;
use support::{Beat, Launch, RedisServer, SOON, World, wait};

/// A world on a master and its replica, which three Sentinels watch. The replica reaches the master through the network.
fn watched() -> (World, RedisServer, Sentinels, Proxy) {
    let master = RedisServer::start();
    let network = Proxy::to(master.port(), "");
    let replica = RedisServer::with().replica_of(network.port()).start();
    let sentinels = Sentinels::watch(&master, &replica);
    let world = World::on_redis(master).reached_by(sentinels.flags());
    (world, replica, sentinels, network)
}

#[test]
fn a_failover_under_load_loses_nothing_that_a_replica_confirmed() {
    let (mut world, replica, sentinels, network) = watched();
    let data = format!("--data={}", world.dataset().display());
    let fleet = world.fleet_with(&[&data, "--wait-replicas=1", "--wait-replicas-timeout=1s"], &[]);
    assert!(fleet.serve.part("buffer").1.contains("1 replica confirms each push"));
    let producers = fleet.producers(&world);
    let authors = Authors::start(&world.client(&fleet.serve), &fleet.serve.url(), 3, MayFail::WritesToo);
    producers.await_kept(1_000, SOON);
    authors.await_reads(6);
    // The master takes more than the replica hears of. None of that is answered 202.
    network.set(Weather::Stalled);
    let too_few = |labels: &BTreeMap<String, String>| labels["reason"] == "too_few_replicas";
    wait::until("pushes to be refused for want of a replica", SOON, || {
        fleet.serve.metrics().sum_where("systole_push_refused_heartbeats_total", too_few) > Some(100.0)
    });
    let kept = producers.kept();
    world.redis_mut().kill();
    network.set(Weather::Cut);
    sentinels.await_master(&replica);
    let mut old = std::mem::replace(world.redis_mut(), replica);
    wait::until("the new master to be met", SOON, || fleet.serve.part("buffer").1.starts_with("0 of 1 replicas"));
    let refused = world.client(&fleet.serve).post(&Beat::of("somebody", "device"));
    assert_eq!(refused.status, 503, "answered 202 without a replica: {}", refused.text);
    assert_eq!(producers.kept(), kept, "answered 202 without a replica");
    old.restart_as_replica_of(world.redis().port());
    producers.await_kept(300, 2 * SOON);
    authors.await_reads(6);
    authors.stop();
    producers.stop();
    let snapshot = world.await_rest(2 * SOON);
    let said = fleet.said_forgotten(&world);
    assert_eq!(figures("failover by Sentinel, WAIT 1", &world, &snapshot, said), 0);
    assert_eq!(said, 0, "what nobody was promised is not said to be forgotten");
    world.audit();
}

#[test]
fn a_failover_to_a_replica_that_lagged_loses_what_had_not_reached_it_which_is_noticed_and_said() {
    let (mut world, replica, sentinels, network) = watched();
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
    producers.await_ended(SOON);
    assert!(world.ledger.excuse_since(begun) >= 1_000);
    sentinels.await_master(&replica);
    let _dead = std::mem::replace(world.redis_mut(), replica);
    fleet.wake_batchers();

    fleet.await_gone_back();
    fleet.serve.await_status("/health/ready", 200, SOON);
    producers.await_kept(300, SOON);
    producers.stop();
    let said = fleet.said_forgotten(&world);
    let snapshot = world.await_rest(2 * SOON);
    let lost = figures("failover to a replica that lagged", &world, &snapshot, said);
    assert!(lost >= 300, "the failover lost nothing: {lost}");
    assert!((lost..=lost + UNDER_WAY).contains(&said), "{lost} are lost, and {said} are said to be forgotten");
    world.audit();
}

#[test]
fn a_sentinel_that_hangs_keeps_nobody_out_however_short_the_connect_timeout() {
    let master = RedisServer::start();
    let replica = RedisServer::with().replica_of(master.port()).start();
    let sentinels = Sentinels::watch(&master, &replica);
    // The system takes connections to it, and nobody ever answers.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [nodes, name] = sentinels.flags();
    let nodes = nodes.replace("127.0.0.1:1,", &format!("{},", hung.local_addr().unwrap()));
    let world = World::on_redis(master).reached_by([nodes, name]);
    // What else has a time must outlast it.
    let usual = |launch: Launch| launch.without("--push-deadline").without("--step-deadline").without("--lease-ttl");
    let short = |launch: Launch| usual(launch).args(["--connect-timeout=500ms"]).start();
    let (_batch, serve) = (short(world.batch()), short(world.serve()));
    // One connection after the other, and each waits for the Sentinel that hangs.
    serve.await_status("/health/ready", 200, 4 * SOON);
    let client = world.client(&serve);
    wait::until("heartbeats to be taken in", SOON, || client.post(&Beat::of("somebody", "device")).status == 202);
    world.await_drained(4 * SOON);
}
