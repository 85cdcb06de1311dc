//! Encoding a claim, and finding what in it can never be written: pure but for the writer it is given, and blocking.
//!
//! Constraints:
//! - What earlier attempts condemned is left out exactly; nothing else is. So every attempt makes the same fragments.
//! - A fault is pinned down as far as it can be: a frame that cannot be read is condemned whole (behind a row that makes
//!   no sense no boundary can be trusted); where the writer fails, frame by frame, then row by row.
//! - A frame of a format version that this binary does not know is a fault of the world: nothing is condemned for it.
//! - No reason carries user data: reasons are shown to people and logged.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::fault::Fault;
use super::split::split;
use crate::buffer::{Condemned, DeadLetterId};
use crate::dataset::{self, Bucket, EncodedFragment};
use crate::heartbeat::{Frame, FrameError, FrameHeader, HeartbeatRef, OpenFrame, Partition};

/// Makes a fragment of sorted rows.
pub(super) type Encode<'a> = dyn Fn(&[HeartbeatRef<'_>]) -> Result<EncodedFragment, dataset::Error> + 'a;

/// A claim as fragments.
#[derive(Debug)]
pub(super) struct Encoded {
    /// One for each bucket, in order of their dates.
    pub(super) fragments: Vec<(Bucket, EncodedFragment)>,
    /// What was found to be unwritable now, beyond what was known.
    pub(super) condemned: Vec<Condemned>,
}

/// The frames of one claim, and what is known of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames<'a> {
    /// As the claim holds them.
    pub(super) frames: &'a [Bytes],
    /// Whose partition they are.
    pub(super) partition: Partition,
    /// What is left out.
    pub(super) known: &'a [Condemned],
}

/// Encodes a whole claim; what cannot be written is left out and listed.
///
/// # Errors
/// Faults of the world only: [`Fault::UnknownFrame`] and [`Fault::Dataset`].
pub(super) fn encode_claim(claim: Frames<'_>, encode: &Encode<'_>) -> Result<Encoded, Fault> {
    let opened = Opened::new(claim.frames);
    let mut search = Search::new(claim, &opened, encode);
    let mut isolated_in_vain = false;
    loop {
        match search.try_encode(search.all()) {
            Ok(fragments) => return Ok(Encoded { fragments, condemned: search.condemned }),
            Err(Bad::Frame(_)) => search.condemn_unreadable()?,
            // Each frame alone is fine, and so it was before: it takes several of them to break the writer.
            Err(Bad::Rows(reason)) if isolated_in_vain => search.condemn_last_of_shortest_failing_prefix(&reason)?,
            Err(Bad::Rows(_)) => isolated_in_vain = !search.condemn_frame_by_frame()?,
            Err(Bad::World(fault)) => return Err(fault),
        }
    }
}

/// Tries one frame alone; answers what in it can never be written, beyond what was known.
///
/// # Errors
/// Those of [`encode_claim`].
pub(super) fn judge_frame(claim: Frames<'_>, frame: u32, encode: &Encode<'_>) -> Result<Vec<Condemned>, Fault> {
    let opened = Opened::new(claim.frames);
    let mut search = Search::new(claim, &opened, encode);
    search.judge(frame)?;
    Ok(search.condemned)
}

/// Condemns a whole frame without looking into it. `None` when it was condemned before.
///
/// It stands for all of its rows: entries of single rows of it are dropped in its favour, here and in the buffer.
pub(super) fn condemn_frame(claim: Frames<'_>, frame: u32, reason: &str) -> Option<Condemned> {
    if claim.known.iter().any(|entry| entry.frame == frame && entry.row.is_none()) {
        return None;
    }
    let bytes = claim.frames.get(frame as usize)?.clone();
    let id = DeadLetterId::new();
    Some(Condemned { id, frame, row: None, rows: rows_by_header(&bytes), reason: reason.to_owned(), bytes })
}

/// Adds to a list of what is condemned.
pub(super) fn add_condemned(list: &mut Vec<Condemned>, entry: Condemned) {
    if entry.row.is_none() {
        list.retain(|other| other.frame != entry.frame);
    }
    list.push(entry);
}

/// None for what cannot be a header: damage there must not make it look like thousands.
fn rows_by_header(frame: &[u8]) -> u32 {
    FrameHeader::plausible(frame).map_or(0, |header| header.count)
}

#[derive(Debug, Default)]
struct LeftOut {
    frames: BTreeSet<u32>,
    rows: BTreeSet<(u32, u32)>,
}

impl LeftOut {
    fn new(condemned: &[Condemned]) -> Self {
        let mut left_out = Self::default();
        for entry in condemned {
            left_out.add(entry);
        }
        left_out
    }

    fn add(&mut self, entry: &Condemned) {
        match entry.row {
            None => self.frames.insert(entry.frame),
            Some(row) => self.rows.insert((entry.frame, row)),
        };
    }
}

/// The frames of a claim, each opened when its rows are first asked for.
struct Opened<'a> {
    frames: &'a [Bytes],
    open: Vec<OnceCell<Result<OpenFrame<'a>, FrameError>>>,
}

impl<'a> Opened<'a> {
    fn new(frames: &'a [Bytes]) -> Self {
        Self { frames, open: frames.iter().map(|_| OnceCell::new()).collect() }
    }

    /// The rows of a frame with their index; none of one that there is not.
    fn rows(&self, frame: u32) -> impl Iterator<Item = Result<(u32, HeartbeatRef<'_>), FrameError>> {
        let place = frame as usize;
        let opened = self.frames.get(place).zip(self.open.get(place));
        let (rows, fault) = match opened.map(|(bytes, open)| open.get_or_init(|| OpenFrame::open(bytes))) {
            Some(Ok(frame)) => (Some(frame.rows()), None),
            Some(Err(fault)) => (None, Some(Err(fault.clone()))),
            None => (None, None),
        };
        let indexed = (0_u32..).zip(rows.into_iter().flatten()).map(|(index, row)| Ok((index, row?)));
        fault.into_iter().chain(indexed)
    }
}

/// Why some frames could not be made fragments.
enum Bad {
    Frame(FrameError),
    Rows(String),
    World(Fault),
}

struct Search<'a> {
    claim: Frames<'a>,
    opened: &'a Opened<'a>,
    left_out: LeftOut,
    condemned: Vec<Condemned>,
    encode: &'a Encode<'a>,
}

impl<'a> Search<'a> {
    fn new(claim: Frames<'a>, opened: &'a Opened<'a>, encode: &'a Encode<'a>) -> Self {
        Self { claim, opened, left_out: LeftOut::new(claim.known), condemned: Vec::new(), encode }
    }

    fn all(&self) -> Range<u32> {
        // A claim holds some thousand frames.
        0..u32::try_from(self.claim.frames.len()).unwrap_or(u32::MAX)
    }

    /// The rows of a frame with their index, without those left out.
    fn rows(&self, frame: u32) -> impl Iterator<Item = Result<(u32, HeartbeatRef<'a>), FrameError>> {
        let wanted = (!self.left_out.frames.contains(&frame)).then(|| self.opened.rows(frame));
        wanted.into_iter().flatten().filter(move |row| match row {
            Ok((index, _)) => !self.left_out.rows.contains(&(frame, *index)),
            Err(_) => true,
        })
    }

    fn try_encode(&self, frames: Range<u32>) -> Result<Vec<(Bucket, EncodedFragment)>, Bad> {
        let frames_of_it = frames.clone().filter_map(|frame| self.claim.frames.get(frame as usize));
        let expected = frames_of_it.map(|frame| rows_by_header(frame) as usize).sum();
        let rows = frames.flat_map(|frame| self.rows(frame)).map(|row| row.map(|(_, row)| row));
        let buckets = split(rows, self.claim.partition, expected).map_err(Bad::Frame)?;
        buckets.into_iter().map(|(bucket, rows)| Ok((bucket, self.write(&rows)?))).collect()
    }

    /// The writer is code of others: what makes it panic is treated as what it refuses.
    fn write(&self, rows: &[HeartbeatRef<'_>]) -> Result<EncodedFragment, Bad> {
        match catch_unwind(AssertUnwindSafe(|| (self.encode)(rows))) {
            Ok(Ok(fragment)) => Ok(fragment),
            Ok(Err(error)) if error.is_fault_of_data() => Err(Bad::Rows(error.to_string())),
            Ok(Err(error)) => Err(Bad::World(error.into())),
            Err(_) => Err(Bad::Rows("the writer panicked".to_owned())),
        }
    }

    fn condemn_unreadable(&mut self) -> Result<(), Fault> {
        for frame in self.all() {
            let fault = self.rows(frame).find_map(Result::err);
            if let Some(fault) = fault {
                self.condemn_for(frame, &fault)?;
            }
        }
        Ok(())
    }

    fn condemn_for(&mut self, frame: u32, fault: &FrameError) -> Result<(), Fault> {
        match fault {
            FrameError::UnknownVersion(version) => Err(Fault::UnknownFrame(*version)),
            damage => {
                self.condemn_whole(frame, &damage.to_string());
                Ok(())
            }
        }
    }

    /// Answers whether anything was found.
    fn condemn_frame_by_frame(&mut self) -> Result<bool, Fault> {
        let before = self.condemned.len();
        for frame in self.all() {
            self.judge(frame)?;
        }
        Ok(self.condemned.len() > before)
    }

    fn judge(&mut self, frame: u32) -> Result<(), Fault> {
        match self.try_encode(frame..frame + 1) {
            Ok(_) => Ok(()),
            Err(Bad::Frame(fault)) => self.condemn_for(frame, &fault),
            Err(Bad::Rows(reason)) => self.condemn_row_by_row(frame, &reason),
            Err(Bad::World(fault)) => Err(fault),
        }
    }

    fn condemn_row_by_row(&mut self, frame: u32, whole_frame_reason: &str) -> Result<(), Fault> {
        let rows: Vec<_> = self.rows(frame).filter_map(Result::ok).collect();
        let before = self.condemned.len();
        for (index, row) in rows {
            match self.write(&[row]) {
                Ok(_) => {}
                Err(Bad::World(fault)) => return Err(fault),
                Err(Bad::Rows(reason)) => self.condemn_row(frame, index, row, reason),
                Err(Bad::Frame(fault)) => self.condemn_for(frame, &fault)?,
            }
        }
        if self.condemned.len() == before {
            self.condemn_whole(frame, whole_frame_reason);
        }
        Ok(())
    }

    /// The last resort: the frame that makes the frames before it unwritable.
    fn condemn_last_of_shortest_failing_prefix(&mut self, reason: &str) -> Result<(), Fault> {
        let Range { start: mut fine, end: mut failing } = self.all();
        while failing - fine > 1 {
            let middle = fine + (failing - fine) / 2;
            match self.try_encode(0..middle) {
                Ok(_) => fine = middle,
                Err(Bad::World(fault)) => return Err(fault),
                Err(Bad::Frame(_) | Bad::Rows(_)) => failing = middle,
            }
        }
        // Frames condemned before add no rows, so a prefix cannot begin to fail with one of them; were it so after all,
        // any frame still left would do: each round must leave fewer.
        let culprit = (0..failing).rev().chain(failing..self.all().end).find(|f| !self.left_out.frames.contains(f));
        if let Some(frame) = culprit {
            self.condemn_whole(frame, reason);
        }
        Ok(())
    }

    fn condemn_row(&mut self, frame: u32, index: u32, row: HeartbeatRef<'_>, reason: String) {
        if let Some(kept) = Frame::encode([row]) {
            let bytes = kept.bytes().clone();
            self.add(Condemned { id: DeadLetterId::new(), frame, row: Some(index), rows: 1, reason, bytes });
        }
    }

    fn condemn_whole(&mut self, frame: u32, reason: &str) {
        // A frame that was condemned in this search has no rows left to be condemned for.
        if let Some(entry) = condemn_frame(self.claim, frame, reason) {
            self.add(entry);
        }
    }

    fn add(&mut self, entry: Condemned) {
        self.left_out.add(&entry);
        add_condemned(&mut self.condemned, entry);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::ContentHash;

    const DAY_MS: i64 = 86_400_000;

    fn row(user_id: &'static str, timestamp: i64) -> HeartbeatRef<'static> {
        HeartbeatRef { user_id, timestamp, device_id: "d", id: None, received_at: 1, attributes: None }
    }

    fn frame(rows: &[HeartbeatRef<'_>]) -> Bytes {
        Frame::encode(rows.iter().copied()).unwrap().bytes().clone()
    }

    fn claim<'a>(frames: &'a [Bytes], known: &'a [Condemned]) -> Frames<'a> {
        Frames { frames, partition: 3, known }
    }

    /// A writer that takes no row of `refused`, panics at `panics`, and cannot bear `left` and `right` together.
    fn writer(rows: &[HeartbeatRef<'_>]) -> Result<EncodedFragment, dataset::Error> {
        let has = |user| rows.iter().any(|row| row.user_id == user);
        assert!(rows.is_sorted() && !rows.is_empty());
        if has("refused") || (has("left") && has("right")) {
            return Err(dataset::Error::Unwritable { reason: "some column".into() });
        }
        assert!(!has("panics"), "as asked");
        if has("disk full") {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(dataset::Error::Io { context: "write", path: "x".into(), source });
        }
        Ok(EncodedFragment { bytes: format!("{rows:?}").into(), hash: ContentHash(0), rows: rows.len() as u64 })
    }

    /// Frame, row, heartbeats.
    type Place = (u32, Option<u32>, u32);

    fn places(condemned: &[Condemned]) -> Vec<Place> {
        condemned.iter().map(|entry| (entry.frame, entry.row, entry.rows)).collect()
    }

    fn damaged(rows: &[HeartbeatRef<'_>]) -> Bytes {
        let mut bytes = frame(rows).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        bytes.into()
    }

    fn of_a_newer_version() -> Bytes {
        let mut bytes = frame(&[row("a", 1)]).to_vec();
        bytes[0] = 9;
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&bytes[..9]);
        hash.update(&bytes[17..]);
        let sum = hash.digest().to_le_bytes();
        bytes[9..17].copy_from_slice(&sum);
        bytes.into()
    }

    #[test]
    fn only_what_cannot_be_written_is_condemned() {
        let fine = frame(&[row("a", 1), row("b", DAY_MS)]);
        // frames -> what is condemned, and how many rows are written
        let table: Vec<(Vec<Bytes>, Vec<Place>, u64)> = vec![
            (vec![fine.clone()], vec![], 2),
            (vec![fine.clone(), frame(&[row("c", 1), row("refused", 1)])], vec![(1, Some(1), 1)], 3),
            (vec![frame(&[row("panics", 1), row("c", 1)]), fine.clone()], vec![(0, Some(0), 1)], 3),
            (vec![damaged(&[row("a", 1), row("b", 1)]), fine.clone()], vec![(0, None, 2)], 2),
            (vec![Bytes::from_static(b"x"), fine.clone()], vec![(0, None, 0)], 2),
            (vec![damaged(&[row("a", 1)]), frame(&[row("refused", 1)])], vec![(0, None, 1), (1, Some(0), 1)], 0),
            // Each row alone can be written: the frame goes whole.
            (vec![fine.clone(), frame(&[row("left", 1), row("right", 1)])], vec![(1, None, 2)], 2),
            // Each frame alone can be written: the one that makes the rest unwritable goes.
            (
                vec![frame(&[row("left", 1)]), fine.clone(), frame(&[row("right", 1)]), fine.clone()],
                vec![(2, None, 1)],
                5,
            ),
        ];
        for (frames, expected, rows) in table {
            let encoded = encode_claim(claim(&frames, &[]), &writer).unwrap();
            assert_eq!(places(&encoded.condemned), expected);
            assert_eq!(encoded.fragments.iter().map(|(_, fragment)| fragment.rows).sum::<u64>(), rows);
            let condemned_rows: u64 = encoded.condemned.iter().map(|entry| u64::from(entry.rows)).sum();
            let all: u64 =
                frames.iter().filter_map(|f| FrameHeader::peek(f)).map(|header| u64::from(header.count)).sum();
            assert_eq!(rows + condemned_rows, all, "every row is in a fragment or a dead letter");
            assert!(encoded.condemned.iter().all(|entry| !entry.reason.contains("refused")), "no user data");

            let again = encode_claim(claim(&frames, &encoded.condemned), &writer).unwrap();
            assert_eq!(again.fragments, encoded.fragments, "the same claim makes the same fragments");
            assert_eq!(again.condemned, []);
        }
    }

    #[test]
    fn a_dead_letter_holds_exactly_what_was_condemned() {
        let broken = damaged(&[row("a", 1)]);
        let frames = [frame(&[row("a", 1), row("refused", 2)]), broken.clone()];
        let encoded = encode_claim(claim(&frames, &[]), &writer).unwrap();
        let kept: Vec<_> = encoded.condemned.iter().map(|entry| (entry.frame, entry.bytes.clone())).collect();
        assert!(kept.contains(&(1, broken)));
        assert!(kept.contains(&(0, frame(&[row("refused", 2)]))));
    }

    #[test]
    fn faults_of_the_world_condemn_nothing() {
        let poison = frame(&[row("refused", 1)]);
        let newer = encode_claim(claim(&[poison.clone(), of_a_newer_version()], &[]), &writer).unwrap_err();
        assert!(matches!(newer, Fault::UnknownFrame(9)), "{newer}");
        let full = encode_claim(claim(&[frame(&[row("disk full", 1)])], &[]), &writer).unwrap_err();
        assert_eq!(full.kind(), "disk");
    }

    #[test]
    fn a_panic_that_does_not_happen_again_condemns_nothing() {
        let panicked = std::cell::Cell::new(false);
        let once = |rows: &[HeartbeatRef<'_>]| {
            assert!(panicked.replace(true), "the first time only");
            writer(rows)
        };
        let encoded = encode_claim(claim(&[frame(&[row("a", 1)])], &[]), &once).unwrap();
        assert_eq!((encoded.condemned, encoded.fragments.len()), (vec![], 1));
    }

    #[test]
    fn a_frame_condemned_whole_stands_for_its_rows() {
        let frames = [frame(&[row("a", 1), row("refused", 2), row("c", 3)])];
        let mut list = encode_claim(claim(&frames, &[]), &writer).unwrap().condemned;
        let whole = condemn_frame(claim(&frames, &list), 0, "it kills").unwrap();
        assert_eq!((whole.row, whole.rows, &whole.bytes), (None, 3, &frames[0]));
        add_condemned(&mut list, whole);
        assert_eq!(places(&list), [(0, None, 3)]);
        assert_eq!(condemn_frame(claim(&frames, &list), 0, "again"), None);
        assert_eq!(encode_claim(claim(&frames, &list), &writer).unwrap().fragments, []);
    }

    #[test]
    fn a_frame_is_judged_alone() {
        let frames = [frame(&[row("refused", 1)]), frame(&[row("a", 1), row("panics", 1)])];
        assert_eq!(places(&judge_frame(claim(&frames, &[]), 1, &writer).unwrap()), [(1, Some(1), 1)]);
        let known = judge_frame(claim(&frames, &[]), 0, &writer).unwrap();
        assert_eq!(judge_frame(claim(&frames, &known), 0, &writer).unwrap(), []);
    }

    proptest! {
        #[test]
        fn whatever_the_frames_hold_no_row_is_lost_and_attempts_agree(
            frames in proptest::collection::vec(
                (proptest::collection::vec((0..7_usize, 0..3 * DAY_MS), 1..5), proptest::bool::weighted(0.2)),
                1..6,
            ),
        ) {
            const USERS: [&str; 7] = ["a", "b", "c", "left", "right", "refused", "panics"];
            let frames: Vec<Bytes> = frames
                .into_iter()
                .map(|(rows, broken)| {
                    let rows: Vec<_> = rows.into_iter().map(|(user, at)| row(USERS[user], at)).collect();
                    if broken { damaged(&rows) } else { frame(&rows) }
                })
                .collect();
            let first = encode_claim(claim(&frames, &[]), &writer).unwrap();
            let written: u64 = first.fragments.iter().map(|(_, fragment)| fragment.rows).sum();
            let condemned: u64 = first.condemned.iter().map(|entry| u64::from(entry.rows)).sum();
            let all: u64 = frames.iter().filter_map(|f| FrameHeader::peek(f)).map(|header| u64::from(header.count)).sum();
            prop_assert_eq!(written + condemned, all);
            let again = encode_claim(claim(&frames, &first.condemned), &writer).unwrap();
            prop_assert_eq!(again.fragments, first.fragments);
            prop_assert!(again.condemned.is_empty());
        }
    }
}
