//! What the last look at the buffer means, in words. Pure.

use std::time::Duration;

use super::super::{Batchers, PartitionStatus, Witness};
use crate::heartbeat::Partition;

/// Partitions that a message names before it only counts.
const NAMED: usize = 5;

/// How many gave a sign of life within `ttl`.
pub(super) fn alive(batchers: &Batchers, ttl: Duration) -> usize {
    batchers.iter().filter(|(_, silent)| *silent <= ttl).count()
}

/// Which partitions are not drained in time, or full; `None` when all is well.
pub(super) fn lagging(partitions: &[PartitionStatus], lag: Duration) -> Option<String> {
    let mut faults: Vec<String> = partitions.iter().filter_map(|status| fault_of(status, lag)).collect();
    let more = faults.len().saturating_sub(NAMED);
    faults.truncate(NAMED);
    if more > 0 {
        faults.push(format!("{more} more partitions likewise"));
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn fault_of(status: &PartitionStatus, lag: Duration) -> Option<String> {
    let partition = status.partition;
    let ledger = &status.ledger;
    if let Some(claim) = status.claim.filter(|claim| claim.age > lag) {
        let age = claim.age.as_secs();
        return Some(format!(
            "partition {partition}: {} heartbeats claimed {age} s ago are not written yet",
            claim.rows
        ));
    }
    if let Some(waited) = status.oldest_pending.filter(|waited| *waited > lag) {
        return Some(format!("partition {partition}: the oldest heartbeat has waited for {} s", waited.as_secs()));
    }
    let held = ledger.pending + ledger.claimed + ledger.dead;
    let full = held >= status.cap_rows || ledger.bytes >= status.cap_bytes;
    full.then(|| format!("partition {partition}: full ({held} heartbeats, {} of them dead letters)", ledger.dead))
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
    use super::super::super::{Ledger, StandingClaim};
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
            vanished: 0,
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
        let all: Vec<_> = (0..9).map(|partition| PartitionStatus { partition, ..stuck.clone() }).collect();
        assert!(lagging(&all, LAG).unwrap().ends_with("; 4 more partitions likewise"));
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
