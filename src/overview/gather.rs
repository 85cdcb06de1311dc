//! What the last look at the buffer says. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prometheus::proto::MetricFamily;

use super::advice;
use super::refusals::OF_BUFFER;
use super::report::{
    BatcherState, Books, BooksOfFiles, BufferState, PartitionState, Refused, Role, UnwellPart, Verdict,
};
use crate::buffer::monitor::Snapshot;
use crate::buffer::{Ledger, PartitionStatus};
use crate::telemetry::health::{Affects, PartHealth};

/// As `/health` judges.
pub(super) fn verdict(parts: Vec<PartHealth>) -> Verdict {
    let unwell = parts.into_iter().filter(|part| !part.ok && part.affects != Affects::Nothing);
    let problems: Vec<UnwellPart> = unwell
        .map(|PartHealth { name, detail, .. }| UnwellPart { advice: advice::of(&name), part: name, detail })
        .collect();
    Verdict { well: problems.is_empty(), problems }
}

pub(super) fn buffer(role: Role, snapshot: &Snapshot, now: Instant) -> BufferState {
    let partitions: Vec<PartitionState> = snapshot.partitions.iter().map(partition).collect();
    let sum = |of: fn(&PartitionState) -> u64| partitions.iter().map(of).fold(0, u64::saturating_add);
    let oldest = snapshot.partitions.iter().filter_map(|status| status.oldest_pending).max();
    BufferState {
        kind: role.buffer(),
        durability: snapshot.durability.level,
        looked_s: now.saturating_duration_since(snapshot.at).as_secs(),
        heartbeats: sum(|partition| partition.heartbeats),
        heartbeats_max: sum(|partition| partition.heartbeats_max),
        bytes: sum(|partition| partition.bytes),
        bytes_max: sum(|partition| partition.bytes_max),
        oldest_pending_s: oldest.as_ref().map(Duration::as_secs_f64),
        partitions,
    }
}

fn partition(status: &PartitionStatus) -> PartitionState {
    let ledger = &status.ledger;
    PartitionState {
        partition: status.partition,
        heartbeats: ledger.pending + ledger.claimed + ledger.dead,
        heartbeats_max: status.cap_rows,
        bytes: ledger.bytes,
        bytes_max: status.cap_bytes,
        oldest_pending_s: status.oldest_pending.map(|waited| waited.as_secs_f64()),
        claim_age_s: status.claim.map(|claim| claim.age.as_secs_f64()),
        owner: status.owner.map(|owner| owner.to_string()),
        dead: ledger.dead,
    }
}

/// Everyone on the list, and everyone who owns a partition all the same.
pub(super) fn batchers(snapshot: &Snapshot, ttl: Duration) -> Vec<BatcherState> {
    let mut owned: BTreeMap<_, Vec<u16>> = snapshot.batchers.iter().map(|(id, _)| (*id, Vec::new())).collect();
    for status in &snapshot.partitions {
        if let Some(partitions) = status.owner.and_then(|owner| owned.get_mut(&owner)) {
            partitions.push(status.partition);
        }
    }
    let seen: BTreeMap<_, Duration> = snapshot.batchers.iter().copied().collect();
    let state = |(id, partitions)| {
        let silent = seen.get(&id).copied().unwrap_or_default();
        BatcherState { id: id.to_string(), seen_s: silent.as_secs_f64(), alive: silent <= ttl, partitions }
    };
    owned.into_iter().map(state).collect()
}

pub(super) fn books(snapshot: &Snapshot, files: Option<BooksOfFiles>, files_unknown: Option<&'static str>) -> Books {
    let sum = snapshot.partitions.iter().fold(Ledger::default(), |sum, status| sum + status.ledger);
    Books {
        accepted: sum.accepted,
        pending: sum.pending,
        claimed: sum.claimed,
        acked: sum.acked,
        dead: sum.dead,
        dropped: sum.dropped,
        // Partition by partition: two wrong ones must not make a right sum.
        balanced: snapshot.partitions.iter().all(|status| status.ledger.balances()),
        files,
        files_unknown,
    }
}

/// The counters of refused heartbeats, and what stands before their label here.
const REFUSED: [(&str, &str); 2] =
    [("systole_heartbeats_rejected_total", ""), ("systole_push_refused_heartbeats_total", OF_BUFFER)];

/// What was refused, by the counters of `/metrics`, the most first.
pub(super) fn refused(families: &[MetricFamily]) -> Vec<Refused> {
    let mut refused: Vec<Refused> = families
        .iter()
        .filter_map(|family| {
            REFUSED.iter().find(|(name, _)| *name == family.name()).map(|(_, prefix)| (family, prefix))
        })
        .flat_map(|(family, prefix)| {
            family.get_metric().iter().map(move |metric| {
                let label = metric.get_label().first().map_or("", |label| label.value());
                // Counted in whole heartbeats.
                Refused { reason: format!("{prefix}{label}"), heartbeats: metric.get_counter().get_value() as u64 }
            })
        })
        .filter(|refused| refused.heartbeats > 0)
        .collect();
    refused.sort_unstable_by(|one, other| (other.heartbeats, &one.reason).cmp(&(one.heartbeats, &other.reason)));
    refused
}
