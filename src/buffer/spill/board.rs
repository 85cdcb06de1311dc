//! What the outside sees of the spill: two parts of the health board.
//!
//! "spill" affects `/health`: unwell while anything waits in the spill, or Redis cannot be used. "intake" affects readiness
//! in place of the buffer itself: well while heartbeats go anywhere.

use std::time::Duration;

use super::super::{Error, Ledger, Result};
use super::course::Course;
use crate::telemetry::health::{Affects, Health, Reporter};

/// A sentence for people, under a part that is well or unwell.
type Report = Result<String, String>;

/// The parts.
#[derive(Debug)]
pub(super) struct Board {
    spill: Reporter,
    intake: Reporter,
}

/// What there is to tell.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) course: Course,
    pub(super) books: Result<Ledger>,
    /// Whether the spill takes anything, where that matters.
    pub(super) takes: Result<(), String>,
    /// What keeps it from going in.
    pub(super) held_back: Option<Error>,
}

impl Board {
    /// Each part must report within `deadline`.
    pub(super) fn new(health: &Health, deadline: Duration) -> Self {
        Self {
            spill: health.part("spill", Affects::Health, deadline),
            intake: health.part("intake", Affects::Readiness, deadline),
        }
    }

    pub(super) fn show(&self, sight: &Sight) {
        put(&self.spill, spill(sight));
        put(&self.intake, intake(sight));
    }
}

fn put(part: &Reporter, report: Report) {
    match report {
        Ok(detail) => part.well(detail),
        Err(detail) => part.unwell(detail),
    }
}

fn spill(sight: &Sight) -> Report {
    let books = sight.books.as_ref().map_err(|error| format!("the spill cannot be looked at: {error}"))?;
    let waiting = books.pending + books.claimed;
    let count = format!("{waiting} waiting, {} bytes", books.bytes);
    let laid_aside = match books.dead {
        0 => String::new(),
        dead => format!("; {dead} heartbeats that the disk damaged are laid aside in the spill"),
    };
    match (&sight.course, &sight.held_back) {
        (Course::Spilling(_), _) => Err(format!("degraded: spilling, {count}{laid_aside}")),
        (Course::Barred(error), _) => {
            Err(format!("the buffer must not be used: {error}; in the spill: {count}{laid_aside}"))
        }
        (Course::Direct, Some(why)) => Err(format!("degraded: the spill is held up ({why}), {count}{laid_aside}")),
        (Course::Direct, None) if waiting > 0 => Err(format!("degraded: the spill goes in, {count}{laid_aside}")),
        (Course::Direct, None) => Ok(format!("nothing waits in the spill{laid_aside}")),
    }
}

fn intake(sight: &Sight) -> Report {
    match (&sight.course, &sight.takes) {
        (Course::Direct, _) => Ok("heartbeats go into the buffer".to_owned()),
        (Course::Barred(error), _) => Err(error.to_string()),
        (Course::Spilling(_), Ok(())) => Ok("heartbeats go into the spill".to_owned()),
        (Course::Spilling(away), Err(why)) => Err(format!("{away}, and {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(course: Course, pending: u64) -> Sight {
        let books = Ledger { pending, claimed: 2, bytes: 512, ..Ledger::default() };
        Sight { course, books: Ok(books), takes: Ok(()), held_back: None }
    }

    fn away() -> Error {
        Error::Unreachable { reason: "refused".into() }
    }

    #[test]
    fn while_it_spills_health_gives_the_numbers_and_the_door_is_open() {
        let spilling = sight(Course::Spilling(away()), 5);
        assert_eq!(spill(&spilling), Err("degraded: spilling, 7 waiting, 512 bytes".into()));
        assert!(intake(&spilling).is_ok());
        let full = Sight { takes: Err("the spill is full".into()), ..spilling };
        let said = intake(&full).unwrap_err();
        assert!(said.contains("out of reach") && said.contains("the spill is full"), "{said}");
    }

    #[test]
    fn what_goes_in_is_told_until_nothing_waits() {
        assert!(spill(&sight(Course::Direct, 1)).unwrap_err().contains("goes in, 3 waiting"));
        let stuck = Sight { held_back: Some(Error::Full { partition: 3 }), ..sight(Course::Direct, 1) };
        assert!(spill(&stuck).unwrap_err().contains("partition 3 is full"));
        assert!(intake(&stuck).is_ok());
        let dead = Ledger { dead: 9, ..Ledger::default() };
        let empty = Sight { books: Ok(dead), ..sight(Course::Direct, 0) };
        assert!(spill(&empty).unwrap().contains("9 heartbeats"), "named, though nobody is kept waiting");
    }

    #[test]
    fn a_redis_that_must_not_be_used_closes_the_door_and_says_why() {
        let barred = sight(Course::Barred(Error::NotRegistered), 1);
        assert!(intake(&barred).unwrap_err().contains("not registered"));
        let said = spill(&barred).unwrap_err();
        assert!(said.contains("not registered") && said.contains("3 waiting"), "{said}");
    }

    #[test]
    fn a_spill_that_cannot_be_looked_at_does_not_close_the_door_of_a_redis_that_is_well() {
        let blind = Sight { books: Err(away()), takes: Err("its disk fails".into()), ..sight(Course::Direct, 0) };
        assert!(spill(&blind).is_err());
        assert!(intake(&blind).is_ok());
    }
}
