//! What is wrong with which bucket, for health, metrics, the log, and for knowing when to try again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use super::summary::Trouble;
use crate::dataset::Bucket;

/// Buckets that a health detail names; the others are counted.
const NAMED: usize = 3;
const FIRST_RETRY_AFTER: Duration = Duration::from_secs(1);
const LAST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// A lock may be taken now and then; so many times in a row somebody holds it who does not work.
const LOCKED_TOO_OFTEN: u32 = 3;

/// The two jobs of a watching compactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    Publish,
    Consolidate,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publishing",
            Self::Consolidate => "consolidating",
        })
    }
}

/// Shared by the jobs.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    troubles: BTreeMap<(Job, Bucket), Noted>,
    quarantined: BTreeMap<Bucket, usize>,
    /// What is well with each job.
    words: BTreeMap<Job, String>,
    /// What keeps a job from looking at the buckets at all.
    blind: BTreeMap<Job, String>,
}

#[derive(Debug)]
struct Noted {
    trouble: Trouble,
    reason: String,
    attempts: u32,
    retry_at: Instant,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is one insertion or removal: a panic leaves no half of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the bucket's time to wait after a failure is over.
    pub fn may_try(&self, job: Job, bucket: Bucket, now: Instant) -> bool {
        self.lock().troubles.get(&(job, bucket)).is_none_or(|noted| noted.retry_at <= now)
    }

    /// Notes how a visit ended; says so in the log when that is news.
    pub fn note(&self, job: Job, bucket: Bucket, outcome: &Result<(), Error>, now: Instant) {
        let mut state = self.lock();
        let error = match outcome {
            Ok(()) => {
                if state.troubles.remove(&(job, bucket)).is_some() {
                    tracing::info!(%bucket, %job, "the bucket is well again");
                }
                return;
            }
            Err(Error::Stopped | Error::Busy) => return,
            Err(error) => error,
        };
        let (trouble, reason) = (Trouble::of(error), error.to_string());
        let before = state.troubles.get(&(job, bucket));
        let attempts = before.map_or(0, |noted| noted.attempts).saturating_add(1);
        if before.is_none_or(|noted| noted.reason != reason) && trouble != Trouble::Locked {
            tracing::error!(%bucket, %job, reason, "the bucket could not be finished; it is tried again");
        }
        let retry_at = now + retry_after(attempts);
        state.troubles.insert((job, bucket), Noted { trouble, reason, attempts, retry_at });
    }

    /// Forgets the troubles of buckets that have no more work: a person may have removed the cause.
    pub fn retain(&self, job: Job, still: impl Fn(Bucket) -> bool) {
        self.lock().troubles.retain(|(of, bucket), _| *of != job || still(*bucket));
    }

    pub fn set_quarantined(&self, bucket: Bucket, fragments: usize) {
        let mut state = self.lock();
        if fragments == 0 {
            state.quarantined.remove(&bucket);
        } else {
            state.quarantined.insert(bucket, fragments);
        }
    }

    /// Sets what a job says while all is well with it.
    pub fn set_words(&self, job: Job, words: String) {
        self.lock().words.insert(job, words);
    }

    /// Notes whether a job can look at the buckets; says so in the log when that is news.
    pub fn set_blind(&self, job: Job, reason: Option<String>) {
        let mut state = self.lock();
        match reason {
            None => {
                if state.blind.remove(&job).is_some() {
                    tracing::info!(%job, "the buckets can be looked at again");
                }
            }
            Some(reason) => {
                // The reason names a path, another one each time.
                if !state.blind.contains_key(&job) {
                    tracing::error!(%job, reason, "not a bucket is looked at; it is tried again");
                }
                state.blind.insert(job, reason);
            }
        }
    }

    pub fn held_back(&self) -> usize {
        let state = self.lock();
        let held_back = state.troubles.iter().filter(|(_, noted)| noted.trouble == Trouble::HeldBack);
        let buckets: std::collections::BTreeSet<_> = held_back.map(|((_, bucket), _)| bucket).collect();
        buckets.len()
    }

    pub fn quarantined(&self) -> usize {
        self.lock().quarantined.values().sum()
    }

    /// What a job reports to health.
    pub fn judge(&self, job: Job) -> Result<String, String> {
        let state = self.lock();
        let mut wrong: Vec<String> = state.blind.get(&job).into_iter().cloned().collect();
        let troubles = state.troubles.iter().filter(|((of, _), noted)| *of == job && noted.counts());
        wrong.extend(name_some(troubles.map(|((_, bucket), noted)| noted.tell(*bucket))));
        if job == Job::Publish {
            let quarantined = state.quarantined.iter();
            wrong.extend(name_some(quarantined.map(|(bucket, count)| {
                format!("{count} damaged fragments in quarantine of {bucket}; look there, then move or delete them")
            })));
        }
        if wrong.is_empty() { Ok(state.words.get(&job).cloned().unwrap_or_default()) } else { Err(wrong.join("; ")) }
    }
}

impl Noted {
    fn counts(&self) -> bool {
        self.trouble != Trouble::Locked || self.attempts >= LOCKED_TOO_OFTEN
    }

    fn tell(&self, bucket: Bucket) -> String {
        let what = match self.trouble {
            Trouble::HeldBack => "is held back",
            Trouble::Locked => "stays locked",
            Trouble::Failed | Trouble::Stopped => "failed and is tried again",
        };
        format!("{bucket} {what}: {}", self.reason)
    }
}

/// The first few, and how many more there are.
fn name_some(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = all.peekable();
    let mut named: Vec<String> = all.by_ref().take(NAMED).collect();
    if all.peek().is_some() {
        named.push(format!("{} more", all.count()));
    }
    named
}

/// Doubles from one second to a minute, less up to a quarter, so that buckets that failed together do not retry together.
fn retry_after(attempts: u32) -> Duration {
    let doubled = FIRST_RETRY_AFTER.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST_RETRY_AFTER);
    doubled.mul_f64(1.0 - rand::random::<f64>() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_back(file: u32) -> Result<(), Error> {
        Err(Error::HeldBack { reason: format!("file {file} is damaged") })
    }

    #[test]
    fn a_bucket_in_trouble_is_named_until_it_is_well_again() {
        let (board, now, bucket) = (Board::default(), Instant::now(), Bucket::of(0, 3));
        board.set_words(Job::Publish, "nothing waits".into());
        assert_eq!(board.judge(Job::Publish), Ok("nothing waits".into()));
        board.note(Job::Publish, bucket, &held_back(1), now);
        let detail = board.judge(Job::Publish).unwrap_err();
        assert!(detail.contains("partition=3 is held back: file 1 is damaged"), "{detail}");
        assert!(board.judge(Job::Consolidate).is_ok(), "the other job is well");
        assert_eq!(board.held_back(), 1);
        board.note(Job::Publish, bucket, &Ok(()), now);
        assert!(board.judge(Job::Publish).is_ok());
    }

    #[test]
    fn only_a_few_buckets_are_named() {
        let (board, now) = (Board::default(), Instant::now());
        for n in 0..10 {
            board.note(Job::Publish, Bucket::of(0, n), &held_back(n.into()), now);
        }
        let detail = board.judge(Job::Publish).unwrap_err();
        assert!(detail.ends_with("7 more") && !detail.contains("file 3"), "{detail}");
    }

    #[test]
    fn retries_wait_longer_each_time_up_to_a_minute() {
        let (board, bucket) = (Board::default(), Bucket::of(0, 0));
        let mut now = Instant::now();
        for attempt in 0..20 {
            assert!(board.may_try(Job::Publish, bucket, now));
            board.note(Job::Publish, bucket, &held_back(0), now);
            assert!(!board.may_try(Job::Publish, bucket, now));
            let least = FIRST_RETRY_AFTER.mul_f64(2_f64.powi(attempt)).min(LAST_RETRY_AFTER).mul_f64(0.75);
            assert!(!board.may_try(Job::Publish, bucket, now + least.mul_f64(0.99)));
            now += LAST_RETRY_AFTER;
        }
    }

    #[test]
    fn a_lock_counts_as_trouble_only_when_it_stays_taken() {
        let (board, now, bucket) = (Board::default(), Instant::now(), Bucket::of(0, 0));
        let locked = || {
            let (path, after) = (".lock".into(), Duration::from_secs(10));
            Err(Error::Dataset(crate::dataset::Error::LockTimeout { path, after }))
        };
        board.note(Job::Publish, bucket, &locked(), now);
        board.note(Job::Publish, bucket, &locked(), now);
        assert!(board.judge(Job::Publish).is_ok());
        board.note(Job::Publish, bucket, &locked(), now);
        assert!(board.judge(Job::Publish).unwrap_err().contains("stays locked"));
    }
}
