//! What the buffer refuses at present: pushes that were answered 503, whatever the board says. What is wrong with records, and
//! limits that a client ran into, are no fault of the collector and do not count.
//!
//! Constraint: made of the counters of `/metrics`, marked once a step of the history and whenever somebody looks; bounded: a
//! mark a second for the last eleven, of eight reasons.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::report::{Refused, UnwellPart};

/// What stands before the reasons of the buffer among all those that are told.
pub(super) const OF_BUFFER: &str = "buffer_";
/// What is told happened within the last so long, as the rates beside it; or a step of the history more, where nobody looked.
const WINDOW: Duration = Duration::from_secs(10);
/// Between two marks.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// A rate over less says nothing.
const LEAST_WINDOW: Duration = Duration::from_secs(1);

/// The buffer as a whole: where the board tells of it, it tells why.
const BUFFER: &str = "buffer";
/// A reason of some users alone, of which no part of the board tells as long as there is any room.
const REFUSED: &str = "refused";

/// Why the buffer refuses, as its metric names it; the part that this is of; for people; and what to do.
const REASONS: [(&str, &str, &str, &str); 8] = [
    (
        "foreign_dataset",
        BUFFER,
        "it belongs to another dataset",
        "Give this process the buffer of its own dataset: most likely its address is wrong, or Redis was exchanged.",
    ),
    (
        "full",
        REFUSED,
        "the partitions of their users have no room",
        "See below which partitions are full, and whether their batchers are alive and have room on their disk; if all is well with \
         them, raise `--buffer-max-heartbeats` and `--buffer-max-bytes`.",
    ),
    (
        "not_registered",
        BUFFER,
        "it belongs to no dataset",
        "Start the first `systole batch`; if there was one, the buffer was erased, so see `systole adopt --help`.",
    ),
    (
        "other",
        BUFFER,
        "it cannot be used",
        "Look at the log of this process, which says why; clients send again what is refused meanwhile.",
    ),
    (
        "refused",
        BUFFER,
        "it refuses to write",
        "See that the buffer's disk and memory have room, and what it said in the log of this process; clients send again what is \
         refused meanwhile.",
    ),
    (
        "timed_out",
        BUFFER,
        "it does not answer in time",
        "See what slows the buffer down: its disk, its processor, or the network between.",
    ),
    (
        "too_few_replicas",
        BUFFER,
        "too few replicas confirm them",
        "Bring the missing replicas of Redis back, or ask for fewer by `--wait-replicas`; clients send again what is refused meanwhile.",
    ),
    (
        "unreachable",
        BUFFER,
        "it is out of reach",
        "See that the buffer runs and can be reached from here; clients send again what is refused meanwhile.",
    ),
];
/// In [`REASONS`]: for one that nobody thought of.
const OTHER: usize = 3;

/// What the counters said at one instant.
#[derive(Debug)]
struct Mark {
    at: Instant,
    refused: Vec<Refused>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The oldest first.
    marks: VecDeque<Mark>,
}

impl Refusals {
    /// Remembers what was refused by now.
    pub(super) fn mark(&mut self, at: Instant, refused: &[Refused]) {
        if self.marks.back().is_some_and(|last| at.saturating_duration_since(last.at) < MARK_EVERY) {
            return;
        }
        let refused = refused.iter().filter(|refused| refused.reason.starts_with(OF_BUFFER)).cloned().collect();
        self.marks.push_back(Mark { at, refused });
        // One of them stays behind the window, so that all of it is covered.
        while self.marks.get(1).is_some_and(|second| at.saturating_duration_since(second.at) >= WINDOW) {
            self.marks.pop_front();
        }
    }

    /// What is wrong by what was refused by now, which is remembered as well.
    pub(super) fn look(&mut self, now: Instant, refused: &[Refused]) -> Vec<UnwellPart> {
        let problems = self.problems(now, refused);
        // Nobody has counted before the first step of the history: what was refused then is of no known time.
        if !self.marks.is_empty() {
            self.mark(now, refused);
        }
        problems
    }

    /// A problem for each reason for which heartbeats were refused of late.
    fn problems(&self, now: Instant, refused: &[Refused]) -> Vec<UnwellPart> {
        let Some(mark) = self.marks.front() else { return Vec::new() };
        let seconds = now.saturating_duration_since(mark.at).max(LEAST_WINDOW).as_secs_f64();
        let of_buffer = refused.iter().filter_map(|one| Some((one, one.reason.strip_prefix(OF_BUFFER)?)));
        let lately = of_buffer.filter_map(|(one, reason)| {
            let before = mark.refused.iter().find(|marked| marked.reason == one.reason);
            let count = one.heartbeats.saturating_sub(before.map_or(0, |marked| marked.heartbeats));
            (count > 0).then(|| problem(reason, count as f64 / seconds))
        });
        lately.collect()
    }
}

fn problem(reason: &str, a_second: f64) -> UnwellPart {
    let (_, part, why, advice) = REASONS.iter().find(|(name, ..)| *name == reason).unwrap_or(&REASONS[OTHER]);
    let rate = match a_second {
        ..0.1 => "fewer than 0.1".to_owned(),
        ..10.0 => format!("{a_second:.1}"),
        _ => format!("{a_second:.0}"),
    };
    UnwellPart { part: (*part).to_owned(), detail: format!("{rate} heartbeats a second are refused: {why}"), advice }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::buffer::committer;

    fn refused(counts: &[(&str, u64)]) -> Vec<Refused> {
        counts
            .iter()
            .map(|(reason, heartbeats)| Refused { reason: (*reason).into(), heartbeats: *heartbeats })
            .collect()
    }

    fn details(problems: &[UnwellPart]) -> Vec<&str> {
        problems.iter().map(|problem| problem.detail.as_str()).collect()
    }

    #[test]
    fn what_the_buffer_refuses_is_told_until_it_no_longer_does() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(refusals.problems(start, &refused(&[("buffer_full", 5)])).is_empty(), "nobody knows since when");
        let before = refused(&[("rate_limited", 10), ("buffer_full", 100)]);
        refusals.mark(start, &before);
        assert!(refusals.problems(at(5), &before).is_empty());
        // Of clients' own making.
        assert!(refusals.problems(at(5), &refused(&[("rate_limited", 900), ("buffer_full", 100)])).is_empty());
        let after = refused(&[("buffer_full", 340), ("buffer_too_few_replicas", 3)]);
        let told = refusals.problems(at(20), &after);
        assert_eq!(
            details(&told),
            [
                "12 heartbeats a second are refused: the partitions of their users have no room",
                "0.1 heartbeats a second are refused: too few replicas confirm them",
            ]
        );
        assert_eq!([told[0].part.as_str(), told[1].part.as_str()], ["refused", "buffer"]);
        assert!(told[0].advice.contains("which partitions are full"));
        for step in 1..=5 {
            refusals.mark(at(20 + step * 10), &after);
            assert!(refusals.marks.len() <= 3);
        }
        assert!(refusals.problems(at(75), &after).is_empty());
        for tenth in 0..600 {
            refusals.mark(at(100) + Duration::from_millis(tenth * 100), &after);
            assert!(refusals.marks.len() <= 12);
        }
    }

    #[test]
    fn every_reason_of_the_metric_has_words_and_advice() {
        let registry = Registry::new();
        let _metrics = committer::Metrics::register(&registry).unwrap();
        let families = registry.gather();
        let family = families.iter().find(|family| family.name().ends_with("push_refused_heartbeats_total")).unwrap();
        let mut reasons: Vec<&str> = family.get_metric().iter().map(|metric| metric.get_label()[0].value()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, REASONS.map(|(reason, ..)| reason));
        assert_eq!(REASONS[OTHER].0, "other");
        for (reason, _, why, advice) in REASONS {
            assert!(advice.ends_with('.') && advice.matches(". ").count() == 0 && !why.ends_with('.'), "{reason}");
        }
    }
}
