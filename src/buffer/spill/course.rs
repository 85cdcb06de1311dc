//! Where pushes go: a state machine without I/O or clock.
//!
//! ```text
//!            a push or a look finds Redis away
//!   Direct ─────────────────────────────────────▶ Spilling
//!     ▲ │                                            │ ▲
//!     │ └── a look finds what needs a person ──┐     │ │ away
//!     │                                        ▼     ▼ │
//!     └───────── a look finds all well ────── Barred ──┘
//! ```
//!
//! Constraint: only a whole look at Redis (durability, dataset, partitions) leads back to Direct. A push leads away from it
//! and nowhere else, so a late answer to a push can never undo what a look has found.

use super::super::Error;

/// Where pushes go.
#[derive(Debug, Clone)]
pub(super) enum Course {
    /// To Redis.
    Direct,
    /// To the spill: Redis is away, for this reason.
    Spilling(Error),
    /// Nowhere: Redis is there and must not be trusted, for this reason.
    Barred(Error),
}

/// How Redis was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// By a push.
    ByPush,
    /// By a look at all that is asked of it.
    ByLook,
}

/// Whether an error means that Redis is away, rather than there and saying no. See the table in `mod.rs`.
pub(super) fn is_away(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::TimedOut { .. } => true,
        Error::Full { .. }
        | Error::TooLarge { .. }
        | Error::Refused { .. }
        | Error::TooFewReplicas { .. }
        | Error::NotRegistered
        | Error::ForeignDataset { .. }
        | Error::BeingMoved
        | Error::Fenced { .. }
        | Error::NotStanding
        | Error::Unwatched
        | Error::Corrupt { .. }
        | Error::Unsafe { .. } => false,
    }
}

impl Course {
    /// The next course, or `None` when it stays what it is.
    pub(super) fn after(&self, met: Met, found: Result<(), &Error>) -> Option<Self> {
        let next = match (self, met, found) {
            (Self::Direct, _, Err(error)) if is_away(error) => Self::Spilling(error.clone()),
            (_, Met::ByPush, _) => return None,
            (_, Met::ByLook, Ok(())) => Self::Direct,
            (_, Met::ByLook, Err(error)) if is_away(error) => Self::Spilling(error.clone()),
            // It refuses for the moment: whoever pushes to it is told so, and nothing says that it is another by now.
            (Self::Direct, Met::ByLook, Err(error)) if error.is_transient() => return None,
            (_, Met::ByLook, Err(error)) => Self::Barred(error.clone()),
        };
        (!self.is(&next)).then_some(next)
    }

    pub(super) fn is_direct(&self) -> bool {
        matches!(self, Self::Direct)
    }

    /// Whether the other says the same: what exactly the network said while Redis is away may change with each try.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Direct, Self::Direct) | (Self::Spilling(_), Self::Spilling(_)) => true,
            (Self::Barred(one), Self::Barred(other)) => one.to_string() == other.to_string(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::heartbeat::DatasetId;

    fn away() -> Error {
        Error::Unreachable { reason: "connection refused".into() }
    }

    fn passing() -> [Error; 3] {
        let refused = Error::Refused { reason: "Redis has reached its maxmemory".into() };
        [Error::Full { partition: 1 }, refused, Error::TooFewReplicas { have: 0, want: 1 }]
    }

    fn lasting() -> [Error; 5] {
        [
            Error::NotRegistered,
            Error::BeingMoved,
            Error::ForeignDataset { expected: DatasetId::from_u128(1), found: "2".into() },
            Error::Unsafe { advice: "appendonly yes".into() },
            Error::Corrupt { detail: "nonsense".into() },
        ]
    }

    /// D, S, B; `-` for no change.
    fn letter(course: Option<&Course>) -> char {
        match course {
            None => '-',
            Some(Course::Direct) => 'D',
            Some(Course::Spilling(_)) => 'S',
            Some(Course::Barred(_)) => 'B',
        }
    }

    fn from(met: Met, found: Result<(), &Error>) -> String {
        let courses = [Course::Direct, Course::Spilling(away()), Course::Barred(Error::NotStanding)];
        courses.iter().map(|course| letter(course.after(met, found).as_ref())).collect()
    }

    #[test]
    fn only_an_absence_spills_and_only_a_look_brings_back() {
        let late = Error::TimedOut { after: Duration::from_secs(2) };
        for error in [&away(), &late] {
            assert_eq!(from(Met::ByPush, Err(error)), "S--", "{error}");
            assert_eq!(from(Met::ByLook, Err(error)), "S-S", "{error}");
        }
        for error in &passing() {
            assert_eq!(from(Met::ByPush, Err(error)), "---", "{error}");
            assert_eq!(from(Met::ByLook, Err(error)), "-BB", "{error}");
        }
        for error in &lasting() {
            assert_eq!(from(Met::ByPush, Err(error)), "---", "{error}");
            assert_eq!(from(Met::ByLook, Err(error)), "BBB", "{error}");
        }
        assert_eq!(from(Met::ByPush, Ok(())), "---");
        assert_eq!(from(Met::ByLook, Ok(())), "-DD");
    }

    #[test]
    fn the_same_alarm_again_is_no_change() {
        let barred = Course::Barred(Error::NotRegistered);
        assert!(barred.after(Met::ByLook, Err(&Error::NotRegistered)).is_none());
    }
}
