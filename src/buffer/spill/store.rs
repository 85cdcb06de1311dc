//! What is spilled, on disk: an embedded buffer with one bound for all of its partitions.
//!
//! Constraint: pushes come one after the other, and each looks at what is held before it. So the bound is exact, but for one
//! push that misses its deadline and is written while the next one looks.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytesize::ByteSize;
use tokio::sync::Mutex;

use super::super::embedded::{self, EmbeddedBuffer};
use super::super::options::Options as Common;
use super::super::{Buffer, Error, Inlet, Ledger, Reach, Registration, Result, Room};
use crate::heartbeat::{Frame, Partition};

/// The spill on disk.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) buffer: EmbeddedBuffer,
    max_bytes: u64,
    /// The dataset that it belongs to, once that is known: it never changes.
    known: OnceLock<Registration>,
    pushing: Mutex<()>,
    /// Whether the last that was asked of it was too much.
    full: AtomicBool,
}

impl Store {
    /// Opens the directory, making it if need be.
    ///
    /// # Errors
    /// As [`EmbeddedBuffer::open`].
    pub(super) async fn open(dir: &Path, max_bytes: ByteSize, common: &Common) -> Result<Self> {
        // The bound is one for all, so the partitions get none of their own. Devices are seen when Redis takes the frames.
        let unbounded = Common {
            buffer_max_heartbeats: u64::MAX,
            buffer_max_bytes: ByteSize::b(u64::MAX),
            max_devices: 0,
            ..common.clone()
        };
        let dir = dir.to_owned();
        let opened =
            tokio::task::spawn_blocking(move || EmbeddedBuffer::open(&dir, &unbounded, &embedded::Options::default()));
        let cut_off = |_| Error::Unreachable { reason: "opening the spill was cut off".into() };
        let buffer = opened.await.map_err(cut_off)?.map_err(of_spill)?;
        let known = buffer.registration().await.map_err(of_spill)?.map(OnceLock::from).unwrap_or_default();
        let (pushing, full) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { buffer, max_bytes: max_bytes.as_u64(), known, pushing, full })
    }

    /// Whose heartbeats it keeps; `None` before it was used.
    pub(super) fn registration(&self) -> Option<Registration> {
        self.known.get().copied()
    }

    /// Makes it the spill of a dataset.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) async fn register(&self, registration: Registration) -> Result<()> {
        self.buffer.register(registration).await?;
        let _ = self.known.set(registration);
        Ok(())
    }

    /// Its books.
    pub(super) async fn books(&self) -> Result<Ledger> {
        self.buffer.total().await.map_err(of_spill)
    }

    /// Whether it takes anything at this moment.
    ///
    /// # Errors
    /// Why it does not, in words for people.
    pub(super) async fn takes(&self) -> Result<(), String> {
        if self.registration().is_none() {
            return Err("there is no spill before Redis was seen once".into());
        }
        if self.full.load(Ordering::Relaxed) {
            return Err(format!("the spill is full: it may hold {}", ByteSize::b(self.max_bytes)));
        }
        self.buffer.ping().await.map_err(|error| of_spill(error).to_string())
    }

    /// Forgets that a push was refused for room: it is to be emptied.
    pub(super) fn forget_full(&self) {
        self.full.store(false, Ordering::Relaxed);
    }

    /// As [`Inlet::push`].
    pub(super) async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        let _one_at_a_time = self.pushing.lock().await;
        let held = match self.books().await {
            Ok(books) => books.bytes,
            Err(error) => return vec![Err(error); frames.len()],
        };
        let fits = fitting(frames, self.max_bytes.saturating_sub(held));
        let taken: Vec<_> =
            frames.iter().zip(&fits).filter(|(_, fits)| **fits).map(|(frame, _)| frame.clone()).collect();
        let mut answers = self.buffer.push(&taken).await.into_iter();
        self.full.store(taken.len() < frames.len(), Ordering::Relaxed);
        let unanswered =
            || Err(Error::Corrupt { detail: "the spill answered for other frames than it was given".into() });
        let outcomes = frames.iter().zip(fits).map(|((partition, _), fits)| match fits {
            true => answers.next().unwrap_or_else(unanswered).map_err(of_spill),
            false => Err(Error::Full { partition: *partition }),
        });
        outcomes.collect()
    }

    /// As [`Inlet::room`].
    pub(super) async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let held = self.books().await?.bytes;
        let rooms = rooms(wanted, self.max_bytes.saturating_sub(held));
        if rooms.contains(&Room::Full) {
            self.full.store(true, Ordering::Relaxed);
        }
        Ok(rooms)
    }
}

/// Which of the frames fit into so many bytes together, the first ones first.
fn fitting(frames: &[(Partition, Frame)], mut left: u64) -> Vec<bool> {
    let fits = frames.iter().map(|(_, frame)| {
        let rest = left.checked_sub(frame.bytes().len() as u64);
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    fits.collect()
}

/// Judges loads, each of which is all that its partition would take up to and with it: the partitions share one bound, so
/// what the others take by then counts as well.
fn rooms(wanted: &[(Partition, u64, u64)], left: u64) -> Vec<Room> {
    let mut by_partition = std::collections::BTreeMap::new();
    let mut sum: u64 = 0;
    let rooms = wanted.iter().map(|&(partition, _, bytes)| {
        let known: &mut u64 = by_partition.entry(partition).or_default();
        sum = sum.saturating_add(bytes.saturating_sub(*known));
        *known = bytes.max(*known);
        if sum <= left { Room::Fits } else { Room::Full }
    });
    rooms.collect()
}

/// Says whose fault it is: the embedded buffer does not know that it is a spill.
pub(super) fn of_spill(error: Error) -> Error {
    match error {
        Error::Unsafe { advice } => Error::Unsafe { advice: format!("spill-dir: {advice}") },
        Error::Unreachable { reason } => Error::Unreachable { reason: format!("spill-dir: {reason}") },
        Error::Corrupt { detail } => Error::Corrupt { detail: format!("spill-dir: {detail}") },
        Error::NotRegistered => Error::Unreachable { reason: "spill-dir: it was erased under this process".into() },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::HeartbeatRef;

    fn frame(rows: usize) -> (Partition, Frame) {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 2, attributes: None };
        (0, Frame::encode(vec![row; rows]).unwrap())
    }

    #[test]
    fn frames_fit_up_to_the_last_byte_and_a_small_one_behind_a_large_one() {
        let (small, large) = (frame(1), frame(100));
        let (one, many) = (small.1.bytes().len() as u64, large.1.bytes().len() as u64);
        let frames = [small.clone(), large, small.clone(), small];
        assert_eq!(fitting(&frames, 3 * one + many), [true; 4]);
        assert_eq!(fitting(&frames, 3 * one + many - 1), [true, true, true, false]);
        assert_eq!(fitting(&frames, 2 * one), [true, false, true, false]);
        assert_eq!(fitting(&frames, 0), [false; 4]);
    }

    #[test]
    fn partitions_share_one_bound() {
        use Room::{Fits, Full};
        // Loads of one partition already count what comes before them.
        let wanted = [(0, 1, 10), (1, 1, 10), (0, 2, 20), (1, 1, 15)];
        assert_eq!(rooms(&wanted, 35), [Fits, Fits, Fits, Fits]);
        assert_eq!(rooms(&wanted, 34), [Fits, Fits, Fits, Full]);
        assert_eq!(rooms(&wanted, 20), [Fits, Fits, Full, Full]);
        assert_eq!(rooms(&wanted, 0), [Full; 4]);
    }
}
