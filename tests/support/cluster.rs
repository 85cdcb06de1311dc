//! A real Redis Cluster: its nodes, and moving what they hold.

use std::time::{Duration, Instant};

use super::redis::RedisServer;
use super::{SOON, wait};

/// Slots of every Cluster.
const SLOTS: u32 = 16_384;

/// The masters of a new Cluster, each with an equal stretch of the slots.
pub fn start<const MASTERS: usize>() -> [RedisServer; MASTERS] {
    let nodes: [RedisServer; MASTERS] = std::array::from_fn(|_| RedisServer::with().cluster().start());
    let share = SLOTS / MASTERS as u32;
    for (number, node) in nodes.iter().enumerate() {
        let first = share * number as u32;
        let last = if number + 1 == MASTERS { SLOTS - 1 } else { first + share - 1 };
        node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        meet(&nodes[0], node);
    }
    await_whole(&nodes.each_ref());
    nodes
}

/// A new replica of `master`, in sync with it.
pub fn replica_of(master: &RedisServer, everyone: &[&RedisServer]) -> RedisServer {
    let replica = RedisServer::with().cluster().start();
    meet(&replica, master);
    let all: Vec<&RedisServer> = everyone.iter().copied().chain([&replica]).collect();
    await_whole(&all);
    assert_eq!(replica.cli(&["CLUSTER", "REPLICATE", &id(master)]), "OK");
    wait::until("the replica to be in sync", SOON, || {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
    });
    replica
}

/// A new replica of each of these masters, which are all that there is.
pub fn replica_of_each(masters: &[&RedisServer]) -> Vec<RedisServer> {
    let mut replicas: Vec<RedisServer> = Vec::new();
    for master in masters {
        let everyone: Vec<&RedisServer> = masters.iter().copied().chain(&replicas).collect();
        let replica = replica_of(master, &everyone);
        replicas.push(replica);
    }
    replicas
}

/// After so long a node has given up a handing over that its master did not agree to in time.
const HANDING_OVER: Duration = Duration::from_secs(6);

/// Makes a replica the master, in agreement with the master.
pub fn hand_over_to(replica: &RedisServer) {
    let mut asked: Option<Instant> = None;
    wait::until("the replica to be the master", 3 * SOON, || {
        if asked.is_none_or(|then| then.elapsed() > HANDING_OVER) {
            replica.cli(&["CLUSTER", "FAILOVER"]);
            asked = Some(Instant::now());
        }
        replica.cli(&["ROLE"]).starts_with("master")
    });
}

/// Waits until the others have made a replica the master.
pub fn await_master(replica: &RedisServer) {
    wait::until("the replica to be made the master", 2 * SOON, || replica.cli(&["ROLE"]).starts_with("master"));
}

fn meet(one: &RedisServer, other: &RedisServer) {
    let (port, bus) = (other.port().to_string(), other.bus().to_string());
    assert_eq!(one.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "OK");
}

/// Waits until all of them know each other, and every slot.
fn await_whole(nodes: &[&RedisServer]) {
    wait::value("the Cluster to be whole", 2 * SOON, || {
        for node in nodes {
            let info = node.cli(&["CLUSTER", "INFO"]);
            if !info.contains("cluster_state:ok") || !info.contains(&format!("cluster_known_nodes:{}", nodes.len())) {
                return Err(info);
            }
            let known = node.cli(&["CLUSTER", "NODES"]);
            if known.contains("handshake") || known.contains("fail") || known.contains("noaddr") {
                return Err(known);
            }
        }
        Ok(())
    });
}

fn id(node: &RedisServer) -> String {
    node.cli(&["CLUSTER", "MYID"])
}

/// The slot of a partition.
pub fn slot_of(node: &RedisServer, partition: u64) -> u32 {
    node.cli(&["CLUSTER", "KEYSLOT", &format!("{{p{partition}}}")]).parse().unwrap()
}

/// Whether the node has this slot.
pub fn has_slot(node: &RedisServer, slot: u32) -> bool {
    let own = |line: &str| line.contains("myself");
    let nodes = node.cli(&["CLUSTER", "NODES"]);
    let own = nodes.lines().find(|line| own(line)).unwrap();
    own.split(' ').skip(8).filter(|range| !range.starts_with('[')).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse::<u32>().unwrap()..=last.parse().unwrap()).contains(&slot)
    })
}

/// Moves a slot as `redis-cli --cluster reshard` does, but one key at a time, with `between` after the first: then the keys of
/// a partition stand on two nodes. Answers how many keys were moved.
pub fn move_slot(
    slot: u32,
    from: &RedisServer,
    to: &RedisServer,
    everyone: &[&RedisServer],
    between: impl FnOnce(),
) -> usize {
    let text = slot.to_string();
    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &text, "IMPORTING", &id(from)]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &text, "MIGRATING", &id(to)]), "OK");
    let (mut moved, port) = (0, to.port().to_string());
    let mut between = Some(between);
    loop {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &text, "1"]);
        if keys.is_empty() {
            break;
        }
        let answer = from.cli(&["MIGRATE", "127.0.0.1", &port, &keys, "0", "5000"]);
        assert!(answer == "OK" || answer == "NOKEY", "{answer}");
        moved += usize::from(answer == "OK");
        if let Some(between) = between.take() {
            between();
        }
    }
    let owner = id(to);
    for node in [to, from].into_iter().chain(everyone.iter().copied()) {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &text, "NODE", &owner]), "OK");
    }
    moved
}
