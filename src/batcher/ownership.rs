//! Who works on which partition: policy without I/O.
//!
//! Constraints:
//! - Every batcher computes the same ranks from the same list of the living, so that joining, leaving and dying move only
//!   the partitions they must (rendezvous hashing), and nobody has to be asked.
//! - Ranks only say who tries first. Who may work is decided by the lease; two batchers of two opinions are harmless.
//! - A partition that its first-ranked batcher does not work on (it yielded, or hangs while it still announces itself) is
//!   seen by the others as *neglected*: work waits and nobody holds the lease. Rank `k` adopts it after `k` graces, for
//!   one term; then the first-ranked gets its turn again. So nothing has to be told to anyone for a partition to move on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::heartbeat::{BatcherId, Partition};

/// How many of the living come before `batcher` for `partition`; 0 is the owner by rank.
pub(super) fn rank(batcher: BatcherId, partition: Partition, living: &[BatcherId]) -> usize {
    let mine = score(batcher, partition);
    living.iter().filter(|other| **other != batcher && score(**other, partition) > mine).count()
}

/// The id is part of the score, so that two batchers never tie.
fn score(batcher: BatcherId, partition: Partition) -> (u64, BatcherId) {
    (xxh3_64(format!("{batcher}/{partition}").as_bytes()), batcher)
}

/// How long the waits of the policy are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// What a neglected partition waits for each rank before it is adopted.
    pub(super) grace: Duration,
    /// How long an adopted partition is kept.
    pub(super) adoption: Duration,
    /// How long a batcher that yielded a partition ranks itself last for it.
    pub(super) rest: Duration,
}

/// One batcher's view of what is its to work on.
#[derive(Debug)]
pub(super) struct Ownership {
    me: BatcherId,
    terms: Terms,
    living: Vec<BatcherId>,
    yielded_until: BTreeMap<Partition, Instant>,
    neglected_since: BTreeMap<Partition, Instant>,
    adopted_until: BTreeMap<Partition, Instant>,
}

impl Ownership {
    pub(super) fn new(me: BatcherId, terms: Terms) -> Self {
        Self {
            me,
            terms,
            living: vec![me],
            yielded_until: BTreeMap::new(),
            neglected_since: BTreeMap::new(),
            adopted_until: BTreeMap::new(),
        }
    }

    /// Takes note of who is alive; this batcher always is.
    pub(super) fn see_living(&mut self, mut living: Vec<BatcherId>) {
        if !living.contains(&self.me) {
            living.push(self.me);
        }
        self.living = living;
    }

    pub(super) fn living(&self) -> usize {
        self.living.len()
    }

    pub(super) fn alone(&self) -> bool {
        self.living.len() == 1
    }

    /// This batcher could not finish `partition`: the others come first for a while.
    pub(super) fn yielded(&mut self, partition: Partition, now: Instant) {
        self.adopted_until.remove(&partition);
        self.neglected_since.remove(&partition);
        self.yielded_until.insert(partition, now + self.terms.rest);
    }

    /// Takes note of a partition that this batcher does not work on, adopting it when it was neglected long enough.
    pub(super) fn see_foreign(&mut self, partition: Partition, neglected: bool, now: Instant) {
        if !neglected {
            self.neglected_since.remove(&partition);
            return;
        }
        let since = *self.neglected_since.entry(partition).or_insert(now);
        let rank = u32::try_from(self.rank(partition, now)).unwrap_or(u32::MAX);
        if now.saturating_duration_since(since) >= self.terms.grace.saturating_mul(rank) {
            self.neglected_since.remove(&partition);
            self.adopted_until.insert(partition, now + self.terms.adoption);
        }
    }

    /// Whether this batcher should hold `partition` now.
    pub(super) fn wants(&self, partition: Partition, now: Instant) -> bool {
        self.rank(partition, now) == 0 || self.adopted_until.get(&partition).is_some_and(|until| now < *until)
    }

    fn rank(&self, partition: Partition, now: Instant) -> usize {
        if self.alone() {
            return 0;
        }
        match self.yielded_until.get(&partition) {
            Some(until) if now < *until => self.living.len(),
            _ => rank(self.me, partition, &self.living),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batchers(ids: &[u128]) -> Vec<BatcherId> {
        ids.iter().map(|id| BatcherId::from_u128(*id)).collect()
    }

    fn owner(partition: Partition, living: &[BatcherId]) -> BatcherId {
        let owners: Vec<_> = living.iter().filter(|batcher| rank(**batcher, partition, living) == 0).collect();
        assert_eq!(owners.len(), 1, "exactly one owner");
        *owners[0]
    }

    const TERMS: Terms =
        Terms { grace: Duration::from_secs(6), adoption: Duration::from_secs(60), rest: Duration::from_secs(300) };

    proptest! {
        #[test]
        fn joining_and_leaving_move_only_what_they_must(
            ids in proptest::collection::btree_set(any::<u128>(), 1..8),
            newcomer: u128,
        ) {
            prop_assume!(!ids.contains(&newcomer));
            let before = batchers(&ids.into_iter().collect::<Vec<_>>());
            let newcomer = BatcherId::from_u128(newcomer);
            let after: Vec<_> = before.iter().copied().chain([newcomer]).collect();
            for partition in 0..64 {
                let (old, new) = (owner(partition, &before), owner(partition, &after));
                // Read forwards a join, backwards a death: only the newcomer's partitions change hands.
                prop_assert!(new == old || new == newcomer);
            }
        }

        #[test]
        fn ranks_are_a_permutation(ids in proptest::collection::btree_set(any::<u128>(), 1..8), partition in 0..64_u16) {
            let living = batchers(&ids.into_iter().collect::<Vec<_>>());
            let mut ranks: Vec<_> = living.iter().map(|batcher| rank(*batcher, partition, &living)).collect();
            ranks.sort_unstable();
            prop_assert_eq!(ranks, (0..living.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn partitions_are_spread_over_the_batchers() {
        let living = batchers(&[1, 2, 3, 4]);
        for batcher in &living {
            let owned = (0..256).filter(|partition| owner(*partition, &living) == *batcher).count();
            assert!((32..=96).contains(&owned), "{owned} of 256 over 4 batchers");
        }
    }

    /// This batcher and another, and a partition that is this one's by rank.
    fn owner_of_two(now: Instant) -> (Ownership, Ownership, Partition) {
        let living = batchers(&[1, 2]);
        let partition = (0..64).find(|p| owner(*p, &living) == living[0]).unwrap();
        let [mine, other] = [living[0], living[1]].map(|id| {
            let mut ownership = Ownership::new(id, TERMS);
            ownership.see_living(living.clone());
            ownership
        });
        assert!(mine.wants(partition, now) && !other.wants(partition, now));
        (mine, other, partition)
    }

    #[test]
    fn a_yielded_partition_goes_to_the_next_in_rank_and_comes_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut mine, mut other, partition) = owner_of_two(start);
        mine.yielded(partition, start);
        for second in [0, 3, 6] {
            mine.see_foreign(partition, true, at(second));
            other.see_foreign(partition, true, at(second));
        }
        assert!(!mine.wants(partition, at(6)), "the one that yielded waits longest");
        assert!(other.wants(partition, at(6)));
        mine.see_foreign(partition, false, at(8));
        assert!(!other.wants(partition, at(66)), "an adoption ends");
        assert!(mine.wants(partition, at(300)), "and so does the rest");
    }

    #[test]
    fn nobody_else_taking_it_the_yielder_takes_it_again() {
        let start = Instant::now();
        let (mut mine, _, partition) = owner_of_two(start);
        mine.yielded(partition, start);
        mine.see_foreign(partition, true, start);
        mine.see_foreign(partition, true, start + Duration::from_secs(12));
        assert!(mine.wants(partition, start + Duration::from_secs(12)));
    }

    #[test]
    fn a_partition_that_is_worked_on_is_never_adopted() {
        let start = Instant::now();
        let (_, mut other, partition) = owner_of_two(start);
        for second in 0..100 {
            // Free for an instant now and then, as between two owners.
            other.see_foreign(partition, second % 5 == 0, start + Duration::from_secs(second));
        }
        assert!(!other.wants(partition, start + Duration::from_secs(100)));
    }

    #[test]
    fn alone_it_wants_everything_whatever_it_yielded() {
        let now = Instant::now();
        let mut alone = Ownership::new(BatcherId::from_u128(7), TERMS);
        alone.see_living(vec![]);
        alone.yielded(3, now);
        assert!((0..16).all(|partition| alone.wants(partition, now)));
    }
}
