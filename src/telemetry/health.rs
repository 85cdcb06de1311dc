//! Liveness as a deadline: each part must report well in time, and is unwell until its first report.
//!
//! A part that stops reporting (hung, dead, never started) turns unwell by itself; nobody has to notice its death.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a part's being unwell means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affects {
    /// `/health` only: something needs attention, but new heartbeats can be accepted.
    Health,
    /// `/health` and `/health/ready`: new heartbeats cannot be accepted.
    Readiness,
    /// Neither: a state worth naming, such as a durability that was chosen.
    Nothing,
}

/// The board that parts report to. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Health {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    parts: BTreeMap<String, Part>,
    /// Parts ever added: tells a part from an earlier one of its name.
    added: u64,
}

#[derive(Debug)]
struct Part {
    number: u64,
    affects: Affects,
    deadline: Duration,
    last: Option<Report>,
}

#[derive(Debug)]
struct Report {
    at: Instant,
    outcome: Result<String, String>,
}

/// The state of one part at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHealth {
    /// The part, as `/health` names it.
    pub name: String,
    /// What its being unwell means.
    pub affects: Affects,
    /// Whether it is well.
    pub ok: bool,
    /// A sentence for people; may be empty when all is well.
    pub detail: String,
}

impl Health {
    /// A board without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part that must report at least every `deadline`; it stays on the board until its [`Reporter`] is dropped.
    /// One of the same name gives way: what is left of a part that failed must not speak for its successor.
    pub fn part(&self, name: impl Into<String>, affects: Affects, deadline: Duration) -> Reporter {
        let name = name.into();
        let mut board = self.lock();
        board.added += 1;
        let number = board.added;
        board.parts.insert(name.clone(), Part { number, affects, deadline, last: None });
        drop(board);
        Reporter { health: self.clone(), name, number }
    }

    /// Every part, in the order of their names.
    pub fn snapshot(&self) -> Vec<PartHealth> {
        let now = Instant::now();
        self.lock().parts.iter().map(|(name, part)| part.judge(name, now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Nothing below can panic halfway through a change, so a poisoned board still holds whole entries.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn judge(&self, name: &str, now: Instant) -> PartHealth {
        let (ok, detail) = match &self.last {
            None => (false, "has not reported yet".to_owned()),
            Some(report) => {
                let silent_for = now.saturating_duration_since(report.at);
                match &report.outcome {
                    _ if silent_for > self.deadline => {
                        (false, format!("has not reported for {} s", silent_for.as_secs()))
                    }
                    Ok(detail) => (true, detail.clone()),
                    Err(detail) => (false, detail.clone()),
                }
            }
        };
        PartHealth { name: name.to_owned(), affects: self.affects, ok, detail }
    }
}

/// A part's way to report. Dropping it takes the part off the board.
#[derive(Debug)]
pub struct Reporter {
    health: Health,
    name: String,
    number: u64,
}

impl Reporter {
    /// All is well; `detail` may say more.
    pub fn well(&self, detail: impl Into<String>) {
        self.report(Ok(detail.into()));
    }

    /// Something is wrong: `detail` says what, and what a person can do.
    pub fn unwell(&self, detail: impl Into<String>) {
        self.report(Err(detail.into()));
    }

    fn report(&self, outcome: Result<String, String>) {
        if let Some(part) = self.health.lock().parts.get_mut(&self.name).filter(|part| part.number == self.number) {
            part.last = Some(Report { at: Instant::now(), outcome });
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut board = self.health.lock();
        if board.parts.get(&self.name).is_some_and(|part| part.number == self.number) {
            board.parts.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_part_does_not_speak_for_its_successor() {
        let health = Health::new();
        let old = health.part("writer", Affects::Health, Duration::from_secs(3600));
        let new = health.part("writer", Affects::Health, Duration::from_secs(3600));
        new.unwell("starting");
        old.well("fine");
        drop(old);
        assert_eq!(health.snapshot()[0].detail, "starting");
    }

    #[test]
    fn a_part_is_unwell_until_it_reports_and_after_its_deadline() {
        let health = Health::new();
        let reporter = health.part("writer", Affects::Health, Duration::from_secs(3600));
        assert!(!health.snapshot()[0].ok);
        reporter.well("fine");
        assert!(health.snapshot()[0].ok);
        reporter.unwell("disk full");
        assert_eq!(health.snapshot()[0].detail, "disk full");
        drop(reporter);
        assert!(health.snapshot().is_empty());

        let hung = health.part("hung", Affects::Health, Duration::ZERO);
        hung.well("");
        // A deadline of zero has passed at any later instant.
        while Instant::now().elapsed().is_zero() {}
        assert!(!health.snapshot()[0].ok);
    }
}
