//! Places in the order of one user's heartbeats, and between them.

use std::cmp::Ordering;

use crate::heartbeat::HeartbeatRef;

/// A place in the order of one user's heartbeats: that of an identity, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Ms since the Unix epoch.
    pub timestamp: i64,
    /// The device.
    pub device_id: String,
    /// The client's key, none first.
    pub id: Option<String>,
}

impl Position {
    /// That of a heartbeat.
    pub fn of(row: &HeartbeatRef<'_>) -> Self {
        Self { timestamp: row.timestamp, device_id: row.device_id.to_owned(), id: row.id.map(str::to_owned) }
    }

    fn key(&self) -> Key<'_> {
        (self.timestamp, &self.device_id, self.id.as_deref())
    }
}

/// The same, borrowed.
pub(super) type Key<'a> = (i64, &'a str, Option<&'a str>);

pub(super) fn key_of<'a>(row: &HeartbeatRef<'a>) -> Key<'a> {
    (row.timestamp, row.device_id, row.id)
}

/// A place between positions: all of them lie before it or behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// Before all of them.
    Start,
    /// Right before a position, or right behind it.
    At { position: Position, behind: bool },
    /// Behind all of them.
    End,
}

impl Cut {
    /// Before everything that happened at this time.
    pub(super) fn before(timestamp: i64) -> Self {
        let position = Position { timestamp, device_id: String::new(), id: None };
        Self::At { position, behind: false }
    }

    pub(super) fn behind(position: Position) -> Self {
        Self::At { position, behind: true }
    }

    /// Right before what has this key.
    pub(super) fn before_key((timestamp, device_id, id): Key<'_>) -> Self {
        let position = Position { timestamp, device_id: device_id.to_owned(), id: id.map(str::to_owned) };
        Self::At { position, behind: false }
    }

    /// Whether what has this key lies behind it.
    pub(super) fn is_before(&self, key: Key<'_>) -> bool {
        match self {
            Self::Start => true,
            Self::End => false,
            Self::At { position, behind } => match key.cmp(&position.key()) {
                Ordering::Greater => true,
                Ordering::Equal => !behind,
                Ordering::Less => false,
            },
        }
    }

    /// A time before which nothing lies behind it.
    pub(super) fn timestamp(&self) -> i64 {
        match self {
            Self::Start => i64::MIN,
            Self::At { position, .. } => position.timestamp,
            Self::End => i64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamp: i64, device_id: &str, id: Option<&str>) -> Position {
        Position { timestamp, device_id: device_id.into(), id: id.map(str::to_owned) }
    }

    #[test]
    fn cuts_stand_between_positions_in_their_order() {
        let positions =
            [at(-1, "z", None), at(0, "a", None), at(0, "a", Some("i")), at(0, "b", None), at(1, "a", None)];
        assert!(positions.is_sorted());
        let mut cuts = vec![Cut::Start];
        for position in &positions {
            cuts.push(Cut::At { position: position.clone(), behind: false });
            cuts.push(Cut::behind(position.clone()));
        }
        cuts.push(Cut::End);
        assert!(cuts.is_sorted());
        for (number, cut) in cuts.iter().enumerate() {
            for (place, position) in positions.iter().enumerate() {
                assert_eq!(cut.is_before(position.key()), number <= 2 * place + 1, "{cut:?} {position:?}");
            }
        }
        assert!(Cut::before(0) < cuts[3] && Cut::before(0).is_before(positions[1].key()));
        assert!(!Cut::before(0).is_before(positions[0].key()));
    }
}
