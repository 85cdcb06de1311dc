//! What the last look at the buffer says. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prometheus::proto::MetricFamily;

use super::advice::{self, Situation};
use super::refusals::OF_BUFFER;
use super::report::{
    BatcherState, Books, BooksOfFiles, BufferState, PartitionState, Refused, Role, UnwellPart, Verdict,
};
use crate::buffer::monitor::Snapshot;
use crate::buffer::{Ledger, PartitionStatus};
use crate::telemetry::health::{Affects, PartHealth};

/// As `/health` judges.
pub(super) fn verdict(parts: Vec<PartHealth>, situation: &Situation<'_>) -> Verdict {
    let mut unwell: Vec<PartHealth> =
        parts.into_iter().filter(|part| !part.ok && part.affects != Affects::Nothing).collect();
    let well = unwell.is_empty();
    // By then the buffer itself is told; a board that was read just before does not know of it yet.
    if situation.fault.is_some() && unwell.iter().any(|part| part.name == BUFFER) {
        unwell.retain(|part| !LOOKED_AT.contains(&part.name.as_str()));
    }
    unwell.sort_by_key(|part| rank(&part.name));
    let problem = |PartHealth { name, detail, .. }: PartHealth| UnwellPart {
        advice: advice::of(&name, situation),
        part: name,
        detail,
    };
    Verdict { well, problems: unwell.into_iter().map(problem).collect() }
}

/// The part that tells of the buffer itself.
const BUFFER: &str = "buffer";
/// Parts that are fed by looks at the buffer: where none succeeds they only say that.
const LOOKED_AT: [&str; 2] = ["batchers", "drain"];

/// Causes come before their effects: without its buffer nothing goes on, and whatever is wrong shows in the end as a lag.
fn rank(part: &str) -> u8 {
    match part {
        BUFFER => 0,
        "parts" => 1,
        "drain" => 3,
        _ => 2,
    }
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

/// Everyone on the list, with what each owns, as of `now`: nobody has been heard of since the look.
pub(super) fn batchers(snapshot: &Snapshot, ttl: Duration, now: Instant) -> Vec<BatcherState> {
    let since = now.saturating_duration_since(snapshot.at);
    let mut owned: BTreeMap<_, Vec<u16>> = snapshot.batchers.iter().map(|(id, _)| (*id, Vec::new())).collect();
    for status in &snapshot.partitions {
        if let Some(partitions) = status.owner.and_then(|owner| owned.get_mut(&owner)) {
            partitions.push(status.partition);
        }
    }
    let seen: BTreeMap<_, Duration> = snapshot.batchers.iter().copied().collect();
    let state = |(id, partitions)| {
        let silent = seen.get(&id).copied().unwrap_or_default().saturating_add(since);
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

#[cfg(test)]
mod tests {
    use super::super::test_support;
    use super::*;
    use crate::buffer::Error;
    use crate::heartbeat::BatcherId;

    fn unwell(name: &str) -> PartHealth {
        PartHealth { name: name.to_owned(), affects: Affects::Health, ok: false, detail: String::new() }
    }

    fn told(parts: &[&str], fault: Option<&Error>) -> (bool, Vec<String>) {
        let situation = Situation { role: Role::Serve, fault, refuses: None, known: true };
        let verdict = verdict(parts.iter().map(|name| unwell(name)).collect(), &situation);
        (verdict.well, verdict.problems.into_iter().map(|problem| problem.part).collect())
    }

    #[test]
    fn what_only_repeats_that_the_buffer_cannot_be_looked_at_is_left_out() {
        let away = Error::Unreachable { reason: "gone".into() };
        let all = ["batchers", "buffer", "drain", "tokens"];
        assert_eq!(told(&all, Some(&away)).1, ["buffer", "tokens"]);
        assert_eq!(told(&all, None).1, ["buffer", "batchers", "tokens", "drain"]);
        // The board does not know of the fault yet: better a repetition than nothing.
        assert_eq!(told(&["batchers"], Some(&away)), (false, vec!["batchers".to_owned()]));
        assert!(told(&[], None).0);
    }

    #[test]
    fn causes_come_before_their_effects() {
        let all = ["batchers", "drain", "partitions", "parts"];
        assert_eq!(told(&all, None).1, ["parts", "batchers", "partitions", "drain"]);
    }

    #[test]
    fn an_old_look_keeps_nobody_alive() {
        let (at, ttl) = (Instant::now(), Duration::from_secs(10));
        let mut snapshot = test_support::snapshot(at, &[]);
        snapshot.batchers = vec![(BatcherId::new(), Duration::from_millis(650))];
        let seen = |later: u64| {
            let state = batchers(&snapshot, ttl, at + Duration::from_secs(later)).remove(0);
            ((state.seen_s * 1000.0).round(), state.alive)
        };
        assert_eq!([seen(0), seen(2), seen(28)], [(650.0, true), (2_650.0, true), (28_650.0, false)]);
    }
}
