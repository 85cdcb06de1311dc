//! Which devices some heartbeats are of, and when each of them was last seen.
//!
//! A device is seen at the `timestamp` of its heartbeat, or at its arrival where that was earlier: a clock ahead of the server's
//! makes nobody look alive for longer. Of several heartbeats the latest counts, so sightings can be put together in any order,
//! and twice.
//!
//! Constraint: every heartbeat passes here, and most of a request are of few devices. So each is compared with the last
//! one first, then with a few, and only a request of many devices pays for a table.
//!
//! Layout of the packed form, little-endian, without gaps: `last_seen` i64, length of the name u16, the name. A name is
//! `user_id`, NUL, `device_id`: neither holds control characters, so names sort as (user, device) do.

use std::collections::HashMap;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::record::HeartbeatRef;

const TIME: usize = 8;
const HEAD: usize = TIME + 2;
/// So many devices are looked through one by one; a table is made for more.
const FEW: usize = 8;

/// The distinct devices of some heartbeats, each with the time at which it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sightings {
    packed: Bytes,
    count: u32,
}

/// A device, and when it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting<'a> {
    /// `user_id`, NUL, `device_id`.
    pub name: &'a [u8],
    /// Ms since the Unix epoch.
    pub last_seen: i64,
}

impl Sightings {
    /// Those of some heartbeats.
    pub fn of<'a>(heartbeats: impl IntoIterator<Item = HeartbeatRef<'a>>) -> Self {
        let mut gathered = Gathered::default();
        heartbeats.into_iter().for_each(|heartbeat| gathered.see(&heartbeat));
        gathered.end().into()
    }

    /// How many devices there are.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each device.
    pub fn iter(&self) -> impl Iterator<Item = Sighting<'_>> {
        walk(&self.packed).map(|(_, sighting)| sighting)
    }
}

/// Sightings of a block: as [`Sightings`], and never shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: u32,
}

impl Packed {
    /// Bytes of memory that they take.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl From<Packed> for Sightings {
    fn from(packed: Packed) -> Self {
        Self { packed: packed.bytes.into(), count: packed.count }
    }
}

/// Sightings while they come together.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    packed: Packed,
    /// Where the device begins that was met last.
    last: usize,
    /// Where each device begins, by the hash of its name, once there are more than a few. Two names of one hash: the second
    /// is added each time that it is met, which only takes room.
    places: HashMap<u64, usize>,
}

impl Gathered {
    /// Takes in a heartbeat.
    pub(super) fn see(&mut self, heartbeat: &HeartbeatRef<'_>) {
        let last_seen = heartbeat.timestamp.min(heartbeat.received_at);
        let (user, device) = (heartbeat.user_id.as_bytes(), heartbeat.device_id.as_bytes());
        if is_of(&self.packed.bytes, self.last, user, device) {
            return self.raise(self.last, last_seen);
        }
        let at = self.packed.bytes.len();
        self.packed.bytes.reserve(HEAD + user.len() + 1 + device.len());
        self.packed.bytes.extend_from_slice(&last_seen.to_le_bytes());
        // Validation bounds both by 128 bytes.
        self.packed.bytes.extend_from_slice(&((user.len() + 1 + device.len()) as u16).to_le_bytes());
        self.packed.bytes.extend_from_slice(user);
        self.packed.bytes.push(0);
        self.packed.bytes.extend_from_slice(device);
        self.settle(at, last_seen);
    }

    /// Takes in what was packed before.
    pub(super) fn add(&mut self, other: &Packed) {
        if self.packed.count == 0 {
            self.packed.bytes.reserve(other.bytes.len());
        }
        for (_, Sighting { name, last_seen }) in walk(&other.bytes) {
            let at = self.packed.bytes.len();
            self.packed.bytes.extend_from_slice(&last_seen.to_le_bytes());
            self.packed.bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            self.packed.bytes.extend_from_slice(name);
            self.settle(at, last_seen);
        }
    }

    pub(super) fn end(self) -> Packed {
        self.packed
    }

    /// Keeps the entry that was written at `at`, behind all others, unless its device is there.
    fn settle(&mut self, at: usize, last_seen: i64) {
        match self.find(at) {
            Some(known) => {
                self.packed.bytes.truncate(at);
                self.raise(known, last_seen);
            }
            None => {
                self.packed.count += 1;
                self.last = at;
            }
        }
    }

    /// Where the device of the entry at `at` stands already.
    fn find(&mut self, at: usize) -> Option<usize> {
        let (before, own) = self.packed.bytes.split_at(at);
        let name = own.get(HEAD..)?;
        if self.packed.count as usize <= FEW {
            return walk(before).find(|(_, known)| known.name == name).map(|(place, _)| place);
        }
        if self.places.is_empty() {
            self.places = walk(before).map(|(place, known)| (xxh3_64(known.name), place)).collect();
        }
        let known = *self.places.entry(xxh3_64(name)).or_insert(at);
        // At `at` stands the new one itself.
        walk(before.get(known..)?).next().filter(|(_, found)| found.name == name).map(|_| known)
    }

    fn raise(&mut self, at: usize, last_seen: i64) {
        self.last = at;
        if let Some(time) = self.packed.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<TIME>) {
            *time = i64::from_le_bytes(*time).max(last_seen).to_le_bytes();
        }
    }
}

/// Whether the entry at `at` is of this device.
fn is_of(packed: &[u8], at: usize, user: &[u8], device: &[u8]) -> bool {
    let length = user.len() + 1 + device.len();
    let Some((head, name)) = packed.get(at..).and_then(|entry| entry.split_at_checked(HEAD)) else { return false };
    head[TIME..] == (length as u16).to_le_bytes()
        && name.get(..user.len()) == Some(user)
        && name.get(user.len()) == Some(&0)
        && name.get(user.len() + 1..length) == Some(device)
}

/// Each entry, and where it begins.
fn walk(packed: &[u8]) -> impl Iterator<Item = (usize, Sighting<'_>)> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        let place = packed.len() - rest.len();
        let (time, behind) = rest.split_first_chunk::<TIME>()?;
        let (length, behind) = behind.split_first_chunk()?;
        let (name, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
        rest = behind;
        Some((place, Sighting { name, last_seen: i64::from_le_bytes(*time) }))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn beat<'a>(user_id: &'a str, device_id: &'a str, timestamp: i64, received_at: i64) -> HeartbeatRef<'a> {
        HeartbeatRef { user_id, device_id, timestamp, received_at, id: None, attributes: None }
    }

    fn named(sightings: &Sightings) -> BTreeMap<Vec<u8>, i64> {
        let all: BTreeMap<_, _> = sightings.iter().map(|seen| (seen.name.to_vec(), seen.last_seen)).collect();
        assert_eq!(all.len(), sightings.count(), "each device once");
        all
    }

    #[test]
    fn a_device_is_seen_at_its_time_or_at_its_arrival_where_that_was_earlier() {
        let seen = Sightings::of([beat("u", "late", 5, 9), beat("u", "ahead", 12, 9), beat("u", "late", 4, 10)]);
        let expected = [(b"u\0ahead".to_vec(), 9), (b"u\0late".to_vec(), 5)];
        assert_eq!(named(&seen), expected.into());
        assert!(Sightings::of([]).is_empty());
    }

    #[test]
    fn neighbours_are_told_apart_though_their_names_run_into_each_other() {
        let seen = Sightings::of([beat("a", "bc", 1, 9), beat("ab", "c", 2, 9), beat("abc", "", 3, 9)]);
        assert_eq!(seen.count(), 3);
    }

    proptest! {
        #[test]
        fn of_each_device_the_latest_counts_however_they_are_put_together(
            parts in prop::collection::vec(prop::collection::vec((0..40_u8, 0..3_u8, 0..50_i64, 0..50_i64), 0..60), 1..5),
        ) {
            let mut expected = BTreeMap::new();
            let mut joined = Gathered::default();
            for part in &parts {
                let mut gathered = Gathered::default();
                for (user, device, time, arrival) in part {
                    let (user, device) = (format!("user-{user}"), format!("{device}"));
                    gathered.see(&beat(&user, &device, *time, *arrival));
                    let name = [user.as_bytes(), b"\0", device.as_bytes()].concat();
                    let latest = expected.entry(name).or_insert(i64::MIN);
                    *latest = (*latest).max(*time.min(arrival));
                }
                joined.add(&gathered.end());
            }
            prop_assert_eq!(named(&joined.end().into()), expected);
        }
    }
}
