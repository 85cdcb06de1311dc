//! What the batcher says of itself on `/health`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::heartbeat::Partition;
use crate::telemetry::health::{Affects, Health, Reporter};

/// Problems named in one report; the rest are counted.
const NAMED: usize = 5;

/// The partitions that something keeps from being drained: what, and since when.
#[derive(Debug)]
pub(super) struct Problems {
    reporter: Reporter,
    standing: Mutex<BTreeMap<Partition, Problem>>,
}

#[derive(Debug)]
struct Problem {
    what: String,
    since: Instant,
}

impl Problems {
    /// Joins the board as part `partitions`; [`Problems::report`] must be called at least every `deadline`.
    pub(super) fn new(health: &Health, deadline: Duration) -> Self {
        let reporter = health.part("partitions", Affects::Health, deadline);
        Self { reporter, standing: Mutex::default() }
    }

    /// Names what is wrong with a partition; answers whether it is news.
    pub(super) fn raise(&self, partition: Partition, what: String) -> bool {
        let news = {
            let mut standing = self.lock();
            match standing.get_mut(&partition) {
                Some(problem) => std::mem::replace(&mut problem.what, what) != problem.what,
                None => standing.insert(partition, Problem { what, since: Instant::now() }).is_none(),
            }
        };
        self.report();
        news
    }

    /// Names what is wrong with a partition unless something better is known.
    pub(super) fn raise_if_none(&self, partition: Partition, what: &str) {
        if !self.lock().contains_key(&partition) {
            self.raise(partition, what.to_owned());
        }
    }

    /// All is well with a partition; answers how long it was not.
    pub(super) fn clear(&self, partition: Partition) -> Option<Duration> {
        let cleared = self.lock().remove(&partition)?;
        self.report();
        Some(cleared.since.elapsed())
    }

    /// Tells the board.
    pub(super) fn report(&self) {
        let standing = self.lock();
        if standing.is_empty() {
            self.reporter.well("");
            return;
        }
        let mut text = String::new();
        for (partition, problem) in standing.iter().take(NAMED) {
            // Writing to a string cannot fail.
            let _ =
                write!(text, "partition {partition}, for {} s: {}; ", problem.since.elapsed().as_secs(), problem.what);
        }
        match standing.len().saturating_sub(NAMED) {
            0 => text.truncate(text.trim_end_matches("; ").len()),
            more => text.push_str(&format!("and {more} more partitions")),
        }
        self.reporter.unwell(text);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Partition, Problem>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_named_until_it_is_cleared_and_the_list_is_bounded() {
        let health = Health::new();
        let problems = Problems::new(&health, Duration::from_secs(60));
        problems.report();
        assert!(health.snapshot()[0].ok);
        assert!(problems.raise(3, "disk full".into()));
        assert!(!problems.raise(3, "disk full".into()), "the same again is no news");
        problems.raise_if_none(3, "hangs");
        assert_eq!(health.snapshot()[0].detail, "partition 3, for 0 s: disk full");
        for partition in 10..20 {
            problems.raise(partition, "disk full".into());
        }
        assert!(health.snapshot()[0].detail.ends_with("and 6 more partitions"));
        for partition in 0..20 {
            problems.clear(partition);
        }
        assert!(health.snapshot()[0].ok);
        assert!(problems.clear(3).is_none());
    }
}
