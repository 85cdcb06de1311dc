//! Whether Redis has gone back: forgotten what it had accepted, and come up older than it was.
//!
//! A file of Redis that was cut short, one restored from a backup, a failover to a replica that lagged: each gives back a
//! Redis of the right dataset, sound in itself, that knows nothing of its loss. What tells is the ledger: what a
//! partition has accepted only ever grows.
//!
//! Constraints:
//! - An answer is held against what was known when its question was sent. Answers may overtake each other; but what was
//!   seen before a question was sent had happened before it was answered.
//! - Where replicas must confirm a push, only what they confirmed must not be forgotten: what a master alone had was never
//!   acknowledged.
//! - Only a server that takes writes is believed to have gone back: a replica that lags is merely late.
//! - A buffer that lost its registration is another alarm (`buffer/identity.rs`). What a person adopts begins anew here.
//! - This process's memory: what was accepted through others since the last look, or before its start, it has not seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Error, Witness};
use crate::heartbeat::Partition;

/// The highest ledger that was seen of each partition.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: Mutex<BTreeMap<Partition, Mark>>,
}

#[derive(Debug, Default)]
struct Mark {
    accepted: u64,
    gone_back: u64,
    /// Raised whenever `accepted` falls: what was asked before is not held against what was learnt after.
    age: u64,
    erased: bool,
    fall: Option<Fall>,
}

/// The last time that a partition went back, as far as it is known.
#[derive(Debug)]
struct Fall {
    /// The age that it ended.
    ended: u64,
    /// The lowest that was seen since. Of the answers that met the fall, the first to arrive need not be the first to be
    /// given: what was accepted between the two hides as much of what was forgotten.
    lowest: u64,
}

/// What was known of a partition when a question was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) accepted: u64,
    age: u64,
}

impl Marks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Mark>> {
        // Nothing below can panic halfway through a change, so a poisoned lock still holds whole marks.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked for before a question is sent.
    pub(super) fn known(&self, partition: Partition) -> Known {
        let marks = self.lock();
        let mark = marks.get(&partition);
        Known { accepted: mark.map_or(0, |mark| mark.accepted), age: mark.map_or(0, |mark| mark.age) }
    }

    /// Learns from an answer what the partition had accepted when the question came, and what it must not forget from now
    /// on, if that is known. Answers whether it has gone back.
    pub(super) fn see(&self, partition: Partition, asked: Known, before: u64, sure: Option<u64>) -> bool {
        let mut marks = self.lock();
        let mark = marks.entry(partition).or_default();
        if mark.age != asked.age {
            mark.correct(asked, before);
            return false;
        }
        if std::mem::take(&mut mark.erased) {
            mark.accepted = sure.unwrap_or(0);
            mark.age += 1;
            return false;
        }
        if before >= asked.accepted {
            mark.accepted = mark.accepted.max(sure.unwrap_or(0));
            return false;
        }
        let by = mark.accepted.saturating_sub(before);
        mark.gone_back += by;
        mark.accepted = sure.unwrap_or(0);
        mark.fall = Some(Fall { ended: mark.age, lowest: before });
        mark.age += 1;
        tracing::error!(
            partition,
            by,
            "the buffer has gone back: it forgot {by} heartbeats that it had accepted in partition {partition}; those that stand \
             in no file are lost"
        );
        true
    }

    /// Learns from the outcome of a step. A registration that is gone was told as such, and takes the marks with it.
    pub(super) fn watch(&self, error: Option<&Error>) {
        if matches!(error, Some(Error::NotRegistered | Error::ForeignDataset { .. })) {
            for mark in self.lock().values_mut().filter(|mark| !mark.erased) {
                mark.erased = true;
                mark.age += 1;
            }
        }
    }

    pub(super) fn witness(&self, partition: Partition) -> Witness {
        let marks = self.lock();
        marks
            .get(&partition)
            .map_or_else(Witness::default, |mark| Witness { accepted: mark.accepted, gone_back: mark.gone_back })
    }
}

impl Mark {
    /// Learns from an answer that was overtaken by the one that told of a fall. It is from after the fall, too, if it knows of
    /// less than was known when it was asked for.
    fn correct(&mut self, asked: Known, before: u64) {
        let Some(fall) = self.fall.as_mut().filter(|fall| fall.ended == asked.age && before < asked.accepted) else {
            return;
        };
        self.gone_back += fall.lowest.saturating_sub(before);
        fall.lowest = fall.lowest.min(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(marks: &Marks) -> (u64, u64) {
        let witness = marks.witness(1);
        (witness.accepted, witness.gone_back)
    }

    #[test]
    fn a_ledger_that_falls_has_gone_back_by_the_difference_and_once() {
        let marks = Marks::default();
        assert!(!marks.see(1, marks.known(1), 0, Some(100)));
        assert!(!marks.see(1, marks.known(1), 100, Some(110)));
        let asked_by_another = marks.known(1);
        assert!(marks.see(1, marks.known(1), 70, Some(75)));
        assert!(!marks.see(1, asked_by_another, 70, Some(70)), "told already");
        assert_eq!(seen(&marks), (75, 40));
        assert!(marks.see(1, marks.known(1), 74, Some(74)));
        assert_eq!(seen(&marks), (74, 41));
        assert_eq!(marks.witness(2), Witness::default());
    }

    #[test]
    fn the_fall_is_told_whole_whichever_answer_arrives_first() {
        let marks = Marks::default();
        assert!(!marks.see(1, marks.known(1), 0, Some(100)));
        let late = marks.known(1);
        let (first, second, third) = (marks.known(1), marks.known(1), marks.known(1));
        assert!(!marks.see(1, marks.known(1), 100, Some(110)));
        // Redis fell to 70, and took 7 and 3 by the time it gave the answer that arrives first.
        assert!(marks.see(1, third, 80, Some(85)));
        assert_eq!(seen(&marks), (85, 30));
        assert!(!marks.see(1, second, 77, Some(80)));
        assert_eq!(seen(&marks), (85, 33));
        assert!(!marks.see(1, first, 70, Some(77)));
        assert_eq!(seen(&marks), (85, 40));
        assert!(!marks.see(1, late, 105, Some(109)), "from before the fall");
        assert_eq!(seen(&marks), (85, 40));
    }

    #[test]
    fn an_answer_that_was_overtaken_is_no_going_back() {
        let marks = Marks::default();
        let look = marks.known(1);
        assert!(!marks.see(1, marks.known(1), 0, Some(100)));
        assert!(!marks.see(1, look, 50, Some(50)), "it was answered before the last push");
        assert_eq!(seen(&marks), (100, 0));
        // One from before the fall, that comes after it was seen, would raise the mark beyond what there is.
        let late = marks.known(1);
        assert!(marks.see(1, marks.known(1), 80, Some(80)));
        assert!(!marks.see(1, late, 120, Some(120)));
        assert_eq!(seen(&marks), (80, 20));
    }

    #[test]
    fn what_was_erased_and_adopted_begins_anew() {
        let marks = Marks::default();
        marks.see(1, marks.known(1), 0, Some(100));
        let late = marks.known(1);
        marks.watch(None);
        marks.watch(Some(&Error::NotStanding));
        marks.watch(Some(&Error::NotRegistered));
        assert_eq!(seen(&marks), (100, 0), "still known, to say how much is gone");
        assert!(!marks.see(1, late, 100, Some(100)), "an answer of before it was erased");
        assert!(!marks.see(1, marks.known(1), 0, Some(5)));
        assert_eq!(seen(&marks), (5, 0));
        assert!(marks.see(1, marks.known(1), 0, Some(0)));
    }

    #[test]
    fn what_no_replica_confirmed_may_be_forgotten() {
        let marks = Marks::default();
        assert!(!marks.see(1, marks.known(1), 0, Some(100)));
        assert!(!marks.see(1, marks.known(1), 130, None));
        assert!(!marks.see(1, marks.known(1), 100, None), "a failover to what had been confirmed");
        assert!(marks.see(1, marks.known(1), 90, None));
        assert_eq!(seen(&marks), (0, 10));
    }
}
