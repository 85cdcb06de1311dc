//! How fast heartbeats flow: over the last ten seconds, and step by step over the last hour.
//!
//! Constraint: made of what others have looked at (the monitor's snapshots, counters), and bounded: 360 steps of 64 bytes,
//! and a mark a second for the last eleven.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::report::History;
use crate::buffer::Ledger;
use crate::buffer::monitor::Snapshot;

/// A step of the history.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// Steps that are kept: an hour.
const STEPS: usize = 360;
/// What a rate is taken over.
const WINDOW: Duration = Duration::from_secs(10);
/// Between two marks of the window.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// A rate over less says nothing.
const LEAST_WINDOW: Duration = Duration::from_millis(200);
/// A look that is older says nothing of now.
const STALE: Duration = Duration::from_secs(15);

/// What the books had counted at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    at: Instant,
    accepted: u64,
    acked: u64,
    waiting: u64,
}

impl Mark {
    fn of(snapshot: &Snapshot) -> Self {
        let sum = snapshot.partitions.iter().fold(Ledger::default(), |sum, status| sum + status.ledger);
        Self { at: snapshot.at, accepted: sum.accepted, acked: sum.acked, waiting: sum.pending + sum.claimed }
    }

    /// Heartbeats a second in and out since `earlier`.
    fn since(&self, earlier: &Self) -> Option<(f64, f64)> {
        let took = self.at.saturating_duration_since(earlier.at);
        // A buffer that came back older has taken nothing in meanwhile, as far as anybody knows.
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / took.as_secs_f64();
        (took >= LEAST_WINDOW).then(|| (rate(self.accepted, earlier.accepted), rate(self.acked, earlier.acked)))
    }
}

/// One step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Step {
    rate_in: Option<f64>,
    rate_out: Option<f64>,
    refused: Option<f64>,
    waiting: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The oldest first, a second apart.
    marks: VecDeque<Mark>,
    latest: Option<Mark>,
    /// The books at the end of the last step.
    at_step: Option<Mark>,
    /// When it ended, and what had been refused by then.
    refused_at_step: Option<(Instant, u64)>,
    steps: VecDeque<Step>,
    /// The number of the last step, counted from the Unix epoch.
    last: Option<i64>,
}

impl Flow {
    /// Takes in what the monitor has seen.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        let mark = Mark::of(snapshot);
        self.latest = Some(mark);
        // What is seen first is where the first step begins.
        self.at_step.get_or_insert(mark);
        if self.marks.back().is_none_or(|last| mark.at.saturating_duration_since(last.at) >= MARK_EVERY) {
            self.marks.push_back(mark);
        }
        // One of them stays behind the window, so that a rate is taken over all of it.
        while self.marks.get(1).is_some_and(|second| mark.at.saturating_duration_since(second.at) >= WINDOW) {
            self.marks.pop_front();
        }
    }

    /// Heartbeats a second in and out over the last ten seconds; `None` when nobody has looked lately.
    pub(super) fn rates(&self, now: Instant) -> Option<(f64, f64)> {
        let latest = self.latest.filter(|latest| now.saturating_duration_since(latest.at) < STALE)?;
        latest.since(self.marks.front()?)
    }

    /// Ends a step: `now_ms` since the Unix epoch, with so many heartbeats refused since the process started.
    pub(super) fn step(&mut self, now: Instant, now_ms: i64, refused: u64) {
        let number = number_of(now_ms);
        let missed = self.last.map_or(0, |last| number.saturating_sub(last).saturating_sub(1));
        // A clock that was set back goes on behind the last step; one that was set ahead leaves a gap.
        for _ in 0..usize::try_from(missed).unwrap_or(0).min(STEPS) {
            self.keep(Step::default());
        }
        let fresh = self.latest.filter(|latest| now.saturating_duration_since(latest.at) < STALE);
        let rates = fresh.and_then(|latest| latest.since(self.at_step.as_ref()?));
        let refused_rate = self.refused_at_step.map(|(then, before)| {
            let took = now.saturating_duration_since(then).max(LEAST_WINDOW);
            refused.saturating_sub(before) as f64 / took.as_secs_f64()
        });
        self.keep(Step {
            rate_in: rates.map(|(rate_in, _)| rate_in),
            rate_out: rates.map(|(_, rate_out)| rate_out),
            refused: refused_rate,
            waiting: fresh.map(|latest| latest.waiting),
        });
        self.at_step = fresh.or(self.at_step);
        self.refused_at_step = Some((now, refused));
        self.last = Some(number);
    }

    /// Begins to count: what comes next is the first step.
    pub(super) fn begin(&mut self, now: Instant, refused: u64) {
        self.refused_at_step.get_or_insert((now, refused));
    }

    fn keep(&mut self, step: Step) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    /// All of it.
    pub(super) fn history(&self, now_ms: i64) -> History {
        let column = |of: fn(&Step) -> Option<f64>| self.steps.iter().map(of).collect();
        let until = self.last.unwrap_or_else(|| number_of(now_ms));
        History {
            step_s: STEP.as_secs(),
            until: until.saturating_mul(step_ms()),
            r#in: column(|step| step.rate_in),
            out: column(|step| step.rate_out),
            refused: column(|step| step.refused),
            waiting: self.steps.iter().map(|step| step.waiting).collect(),
        }
    }
}

const fn step_ms() -> i64 {
    STEP.as_millis() as i64
}

/// The step that is nearest to having ended.
fn number_of(now_ms: i64) -> i64 {
    now_ms.saturating_add(step_ms() / 2).div_euclid(step_ms())
}

/// How long until the next step ends.
pub(super) fn until_next(now_ms: i64) -> Duration {
    Duration::from_millis(step_ms().saturating_sub(now_ms.rem_euclid(step_ms())).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::snapshot;
    use super::*;

    #[test]
    fn rates_are_taken_over_the_last_ten_seconds() {
        let (mut flow, start) = (Flow::default(), Instant::now());
        assert_eq!(flow.rates(start), None);
        // 100 a second for half a minute, then nothing.
        for tenth in 0..600_u64 {
            let at = start + Duration::from_millis(tenth * 100);
            let accepted = 10 * tenth.min(300);
            flow.look(&snapshot(at, &[Ledger { accepted, acked: accepted / 2, ..Ledger::default() }]));
            assert!(flow.marks.len() <= 12);
            if tenth == 250 {
                assert_eq!(flow.rates(at), Some((100.0, 50.0)));
            }
        }
        let end = start + Duration::from_secs(60);
        assert_eq!(flow.rates(end), Some((0.0, 0.0)));
        assert_eq!(flow.rates(end + STALE), None, "nobody has looked since");
    }

    #[test]
    fn an_hour_is_kept_with_gaps_where_nobody_counted() {
        let (mut flow, start) = (Flow::default(), Instant::now());
        let ledger = |accepted| [Ledger { accepted, pending: accepted, ..Ledger::default() }];
        flow.look(&snapshot(start, &ledger(0)));
        flow.begin(start, 7);
        for n in 1..=3_u64 {
            let at = start + STEP * n as u32;
            flow.look(&snapshot(at, &ledger(n * 50)));
            // A little late each time.
            flow.step(at, 1_000_000 + n as i64 * 10_000 + 40, 7 + n * 10);
        }
        let history = flow.history(0);
        assert_eq!(history.r#in, [Some(5.0); 3]);
        assert_eq!(history.out, [Some(0.0); 3]);
        assert_eq!(history.refused, [Some(1.0); 3]);
        assert_eq!(history.waiting, [Some(50), Some(100), Some(150)]);
        assert_eq!((history.step_s, history.until), (10, 1_030_000));
        // The machine slept for five steps; nobody has looked at the buffer since.
        flow.step(start + STEP * 9, 1_090_000, 37);
        let history = flow.history(0);
        assert_eq!(history.waiting[3..], [None; 6]);
        assert_eq!(history.refused[3..], [None, None, None, None, None, Some(0.0)]);
        for n in 10..1_000 {
            flow.step(start + STEP * n, 1_000_000 + i64::from(n) * 10_000, 37);
        }
        let history = flow.history(0);
        assert_eq!((history.r#in.len(), history.waiting.len(), history.until), (360, 360, 10_990_000));
        // A clock that is set ahead by a year forgets the hour, and ends.
        flow.step(start, i64::MAX, 37);
        assert_eq!(flow.history(0).refused.len(), 360);
    }

    #[test]
    fn a_step_ends_when_the_clock_says_so() {
        assert_eq!(until_next(1_000_000), STEP);
        assert_eq!(until_next(1_009_999), Duration::from_millis(1));
    }
}
