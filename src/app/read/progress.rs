//! How far a long read has come: for people who wait at a terminal.
//!
//! Constraint: how many heartbeats there are is known only once they are read. But they come in the order of time, so how far
//! a read has come is how much of the time it has gone through, from the first of them to the end that was asked for.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::query::output::time;

const TEMPLATE: &str = "{bar:32} {percent:>3}%  {msg}";
/// Steps of the bar.
const WHOLE: u64 = 1000;

/// A line on standard error, where that is a terminal and nothing else is shown there.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    way: Way,
    heartbeats: u64,
    since: Instant,
}

/// What a read goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The first heartbeat's time, once there is one, in milliseconds since the Unix epoch.
    first: Option<i64>,
    /// Where it ends: no heartbeat lies behind.
    to: i64,
    /// Heartbeats at most.
    limit: u64,
}

impl Way {
    pub(super) fn new(to: Option<i64>, limit: Option<u64>) -> Self {
        let now = Timestamp::now().as_millisecond();
        Self { first: None, to: to.map_or(now, |to| to.min(now)), limit: limit.unwrap_or(u64::MAX) }
    }

    /// How much of it lies behind, in thousandths.
    fn behind(&mut self, heartbeats: u64, first: i64, last: i64) -> u64 {
        let first = *self.first.get_or_insert(first);
        let share = |done: f64, all: f64| if all > 0.0 { (done / all).clamp(0.0, 1.0) } else { 1.0 };
        let of_time = share(last.saturating_sub(first) as f64, self.to.saturating_sub(first) as f64);
        let of_limit = share(heartbeats as f64, self.limit as f64);
        (of_time.max(of_limit) * WHOLE as f64) as u64
    }
}

impl Progress {
    /// Shows nothing unless `wanted`.
    pub(super) fn begin(wanted: bool, way: Way) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(WHOLE), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self { bar, way, heartbeats: 0, since: Instant::now() }
    }

    /// So many more, with the times of the first and the last of them.
    pub(super) fn reached(&mut self, more: usize, first: i64, last: i64) {
        self.heartbeats += more as u64;
        let behind = self.way.behind(self.heartbeats, first, last);
        if !self.bar.is_hidden() {
            self.bar.set_message(message(self.heartbeats, self.since.elapsed().as_secs_f64(), last));
            self.bar.set_position(behind);
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn message(heartbeats: u64, seconds: f64, last: i64) -> String {
    let rate = (heartbeats as f64 / seconds.max(0.001)).round() as u64;
    let reached: String = time(last).chars().take("2026-11-22T08:30".len()).collect();
    format!("{} heartbeats, {}/s, {}", HumanCount(heartbeats), HumanCount(rate), reached.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_can_be_drawn() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
        assert_eq!(message(1_577_000, 10.0, 0), "1,577,000 heartbeats, 157,700/s, 1970-01-01 00:00");
    }

    #[test]
    fn the_bar_goes_over_the_time_or_the_limit() {
        let mut way = Way::new(Some(3000), None);
        assert_eq!(way.behind(1, 1000, 1000), 0);
        assert_eq!(way.behind(2, 1500, 2000), 500);
        assert_eq!(way.behind(3, 2500, 3000), WHOLE);
        let mut way = Way::new(Some(3000), Some(10));
        assert_eq!(way.behind(9, 1000, 1001), 900);
        // The end lies at now, if it is not given; and a clock may be wrong.
        assert!(Way::new(None, None).behind(1, 0, 1) < WHOLE);
        assert_eq!(Way::new(None, None).behind(1, i64::MAX, i64::MAX), WHOLE);
    }
}
