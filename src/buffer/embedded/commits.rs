//! Group commit: steps of different partitions that end at about the same time share one batch and one fsync.
//!
//! Constraint: a step holds its partitions while it waits here, so no two writes of a group touch the same entry, and
//! nothing that a step has read changes before its writes are on disk. No step waits for a timer: whoever gets the turn
//! takes along what has gathered while the last group was being written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::super::{Error, Result};
use super::engine::Write;

/// What waits to be written, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct GroupCommit {
    waiting: Mutex<Vec<Arc<Submission>>>,
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Submission {
    writes: Mutex<Vec<Write>>,
    outcome: OnceLock<Result<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one assignment, so a poisoned lock still holds whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GroupCommit {
    /// Has these written by `commit`, maybe together with those of others, and answers how that ended.
    ///
    /// `commit` writes all that it is given or nothing. Its panic is an error whose outcome is unknown.
    pub(super) fn submit(&self, writes: Vec<Write>, commit: impl FnOnce(Vec<Write>) -> Result<()>) -> Result<()> {
        let submission = Arc::new(Submission { writes: Mutex::new(writes), outcome: OnceLock::new() });
        lock(&self.waiting).push(submission.clone());
        let _turn = lock(&self.turn);
        if let Some(outcome) = submission.outcome.get() {
            return outcome.clone();
        }
        let group = std::mem::take(&mut *lock(&self.waiting));
        let writes = group.iter().flat_map(|member| std::mem::take(&mut *lock(&member.writes))).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| commit(writes)))
            .unwrap_or_else(|_| Err(Error::Unreachable { reason: "the embedded store panicked".into() }));
        for member in group {
            let _ = member.outcome.set(outcome.clone());
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn write(nth: usize) -> Vec<Write> {
        vec![Write::Remove(vec![nth as u8])]
    }

    #[test]
    fn what_gathers_during_a_commit_shares_the_next_one() {
        let commits = GroupCommit::default();
        let (groups, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let commit = |writes: Vec<Write>| {
            let first = groups.fetch_add(1, Ordering::Relaxed) == 0;
            written.fetch_add(writes.len(), Ordering::Relaxed);
            // The first one waits until all others stand in line.
            while first && lock(&commits.waiting).len() < 9 {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| commits.submit(write(0), commit));
            while groups.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            for nth in 1..10 {
                let (commits, commit) = (&commits, &commit);
                scope.spawn(move || commits.submit(write(nth), commit).unwrap());
            }
        });
        assert_eq!((groups.into_inner(), written.into_inner()), (2, 10));
    }

    #[test]
    fn a_failed_or_panicking_commit_fails_its_group_only() {
        let commits = GroupCommit::default();
        let full = || Error::Refused { reason: "full".into() };
        assert!(matches!(commits.submit(write(1), |_| Err(full())), Err(Error::Refused { .. })));
        assert!(matches!(commits.submit(write(2), |_| panic!("on purpose")), Err(Error::Unreachable { .. })));
        commits.submit(write(3), |writes| if writes.len() == 1 { Ok(()) } else { Err(full()) }).unwrap();
    }
}
