//! The devices of one partition, and when each was last seen: in memory whole, and on disk in two ways.
//!
//! Constraints:
//! - What is held is seen: a frame on disk tells its devices itself, so a push writes nothing more for them. They are written
//!   under keys of their own in the batch of the step that lets their frames go, the acknowledgement, once for each device
//!   however often it has beaten. The record says from which frame on devices are not on disk by themselves
//!   (`State::unsaved_from`); opening the store reads those frames again.
//! - So that this stays short, a push writes them as well once the frames behind the mark are many ([`UNSAVED_FRAMES`],
//!   [`UNSAVED_BYTES`]), or their devices ([`UNSAVED_DEVICES`]). An opening unpacks 32 MiB of rows for it, and a push more for
//!   each partition.
//! - Like the record, the roll changes only after the commit.
//!
//! Memory: some 115 bytes for a device with a name of 50, 370 at most; so 11 MB, or 37 MB for ids as long as they may be, for
//! 100,000 devices. Where there are more than a partition's share, the longest unseen go, with a sixty-fourth of the share
//! at a time: looking for them goes through all.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;

use super::super::devices::{self, Memory};
use super::super::{Error, Registration, Result, SeenDevice};
use super::engine::{Engine, Write};
use super::keys;
use super::state::State;
use super::store::Draft;
use crate::heartbeat::{Frame, FrameHeader, Partition, Sighting, Sightings};

/// Frames whose devices may be unsaved, of all partitions together,
const UNSAVED_FRAMES: u64 = 65_536;
/// bytes of their rows, opened, of all partitions together,
const UNSAVED_BYTES: u64 = 32 << 20;
/// and devices of one partition: what one batch writes of them, and a push more.
const UNSAVED_DEVICES: usize = 4_096;
/// Which part of a partition's share is forgotten at a time.
const SLACK: u64 = 64;

type Name = Box<[u8]>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roll {
    devices: BTreeMap<Name, Entry>,
    unsaved: usize,
    /// Forgotten here, and not on disk yet.
    gone: BTreeSet<Name>,
    behind: Behind,
    forgotten: u64,
    /// What was said last.
    memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    last_seen: i64,
    saved: bool,
}

/// Frames whose devices are not on disk by themselves.
#[derive(Debug, Clone, Copy, Default)]
struct Behind {
    frames: u64,
    bytes: u64,
}

/// The devices of frames that a step pushes.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sightings: Vec<Sightings>,
    behind: Behind,
    memory: Option<Memory>,
    /// Whether the step writes what was unsaved before it; and before which time it forgets.
    saves: Option<i64>,
}

impl Behind {
    fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += FrameHeader::peek(frame).map_or(0, |header| u64::from(header.raw));
    }
}

impl Seen {
    pub(super) fn push(&mut self, memory: Memory, frame: &Frame) {
        // Counted also by whoever remembers none: an opening reads all frames behind the mark.
        self.behind.add(frame.bytes());
        if memory.devices > 0 {
            self.memory = Some(memory);
            self.sightings.push(frame.sightings().clone());
        }
    }
}

impl Roll {
    /// Reads it from the disk.
    pub(super) fn load(engine: &Engine, partition: Partition, state: &State) -> Result<Self> {
        let mut roll = Self::default();
        for entry in engine.under(&keys::devices_of(partition)) {
            let (key, time) = entry?;
            let wrong = || Error::Corrupt { detail: "a device that cannot be read".into() };
            let name = keys::read_device(&key).ok_or_else(wrong)?;
            let last_seen = i64::from_be_bytes(time.as_ref().try_into().map_err(|_| wrong())?);
            roll.devices.insert(name.into(), Entry { last_seen, saved: true });
        }
        let Some(unsaved_from) = state.unsaved_from else { return Ok(roll) };
        for frame in engine.frames(partition, unsaved_from.max(state.first)..state.next) {
            match frame {
                Ok(frame) => {
                    roll.behind.add(&frame);
                    roll.see_all(&Frame::sightings_in(&frame));
                }
                // The claim that takes it will say so; what is left of the roll is right.
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::warn!(%error, "devices of frames that are gone may look unseen");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(roll)
    }

    /// Devices that are remembered.
    pub(super) fn len(&self) -> u64 {
        self.devices.len() as u64
    }

    /// Devices that were forgotten for want of room.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Adds what is unsaved to what the step writes, where it lets frames go whose devices would be lost with them, or where
    /// there is much of it. `before` is the record before the step.
    pub(super) fn save(&self, draft: &mut Draft<'_>, before: &State) {
        if draft.state.unsaved_from.is_none() && !draft.seen.sightings.is_empty() {
            draft.state.unsaved_from = Some(before.next);
        }
        let Some(from) = draft.state.unsaved_from else { return };
        let lets_go = draft.state.first > from;
        if !lets_go && !self.is_far_behind(before.registration) {
            return;
        }
        // What this step pushes is taken in after it.
        draft.state.unsaved_from = Some(before.next);
        let since = self.memory.map_or(i64::MIN, |memory| memory.since());
        draft.seen.saves = Some(since);
        let partition = draft.partition;
        // One that came back is put: a batch must not hold a key twice.
        let gone = self.gone.iter().filter(|name| !self.devices.contains_key(*name));
        draft.writes.extend(gone.map(|name| Write::Remove(keys::device(partition, name))));
        let old = |entry: &Entry| entry.last_seen < since;
        let changed = self.devices.iter().filter(|(_, entry)| !entry.saved || old(entry));
        draft.writes.extend(changed.map(|(name, entry)| match keys::device(partition, name) {
            key if old(entry) => Write::Remove(key),
            key => Write::Put(key, entry.last_seen.to_be_bytes().into()),
        }));
    }

    fn is_far_behind(&self, registration: Registration) -> bool {
        let partitions = u64::from(registration.partitions.max(1));
        self.behind.frames > UNSAVED_FRAMES / partitions
            || self.behind.bytes > UNSAVED_BYTES / partitions
            || self.unsaved + self.gone.len() > UNSAVED_DEVICES
    }

    /// Takes in what a step did, once that is on disk.
    pub(super) fn take_in(&mut self, seen: Seen) {
        if let Some(since) = seen.saves {
            self.gone.clear();
            (self.unsaved, self.behind) = (0, Behind::default());
            self.devices.retain(|_, entry| entry.last_seen >= since);
            self.devices.values_mut().for_each(|entry| entry.saved = true);
        }
        self.behind.frames += seen.behind.frames;
        self.behind.bytes += seen.behind.bytes;
        self.memory = seen.memory.or(self.memory);
        for sightings in &seen.sightings {
            self.see_all(sightings);
        }
    }

    fn see_all(&mut self, sightings: &Sightings) {
        sightings.iter().for_each(|sighting| self.see(sighting));
        if let Some(memory) = self.memory
            && self.len() > memory.devices
        {
            self.forget_longest_unseen(memory.devices - memory.devices / SLACK);
        }
    }

    fn see(&mut self, Sighting { name, last_seen }: Sighting<'_>) {
        match self.devices.get_mut(name) {
            Some(entry) if entry.last_seen >= last_seen => {}
            Some(entry) => {
                entry.last_seen = last_seen;
                self.unsaved += usize::from(std::mem::replace(&mut entry.saved, false));
            }
            None => {
                self.devices.insert(name.into(), Entry { last_seen, saved: false });
                self.unsaved += 1;
            }
        }
    }

    fn forget_longest_unseen(&mut self, left: u64) {
        let most = usize::try_from(self.len().saturating_sub(left)).unwrap_or(usize::MAX);
        let mut all: Vec<(i64, &Name)> = self.devices.iter().map(|(name, entry)| (entry.last_seen, name)).collect();
        if most < all.len() {
            all.select_nth_unstable(most);
        }
        let gone: Vec<Name> = all.into_iter().take(most).map(|(_, name)| name.clone()).collect();
        for name in &gone {
            if self.devices.remove(name).is_some_and(|entry| !entry.saved) {
                self.unsaved -= 1;
            }
        }
        self.forgotten += gone.len() as u64;
        self.gone.extend(gone);
    }

    /// See [`Devices::devices_of`](super::super::Devices::devices_of).
    pub(super) fn of(&self, user_id: &str, after: Option<&str>, limit: usize, since: i64) -> Vec<SeenDevice> {
        let from = after.map_or_else(
            || Bound::Included(devices::name(user_id, "")),
            |after| Bound::Excluded(devices::name(user_id, after)),
        );
        let prefix = devices::name(user_id, "");
        let found = self.devices.range::<[u8], _>((from.as_ref().map(Vec::as_slice), Bound::Unbounded));
        let own = found.take_while(|(name, _)| name.starts_with(&prefix));
        let remembered = own.filter(|(_, entry)| entry.last_seen >= since);
        remembered.filter_map(|(name, entry)| devices::read(name, entry.last_seen)).take(limit).collect()
    }

    /// When a device was last seen.
    pub(super) fn last_seen(&self, user_id: &str, device_id: &str) -> Option<i64> {
        self.devices.get(&devices::name(user_id, device_id)[..]).map(|entry| entry.last_seen)
    }

    /// See [`Devices::devices_unseen`](super::super::Devices::devices_unseen).
    pub(super) fn unseen(&self, before: i64, after: Option<&SeenDevice>, limit: usize, since: i64) -> Vec<SeenDevice> {
        let after = after.map(|device| (device.last_seen, devices::name(&device.user_id, &device.device_id)));
        let after = after.as_ref().map(|(last_seen, name)| (*last_seen, name.as_slice()));
        // The longest unseen of those met so far, the one to give way first on top.
        let mut found: BinaryHeap<(i64, &[u8])> = BinaryHeap::with_capacity(limit + 1);
        for (name, Entry { last_seen, .. }) in &self.devices {
            let place = (*last_seen, &name[..]);
            if *last_seen < since || *last_seen >= before || after.is_some_and(|after| place <= after) {
                continue;
            }
            found.push(place);
            if found.len() > limit {
                found.pop();
            }
        }
        let sorted = found.into_sorted_vec();
        sorted.into_iter().filter_map(|(last_seen, name)| devices::read(name, last_seen)).collect()
    }

    /// A page of names, those behind `after`, for a move to another buffer.
    pub(super) fn page(&self, after: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, i64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.devices.range::<[u8], _>((from, Bound::Unbounded)).take(limit);
        found.map(|(name, entry)| (name.to_vec(), entry.last_seen)).collect()
    }
}
