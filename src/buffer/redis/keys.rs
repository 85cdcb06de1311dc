//! The names of the keys. Operators may look at them, and backups and tests rely on them: changing one is a format change.
//!
//! A partition's five keys share one hash tag, so that a script may touch all of them on a Redis Cluster.
//!
//! | key                          | type       | holds                                                                     |
//! | ---------------------------- | ---------- | ------------------------------------------------------------------------- |
//! | `systole:{p7}:state`         | hash       | dataset id, ledger, lease, standing claim and what it condemned           |
//! | `systole:{p7}:pending`       | list       | frames that wait, oldest first                                            |
//! | `systole:{p7}:processing`    | list       | the frames of the standing claim                                          |
//! | `systole:{p7}:dead`          | sorted set | dead letters, all of score 0, so in the order of their ids, that is by age |
//! | `systole:{p7}:devices`     | sorted set | devices, `user NUL device`, by when they were last seen in ms             |
//! | `systole:batchers`           | sorted set | batchers by last sign of life, ms by Redis's clock                        |
//! | `systole:tokens`             | hash       | tokens by id (`token/`), and `version`, another with each change          |
//! | `systole:{alarms}:watch`     | hash       | who watches over silence (`owner`, `from_ms`, `until_ms`, `looked_ms`), the last number of the outbox (`number`), `rule:<name>` since when (ms) |
//! | `systole:{alarms}:raised`    | sorted set | what is raised, all of score 0: `<rule>\n<user>\n<device>\n<event> <last seen> <raised at>` |
//! | `systole:{alarms}:outbox`    | sorted set | events to be delivered, JSON, by their numbers                            |
//!
//! Fields of the state, all text or decimal numbers: `dataset`, `partitions`; the ledger's columns `accepted`, `pending`,
//! `claimed`, `acked`, `dead`, `dropped` (heartbeats) and `bytes`;
//! `forgotten` (devices, for want of room); `lease_owner`, `lease_from_ms`, `lease_until_ms`,
//! `lease_epoch`; while a claim stands `claim_id`, `claim_rows`, `claim_bytes`, `claim_since`, `claim_epoch` (the epoch
//! that it was last handed to), `claim_left` (1 when that one released it), `claim_deaths`, `hand_frame` (being worked on),
//! `hand_last` (in hand at the last death), `hand_deaths` (`17:2 40:1`), `condemned` (how many) and one
//! `condemned:<frame>:<row or all>` each. `drain` in a partition that `systole drain` has filled or begun to fill: ids of
//! the move and of this target.

use crate::heartbeat::Partition;

/// Names one key of a partition.
pub(super) type Key = fn(Partition) -> String;

/// The sorted set of batchers; it belongs to no partition.
pub(super) fn batchers(_: Partition) -> String {
    "systole:batchers".into()
}

/// The hash of tokens; it belongs to no partition.
pub(super) fn tokens(_: Partition) -> String {
    "systole:tokens".into()
}

/// The hash of who watches over silence.
pub(super) fn watch(_: Partition) -> String {
    "systole:{alarms}:watch".into()
}

/// The sorted set of what is raised.
pub(super) fn raised(_: Partition) -> String {
    "systole:{alarms}:raised".into()
}

/// The sorted set of events that wait to be delivered.
pub(super) fn outbox(_: Partition) -> String {
    "systole:{alarms}:outbox".into()
}

/// The hash that a partition's steps are checked against.
pub(super) fn state(partition: Partition) -> String {
    of(partition, "state")
}

/// The list of frames that wait.
pub(super) fn pending(partition: Partition) -> String {
    of(partition, "pending")
}

/// The list of frames in the standing claim.
pub(super) fn processing(partition: Partition) -> String {
    of(partition, "processing")
}

/// The sorted set of dead letters.
pub(super) fn dead(partition: Partition) -> String {
    of(partition, "dead")
}

/// The sorted set of devices.
pub(super) fn devices(partition: Partition) -> String {
    of(partition, "devices")
}

fn of(partition: Partition, what: &str) -> String {
    format!("systole:{{p{partition}}}:{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_operators_know() {
        assert_eq!(state(7), "systole:{p7}:state");
        assert_eq!(pending(0), "systole:{p0}:pending");
        assert_eq!(processing(15), "systole:{p15}:processing");
        assert_eq!(dead(65535), "systole:{p65535}:dead");
        assert_eq!(devices(3), "systole:{p3}:devices");
    }
}
