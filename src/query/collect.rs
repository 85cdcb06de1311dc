//! The least rows of one user behind a place, from many sources, in bounded memory: pure.
//!
//! Constraint: whatever the order in which rows are offered, what is collected is all that was offered before the place at
//! which it ends, each identity once. Where it takes too much, it ends earlier.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::place::{Cut, Key, Position, key_of};
use crate::heartbeat::HeartbeatRef;

/// Bytes that a row takes beside its texts, in a set and on the heap.
const ROW_OVERHEAD: usize = 96;

/// A row of a user that is known. Its order is that of its identity.
#[derive(Debug, Clone)]
pub(super) struct Row {
    timestamp: i64,
    received_at: i64,
    /// Device, id and attributes, one behind the other.
    text: Box<str>,
    device_end: u32,
    id_end: u32,
    has_id: bool,
    has_attributes: bool,
    published: bool,
}

impl Row {
    pub(super) fn of(row: &HeartbeatRef<'_>, published: bool) -> Self {
        let HeartbeatRef { timestamp, device_id, id, received_at, attributes, .. } = *row;
        let text = [device_id, id.unwrap_or_default(), attributes.unwrap_or_default()].concat();
        // Each of them is some KiB at most, by validation and by the widths of a frame.
        let device_end = device_id.len() as u32;
        let id_end = device_end + id.map_or(0, str::len) as u32;
        let (has_id, has_attributes) = (id.is_some(), attributes.is_some());
        Self { timestamp, received_at, text: text.into(), device_end, id_end, has_id, has_attributes, published }
    }

    pub(super) fn read<'a>(&'a self, user_id: &'a str) -> HeartbeatRef<'a> {
        let (timestamp, device_id, id) = self.key();
        let attributes = self.has_attributes.then(|| self.part(self.id_end as usize, self.text.len()));
        HeartbeatRef { user_id, timestamp, device_id, id, received_at: self.received_at, attributes }
    }

    pub(super) fn key(&self) -> Key<'_> {
        let (device_end, id_end) = (self.device_end as usize, self.id_end as usize);
        (self.timestamp, self.part(0, device_end), self.has_id.then(|| self.part(device_end, id_end)))
    }

    pub(super) fn position(&self) -> Position {
        Position::of(&self.read(""))
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> usize {
        ROW_OVERHEAD + self.text.len()
    }

    /// Whether it is the one of two of its identity that stands.
    fn stands_against(&self, other: &Self) -> bool {
        let rank = |row: &Self| !row.published;
        (rank(self), self.read("")) <= (rank(other), other.read(""))
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Rows by identity, and what they take.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeSet<Row>,
    bytes: usize,
}

impl Rows {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row, unless one of its identity stands against it.
    pub(super) fn add(&mut self, row: Row) {
        if self.rows.get(&row).is_some_and(|standing| standing.stands_against(&row)) {
            return;
        }
        self.bytes += row.bytes();
        let replaced = self.rows.replace(row);
        self.bytes -= replaced.map_or(0, |replaced| replaced.bytes());
    }

    pub(super) fn pop_first(&mut self) -> Option<Row> {
        let row = self.rows.pop_first()?;
        self.bytes -= row.bytes();
        Some(row)
    }

    /// Takes out the first if it stands before the cut.
    pub(super) fn pop_before(&mut self, cut: &Cut) -> Option<Row> {
        if cut.is_before(self.rows.first()?.key()) { None } else { self.pop_first() }
    }

    fn pop_last(&mut self) -> Option<Row> {
        let row = self.rows.pop_last()?;
        self.bytes -= row.bytes();
        Some(row)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Collects the least rows behind a place.
#[derive(Debug)]
pub(super) struct Collector {
    rows: Rows,
    most_bytes: usize,
    begin: Cut,
    end: Cut,
}

impl Collector {
    /// Of the rows between two cuts, as many as take so many bytes, and one at least.
    pub(super) fn new(begin: Cut, end: Cut, most_bytes: usize) -> Self {
        Self { rows: Rows::default(), most_bytes, begin, end }
    }

    /// Whether what has this key lies behind all that is collected.
    pub(super) fn is_over(&self, key: Key<'_>) -> bool {
        self.end.is_before(key)
    }

    /// Where it begins: nothing before that is wanted.
    pub(super) fn begin(&self) -> &Cut {
        &self.begin
    }

    /// Takes a row in, if it is one of those.
    pub(super) fn offer(&mut self, row: &HeartbeatRef<'_>, published: bool) {
        let key = key_of(row);
        if !self.begin.is_before(key) || self.is_over(key) {
            return;
        }
        self.rows.add(Row::of(row, published));
        while self.rows.bytes() > self.most_bytes && self.rows.len() > 1 {
            if let Some(last) = self.rows.pop_last() {
                self.end = Cut::before_key(last.key());
            }
        }
    }

    /// The rows, and the cut before which they are all.
    pub(super) fn finish(self) -> (Rows, Cut) {
        (self.rows, self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::heartbeat::Heartbeat;

    fn heartbeat() -> impl Strategy<Value = Heartbeat> {
        let id = proptest::option::of("[xy]?");
        let attributes = proptest::option::of("[{}]{0,40}");
        (0..6_i64, "[de]{1,2}", id, 0..3_i64, attributes).prop_map(
            |(timestamp, device_id, id, received_at, attributes)| Heartbeat {
                user_id: "ada".into(),
                device_id,
                timestamp,
                id,
                received_at,
                attributes,
            },
        )
    }

    fn cut() -> impl Strategy<Value = Cut> {
        prop_oneof![
            Just(Cut::Start),
            Just(Cut::End),
            (0..6_i64).prop_map(Cut::before),
            heartbeat().prop_map(|row| Cut::behind(Position::of(&row.as_ref()))),
        ]
    }

    /// Of each identity between the cuts the row that stands, by the words of the module.
    fn model(offered: &[(Heartbeat, bool)], begin: &Cut, end: &Cut) -> Vec<Heartbeat> {
        let mut standing: BTreeMap<Position, Vec<(bool, &Heartbeat)>> = BTreeMap::new();
        for (row, published) in offered {
            standing.entry(Position::of(&row.as_ref())).or_default().push((!published, row));
        }
        let within = |position: &Position| {
            let position = Cut::At { position: position.clone(), behind: false };
            *begin <= position && position < *end
        };
        let of_them = standing.into_iter().filter(|(position, _)| within(position));
        of_them
            .map(|(_, rows)| rows.into_iter().min_by_key(|(rank, row)| (*rank, row.as_ref())).unwrap().1.clone())
            .collect()
    }

    proptest! {
        #[test]
        fn it_holds_what_was_offered_before_its_end_and_nothing_else(
            offered in proptest::collection::vec((heartbeat(), any::<bool>()), 0..60),
            (begin, end) in (cut(), cut()),
            most_bytes in 0..3_000_usize,
        ) {
            let mut collector = Collector::new(begin.clone(), end.clone(), most_bytes);
            for (row, published) in &offered {
                collector.offer(&row.as_ref(), *published);
                prop_assert!(collector.rows.bytes() <= most_bytes || collector.rows.len() == 1);
            }
            let (rows, reached) = collector.finish();
            prop_assert!(reached <= end);
            let collected: Vec<_> = rows.rows.iter().map(|row| row.read("ada").to_heartbeat()).collect();
            prop_assert_eq!(rows.bytes(), rows.rows.iter().map(Row::bytes).sum::<usize>());
            prop_assert_eq!(&collected, &model(&offered, &begin, &reached));
            let all = model(&offered, &begin, &end);
            prop_assert_eq!(collected.is_empty(), all.is_empty(), "it goes on wherever there is something");
            prop_assert!(reached == end || !collected.is_empty());
        }

        /// Round after round, each behind the end of the one before, it gives all of it.
        #[test]
        fn rounds_give_everything_once(
            offered in proptest::collection::vec((heartbeat(), any::<bool>()), 0..60),
            most_bytes in 0..1_000_usize,
        ) {
            let (mut begin, mut found) = (Cut::Start, Vec::new());
            while begin < Cut::End {
                let mut collector = Collector::new(begin, Cut::End, most_bytes);
                offered.iter().for_each(|(row, published)| collector.offer(&row.as_ref(), *published));
                let (mut rows, reached) = collector.finish();
                while let Some(row) = rows.pop_before(&reached) {
                    found.push(row.read("ada").to_heartbeat());
                }
                prop_assert_eq!((rows.len(), rows.bytes()), (0, 0));
                begin = reached;
            }
            prop_assert_eq!(found, model(&offered, &Cut::Start, &Cut::End));
        }
    }
}
