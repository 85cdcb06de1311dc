//! What the last look at the buffer means, in words. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Batchers, Error, Ledger, PartitionStatus, Witness};
use crate::heartbeat::Partition;

/// Partitions, or runs of them, that a message names before it only counts.
const NAMED: usize = 5;

/// How many gave a sign of life within `ttl`.
pub(super) fn alive(batchers: &Batchers, ttl: Duration) -> usize {
    batchers.iter().filter(|(_, silent)| *silent <= ttl).count()
}

/// Why a buffer that can be looked at takes no push.
pub(super) fn refusal(error: &Error) -> String {
    match error {
        Error::TooFewReplicas { have, want } => format!(
            "{have} of {want} replicas that must confirm each push (wait-replicas) are connected and keep up, so every push is \
             refused; bring replicas back, or ask for fewer"
        ),
        error => error.to_string(),
    }
}

/// What is wrong with a partition, of several things the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Unwritten,
    Waiting,
    Full,
}

/// Which partitions are not drained in time, or full, those together that have the same fault; `None` when all is well.
pub(super) fn lagging(partitions: &[PartitionStatus], lag: Duration) -> Option<String> {
    let mut faults: BTreeMap<Fault, Vec<&PartitionStatus>> = BTreeMap::new();
    for status in partitions {
        if let Some(fault) = fault_of(status, lag) {
            faults.entry(fault).or_default().push(status);
        }
    }
    let told: Vec<String> = faults.into_iter().map(|(fault, these)| tell(fault, &these)).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn held(ledger: &Ledger) -> u64 {
    ledger.pending + ledger.claimed + ledger.dead
}

fn fault_of(status: &PartitionStatus, lag: Duration) -> Option<Fault> {
    if status.claim.is_some_and(|claim| claim.age > lag) {
        return Some(Fault::Unwritten);
    }
    if status.oldest_pending.is_some_and(|waited| waited > lag) {
        return Some(Fault::Waiting);
    }
    let full = held(&status.ledger) >= status.cap_rows || status.ledger.bytes >= status.cap_bytes;
    full.then_some(Fault::Full)
}

fn tell(fault: Fault, these: &[&PartitionStatus]) -> String {
    let numbers: Vec<Partition> = these.iter().map(|status| status.partition).collect();
    let (named, alone) = (named(&numbers), these.len() == 1);
    let claims = || these.iter().filter_map(|status| status.claim);
    let longest = |ages: &mut dyn Iterator<Item = Duration>| ages.max().unwrap_or_default().as_secs();
    match fault {
        Fault::Unwritten => {
            let (rows, age) =
                (claims().map(|claim| claim.rows).sum::<u64>(), longest(&mut claims().map(|claim| claim.age)));
            let up_to = if alone { "" } else { "up to " };
            format!("{named}: {rows} heartbeats claimed {up_to}{age} s ago are not written yet")
        }
        Fault::Waiting => {
            let waited = longest(&mut these.iter().filter_map(|status| status.oldest_pending));
            format!("{named}: the oldest heartbeat has waited for {waited} s")
        }
        Fault::Full => {
            let sum = |of: fn(&Ledger) -> u64| these.iter().map(|status| of(&status.ledger)).sum::<u64>();
            format!("{named}: full ({} heartbeats, {} of them dead letters)", sum(held), sum(|ledger| ledger.dead))
        }
    }
}

/// `partition 3`, or `partitions 0–4, 7`; they come in order.
fn named(partitions: &[Partition]) -> String {
    let mut runs: Vec<(Partition, Partition)> = Vec::new();
    for &partition in partitions {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(partition) => *last = partition,
            _ => runs.push((partition, partition)),
        }
    }
    let run = |&(first, last): &(Partition, Partition)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    };
    let list = runs.iter().take(NAMED).map(run).collect::<Vec<_>>().join(", ");
    let more: usize = runs.iter().skip(NAMED).map(|(first, last)| usize::from(last - first) + 1).sum();
    match (partitions.len(), more) {
        (1, _) => format!("partition {list}"),
        (_, 0) => format!("partitions {list}"),
        (_, more) => format!("partitions {list} and {more} more"),
    }
}

/// What the buffer has forgotten; `None` when nothing.
pub(super) fn forgotten(gone_back: &[(Partition, Witness)]) -> Option<String> {
    let name = |(partition, seen): &(Partition, Witness)| format!("{} in partition {partition}", seen.gone_back);
    let mut named: Vec<String> = gone_back.iter().take(NAMED).map(name).collect();
    let more = gone_back.len().saturating_sub(named.len());
    if more > 0 {
        named.push(format!("the rest in {more} more partitions"));
    }
    let sum: u64 = gone_back.iter().map(|(_, seen)| seen.gone_back).sum();
    (sum > 0).then(|| {
        format!(
            "the buffer has gone back: it forgot {sum} heartbeats that it had accepted ({}); those that stand in no file are lost; \
             see `systole audit`; restart this process once it is dealt with",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::StandingClaim;
    use super::*;
    use crate::heartbeat::{BatcherId, ClaimId};

    const LAG: Duration = Duration::from_secs(10);

    fn idle(partition: u16) -> PartitionStatus {
        let ledger = Ledger::default();
        PartitionStatus {
            partition,
            ledger,
            oldest_pending: None,
            owner: None,
            claim: None,
            cap_rows: 9,
            cap_bytes: 9,
            devices: 0,
            devices_forgotten: 0,
        }
    }

    #[test]
    fn a_partition_that_lags_or_is_full_is_named() {
        assert_eq!(lagging(&[idle(0), idle(1)], LAG), None);
        let young = PartitionStatus { oldest_pending: Some(LAG), ..idle(3) };
        assert_eq!(lagging(&[young], LAG), None);
        let waits = PartitionStatus { oldest_pending: Some(LAG * 2), ..idle(3) };
        assert!(
            lagging(&[idle(0), waits], LAG).unwrap().contains("partition 3: the oldest heartbeat has waited for 20 s")
        );
        let claim = StandingClaim { id: ClaimId::new(), rows: 5, age: LAG * 3, deaths: 0 };
        let stuck = PartitionStatus { claim: Some(claim), ..idle(4) };
        assert!(
            lagging(std::slice::from_ref(&stuck), LAG).unwrap().contains("partition 4: 5 heartbeats claimed 30 s ago")
        );
        let full = PartitionStatus { ledger: Ledger { dead: 9, ..Ledger::default() }, ..idle(5) };
        assert!(lagging(&[full], LAG).unwrap().contains("partition 5: full (9 heartbeats, 9 of them dead letters)"));
    }

    #[test]
    fn partitions_of_one_fault_are_told_together() {
        let waits = |partition, s| PartitionStatus { oldest_pending: Some(Duration::from_secs(s)), ..idle(partition) };
        let all: Vec<_> = (0..16).map(|partition| waits(partition, 44 + u64::from(partition))).collect();
        assert_eq!(lagging(&all, LAG).unwrap(), "partitions 0–15: the oldest heartbeat has waited for 59 s");

        let claim = |age| Some(StandingClaim { id: ClaimId::new(), rows: 5, age, deaths: 0 });
        let full = |partition| PartitionStatus {
            ledger: Ledger { pending: 8, dead: 1, ..Ledger::default() },
            ..idle(partition)
        };
        let mixed = [
            PartitionStatus { claim: claim(LAG * 3), ..idle(0) },
            waits(1, 20),
            PartitionStatus { claim: claim(LAG * 4), ..waits(2, 90) },
            full(3),
            full(4),
            waits(5, 30),
        ];
        assert_eq!(
            lagging(&mixed, LAG).unwrap(),
            "partitions 0, 2: 10 heartbeats claimed up to 40 s ago are not written yet; partitions 1, 5: the oldest heartbeat has \
             waited for 30 s; partitions 3–4: full (18 heartbeats, 2 of them dead letters)"
        );
    }

    #[test]
    fn names_of_partitions_are_bounded() {
        assert_eq!(named(&[7]), "partition 7");
        assert_eq!(named(&[0, 1, 4, Partition::MAX - 1, Partition::MAX]), "partitions 0–1, 4, 65534–65535");
        let odd: Vec<Partition> = (0..20).map(|number| 2 * number + 1).collect();
        assert_eq!(named(&odd), "partitions 1, 3, 5, 7, 9 and 15 more");
        let long = [0, 2, 4, 6, 8, 10, 11, 12];
        assert_eq!(named(&long), "partitions 0, 2, 4, 6, 8 and 3 more");
    }

    #[test]
    fn a_refusal_says_how_many_replicas_of_how_many() {
        let said = refusal(&Error::TooFewReplicas { have: 0, want: 2 });
        assert!(said.starts_with("0 of 2 replicas") && said.contains("wait-replicas"), "{said}");
        let said = refusal(&Error::Refused { reason: "Redis has reached its maxmemory".into() });
        assert!(said.contains("maxmemory"), "{said}");
    }

    #[test]
    fn the_silent_do_not_count_as_alive() {
        let batchers = vec![(BatcherId::new(), LAG), (BatcherId::new(), LAG + Duration::from_millis(1))];
        assert_eq!(alive(&batchers, LAG), 1);
    }

    #[test]
    fn what_was_forgotten_is_summed_and_named_by_partition() {
        assert_eq!(forgotten(&[]), None);
        let of = |partition, gone_back| (partition, Witness { accepted: 1, gone_back });
        let said = forgotten(&[of(1, 30), of(3, 7)]).unwrap();
        assert!(
            said.contains("forgot 37 heartbeats that it had accepted (30 in partition 1, 7 in partition 3)"),
            "{said}"
        );
        let many: Vec<_> = (0..9).map(|partition| of(partition, 2)).collect();
        let said = forgotten(&many).unwrap();
        assert!(said.contains("forgot 18 ") && said.contains("2 in partition 4, the rest in 4 more"), "{said}");
    }
}
