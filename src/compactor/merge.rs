//! Merging sorted runs, streaming: one batch (row group) of each run in memory, and no more runs open at once than the
//! memory budget carries.
//!
//! - [`Merge`] is the k-way merge: a binary heap of cursors, ordered by the row that each stands on. Rows of one run that
//!   follow one another are passed with one comparison each, with the least row of the other runs.
//! - [`fan_in`] opens as many sources as fit the [`Budget`]; while more are left it merges the opened ones into an
//!   intermediate run (a temp file) that queues up behind the others, and starts again. Every row of `n` sources is thus
//!   rewritten about log(n) to the base of the fan-in times, mostly never.
//!
//! Nothing is dropped in here: every row that goes in comes out, so that the books are kept in one place, the caller.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;

use crate::dataset::{self, FragmentName, PublishedName};
use crate::heartbeat::HeartbeatRef;

/// Some rows in memory, in sort order.
pub(super) trait Batch {
    fn len(&self) -> usize;
    fn row(&self, index: usize) -> HeartbeatRef<'_>;
}

/// Sorted rows, batch by batch.
pub(super) trait Run {
    type Batch: Batch + fmt::Debug;

    /// The next batch, which may be empty; `None` at the end.
    fn next_batch(&mut self) -> dataset::Result<Option<Self::Batch>>;

    /// Bytes that the run takes in memory at most, given its first batch.
    fn weight(&self, first: &Self::Batch) -> u64;

    /// What it is, for the blame when it cannot be read.
    fn label(&self) -> Label;
}

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Fragment(FragmentName),
    Published(PublishedName),
    Intermediate,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragment(name) => name.fmt(f),
            Self::Published(name) => name.fmt(f),
            Self::Intermediate => f.write_str("an intermediate run"),
        }
    }
}

/// A run that cannot be read to its end, or is not sorted.
#[derive(Debug)]
pub(super) struct Fault {
    pub label: Label,
    pub error: dataset::Error,
}

/// The front of a row in the sort order, cut out so that most comparisons touch no page.
#[derive(Debug, Clone, Copy)]
struct Key {
    /// The first bytes of the user, filled up with zeros.
    user: u128,
    /// Whether equal `user`s are equal users.
    is_whole: bool,
    timestamp: i64,
}

impl Key {
    fn of(row: HeartbeatRef<'_>) -> Self {
        let bytes = row.user_id.as_bytes();
        let mut user = [0; size_of::<u128>()];
        let len = bytes.len().min(user.len());
        user[..len].copy_from_slice(&bytes[..len]);
        let is_whole = bytes.len() == len && bytes.last() != Some(&0);
        Self { user: u128::from_be_bytes(user), is_whole, timestamp: row.timestamp }
    }

    /// The order of the rows as far as the keys know it.
    fn order(&self, other: &Self) -> Ordering {
        match self.user.cmp(&other.user) {
            Ordering::Equal if self.is_whole && other.is_whole => self.timestamp.cmp(&other.timestamp),
            order => order,
        }
    }
}

#[derive(Debug)]
struct Cursor<R: Run> {
    run: R,
    batch: R::Batch,
    at: usize,
    key: Key,
}

impl<R: Run> Cursor<R> {
    /// On the first row; `None` when the run has no rows. Beside it the weight of the run.
    fn open(mut run: R) -> Result<Option<(Self, u64)>, Fault> {
        let Some(batch) = next_filled(&mut run)? else {
            return Ok(None);
        };
        let weight = run.weight(&batch);
        let key = Key::of(batch.row(0));
        Ok(Some((Self { run, batch, at: 0, key }, weight)))
    }

    fn row(&self) -> HeartbeatRef<'_> {
        self.batch.row(self.at)
    }

    fn stands_before(&self, other: &Self) -> bool {
        self.key.order(&other.key).then_with(|| self.row().cmp(&other.row())).is_lt()
    }

    /// Steps to the next row; `false` at the end.
    fn advance(&mut self) -> Result<bool, Fault> {
        let next = match self.at + 1 < self.batch.len() {
            true => None,
            false => match next_filled(&mut self.run)? {
                None => return Ok(false),
                next => next,
            },
        };
        let row = next.as_ref().map_or_else(|| self.batch.row(self.at + 1), |next| next.row(0));
        let key = Key::of(row);
        // A run out of order would make equal identities miss each other: it is as damaged as a torn one.
        if self.key.order(&key).then_with(|| self.row().cmp(&row)).is_gt() {
            let label = self.run.label();
            let path = PathBuf::from(label.to_string());
            let error = dataset::Error::Damaged { path, reason: "its rows are out of order".into() };
            return Err(Fault { label, error });
        }
        match next {
            None => self.at += 1,
            Some(next) => (self.batch, self.at) = (next, 0),
        }
        self.key = key;
        Ok(true)
    }
}

fn next_filled<R: Run>(run: &mut R) -> Result<Option<R::Batch>, Fault> {
    loop {
        match run.next_batch() {
            Ok(Some(batch)) if batch.len() == 0 => {}
            Ok(batch) => return Ok(batch),
            Err(error) => return Err(Fault { label: run.label(), error }),
        }
    }
}

/// The rows of some runs as one, in sort order.
#[derive(Debug)]
pub(super) struct Merge<R: Run> {
    /// A binary heap by the row that each cursor stands on: the least is at the front.
    heap: Vec<Box<Cursor<R>>>,
    /// Where the least of the others stands; out of bounds when there is no other.
    second: usize,
}

impl<R: Run> Merge<R> {
    fn new(cursors: Vec<Cursor<R>>) -> Self {
        let mut merge = Self { heap: cursors.into_iter().map(Box::new).collect(), second: 1 };
        for parent in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(parent);
        }
        merge.find_second();
        merge
    }

    /// The least row not yet passed.
    pub fn peek(&self) -> Option<HeartbeatRef<'_>> {
        self.heap.first().map(|least| least.row())
    }

    /// Passes the row that [`peek`](Self::peek) shows. After a fault the merge is of no more use.
    pub fn advance(&mut self) -> Result<(), Fault> {
        let Some(least) = self.heap.first_mut() else {
            return Ok(());
        };
        if !least.advance()? {
            self.heap.swap_remove(0);
        } else if self.heap.get(self.second).is_none_or(|second| !second.stands_before(&self.heap[0])) {
            return Ok(());
        }
        self.sift_down(0);
        self.find_second();
        Ok(())
    }

    fn find_second(&mut self) {
        let right_is_less = self.heap.len() > 2 && self.heap[2].stands_before(&self.heap[1]);
        self.second = if right_is_less { 2 } else { 1 };
    }

    fn sift_down(&mut self, mut parent: usize) {
        loop {
            let mut least = parent;
            for child in [2 * parent + 1, 2 * parent + 2] {
                if child < self.heap.len() && self.heap[child].stands_before(&self.heap[least]) {
                    least = child;
                }
            }
            if least == parent {
                return;
            }
            self.heap.swap(parent, least);
            parent = least;
        }
    }
}

/// What the open runs of one merge may take together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub bytes: u64,
    pub runs: usize,
}

/// Where runs come from and intermediate ones go to.
pub(super) trait Runs {
    type Source;
    type Run: Run;
    type Error: From<Fault>;

    /// Opens a source; `None` when it is to be left out, of which the implementor has taken note. A source that was left
    /// out stays left out; one that was not is opened again, with the same rows, when its turn has to wait.
    fn open(&mut self, source: &Self::Source) -> Result<Option<Self::Run>, Self::Error>;

    /// Writes all rows of a merge as an intermediate run.
    fn spill(&mut self, merge: &mut Merge<Self::Run>) -> Result<Self::Source, Self::Error>;
}

/// One merge over all sources.
#[derive(Debug)]
pub(super) struct FannedIn<S: Runs> {
    pub merge: Merge<S::Run>,
    /// What it reads, kept since an intermediate source ends when it is dropped.
    _sources: Vec<S::Source>,
}

/// Merges sources within the budget. Give the smallest sources first: they are the ones that are rewritten.
///
/// Two runs are held open whatever the budget, and one more for an instant, to see that it does not fit.
pub(super) fn fan_in<S: Runs>(
    runs: &mut S,
    sources: impl IntoIterator<Item = S::Source>,
    budget: Budget,
) -> Result<FannedIn<S>, S::Error> {
    let mut queue: VecDeque<S::Source> = sources.into_iter().collect();
    loop {
        let mut fanned_in = open_what_fits(runs, &mut queue, budget)?;
        if queue.is_empty() {
            return Ok(fanned_in);
        }
        queue.push_back(runs.spill(&mut fanned_in.merge)?);
    }
}

fn open_what_fits<S: Runs>(
    runs: &mut S,
    queue: &mut VecDeque<S::Source>,
    budget: Budget,
) -> Result<FannedIn<S>, S::Error> {
    let (mut cursors, mut sources, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    while let Some(source) = queue.pop_front() {
        if let Some(run) = runs.open(&source)?
            && let Some((cursor, weight)) = Cursor::open(run)?
        {
            let full = cursors.len() >= budget.runs || bytes.saturating_add(weight) > budget.bytes;
            if full && cursors.len() >= 2 {
                queue.push_front(source);
                break;
            }
            bytes = bytes.saturating_add(weight);
            cursors.push(cursor);
            sources.push(source);
        }
    }
    Ok(FannedIn { merge: Merge::new(cursors), _sources: sources })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heartbeat::Heartbeat;

    impl Batch for Vec<Heartbeat> {
        fn len(&self) -> usize {
            Vec::len(self)
        }
        fn row(&self, index: usize) -> HeartbeatRef<'_> {
            self[index].as_ref()
        }
    }

    #[derive(Debug)]
    struct InMemory {
        batches: VecDeque<Vec<Heartbeat>>,
        fails: bool,
    }

    impl Run for InMemory {
        type Batch = Vec<Heartbeat>;
        fn next_batch(&mut self) -> dataset::Result<Option<Vec<Heartbeat>>> {
            match self.batches.pop_front() {
                None if self.fails => Err(dataset::Error::Unsupported { advice: "torn".into() }),
                batch => Ok(batch),
            }
        }
        fn weight(&self, first: &Vec<Heartbeat>) -> u64 {
            first.len() as u64
        }
        fn label(&self) -> Label {
            Label::Intermediate
        }
    }

    #[derive(Debug, Default)]
    struct Model {
        spilled: usize,
        most_open: usize,
    }

    #[derive(Debug)]
    struct Torn;

    impl From<Fault> for Torn {
        fn from(_: Fault) -> Self {
            Self
        }
    }

    impl Runs for Model {
        type Source = Vec<Heartbeat>;
        type Run = InMemory;
        type Error = Torn;
        fn open(&mut self, source: &Vec<Heartbeat>) -> Result<Option<InMemory>, Torn> {
            Ok(Some(InMemory { batches: source.chunks(3).map(<[_]>::to_vec).collect(), fails: false }))
        }
        fn spill(&mut self, merge: &mut Merge<InMemory>) -> Result<Vec<Heartbeat>, Torn> {
            self.spilled += 1;
            self.most_open = self.most_open.max(merge.heap.len());
            drain(merge)
        }
    }

    fn drain(merge: &mut Merge<InMemory>) -> Result<Vec<Heartbeat>, Torn> {
        let mut rows = Vec::new();
        while let Some(row) = merge.peek() {
            rows.push(owned(row));
            merge.advance()?;
        }
        Ok(rows)
    }

    fn owned(row: HeartbeatRef<'_>) -> Heartbeat {
        Heartbeat {
            user_id: row.user_id.into(),
            device_id: row.device_id.into(),
            timestamp: row.timestamp,
            id: row.id.map(Into::into),
            received_at: row.received_at,
            attributes: row.attributes.map(Into::into),
        }
    }

    fn beat(user: &str, timestamp: i64) -> Heartbeat {
        Heartbeat { user_id: user.into(), device_id: "d".into(), timestamp, id: None, received_at: 0, attributes: None }
    }

    fn sorted(mut rows: Vec<Heartbeat>) -> Vec<Heartbeat> {
        rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
        rows
    }

    fn any_runs() -> impl Strategy<Value = Vec<Vec<Heartbeat>>> {
        let row = ("[ab]{1,2}|[ab]{17,18}|a\\x00?", 0_i64..9).prop_map(|(user, timestamp)| beat(&user, timestamp));
        prop::collection::vec(prop::collection::vec(row, 0..12).prop_map(sorted), 0..12)
    }

    proptest! {
        #[test]
        fn merging_within_any_budget_gives_what_sorting_gives(
            runs in any_runs(), bytes in 0_u64..20, open in 0_usize..6,
        ) {
            let mut model = Model::default();
            let fanned_in = fan_in(&mut model, runs.clone(), Budget { bytes, runs: open });
            let rows = drain(&mut fanned_in.unwrap().merge).unwrap();
            prop_assert_eq!(rows, sorted(runs.concat()));
            prop_assert!(model.most_open <= open.max(2));
        }
    }

    #[test]
    fn more_runs_than_fit_are_merged_in_several_steps() {
        let runs: Vec<_> = (0..9).map(|n| vec![beat("u", n)]).collect();
        let mut model = Model::default();
        let fanned_in = fan_in(&mut model, runs, Budget { bytes: u64::MAX, runs: 3 }).unwrap();
        assert_eq!((model.spilled, fanned_in.merge.heap.len()), (3, 3));
    }

    #[test]
    fn a_run_out_of_order_is_blamed_within_and_between_batches() {
        for length in [2_usize, 4] {
            let mut rows: Vec<_> = (0..length as i64).map(|n| beat("u", n)).collect();
            rows.swap(length - 2, length - 1);
            let fanned_in = fan_in(&mut Model::default(), [rows], Budget { bytes: 100, runs: 3 });
            assert!(drain(&mut fanned_in.unwrap().merge).is_err(), "{length} rows in batches of 3");
        }
    }

    #[test]
    fn a_run_that_cannot_be_read_ends_the_merge_with_its_fault() {
        let run = InMemory { batches: VecDeque::from([vec![beat("u", 1)]]), fails: true };
        let mut merge = Merge::new(vec![Cursor::open(run).unwrap().unwrap().0]);
        assert!(matches!(merge.advance(), Err(Fault { label: Label::Intermediate, .. })));
    }
}
