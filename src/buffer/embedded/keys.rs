//! The keys of the store. They are its format: changing one is a new [`FORMAT`].
//!
//! Numbers are big-endian, so that keys sort as their numbers do.
//!
//! | keyspace | key                                                    | holds                                                |
//! | -------- | ------------------------------------------------------ | ---------------------------------------------------- |
//! | `frames` | partition u16, sequence u64                            | a frame, pending or claimed: the record tells which  |
//! | `books`  | `f`                                                    | the number of the format, as text                    |
//! | `books`  | `t`                                                    | nothing                                              |
//! | `books`  | `m`                                                    | JSON, while or after it is moved to another buffer   |
//! | `books`  | `p`, partition u16                                     | the partition's record (`state.rs`), JSON            |
//! | `books`  | `c`, partition u16, frame u32, 0 or row + 1 as u64     | what the standing claim condemned: a letter          |
//! | `books`  | `d`, partition u16, the letter's id as text            | a dead letter; ids sort by age                       |
//! | `books`  | `k`, six bytes of the token's id                       | the record of a token (`token/`), JSON               |
//! | `books`  | `v`                                                    | the version of the tokens, as text                   |
//! | `books`  | `a`                                                    | who is raised how often, and the rules: JSON (`alarms.rs`) |
//! | `books`  | `r`, rule, user and device, a line feed between        | a raised device: event, last seen, raised at         |
//! | `books`  | `o`, number u64                                        | an event to be delivered, JSON                       |
//! | `books`  | `s`, partition u16, the device's name (`devices.rs`)   | when it was last seen: ms as i64 (`roll.rs`)         |
//!
//! A binary of format 1 from before devices leaves `s` alone; what it takes in meanwhile is seen by nobody.

use std::ops::Range;

use super::super::{DeadLetterId, Error, Result};
use crate::heartbeat::Partition;
use crate::token::TokenId;

/// The format that this binary writes, and the only one that it reads.
pub(super) const FORMAT: &str = "1";
/// Where it stands.
pub(super) const FORMAT_KEY: &[u8] = b"f";

/// Says nothing: written to have something written.
pub(super) const TIDIED_KEY: &[u8] = b"t";

/// Says that the buffer is being moved, or was: the move's id, and the target once that is settled.
pub(super) const MOVE_KEY: &[u8] = b"m";

/// What goes with the raised devices and the outbox.
pub(super) const ALARMS_KEY: &[u8] = b"a";

/// All raised devices.
pub(super) const RAISED: &[u8] = b"r";

/// A raised device.
pub(super) fn raised(key: &str) -> Vec<u8> {
    [RAISED, key.as_bytes()].concat()
}

/// The raised devices behind `after`, or all.
pub(super) fn raised_after(after: Option<&str>) -> Range<Vec<u8>> {
    let from = after.map_or_else(|| RAISED.to_vec(), |key| [&raised(key)[..], &[0]].concat());
    // Keys are text, so this lies behind all of them.
    from..[RAISED, &[0xff]].concat()
}

/// All events that wait to be delivered.
pub(super) const OUTBOX: &[u8] = b"o";

/// An event that waits to be delivered.
pub(super) fn queued(number: u64) -> Vec<u8> {
    [OUTBOX, &number.to_be_bytes()].concat()
}

/// The number of an event's key. `None` for what is no such key.
pub(super) fn read_queued(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(OUTBOX)?.try_into().ok()?))
}

/// The events behind the one of this number, or all.
pub(super) fn queued_after(after: Option<u64>) -> Range<Vec<u8>> {
    queued(after.map_or(0, |number| number.saturating_add(1)))..queued(u64::MAX)
}

/// All tokens.
pub(super) const TOKENS: &[u8] = b"k";

/// Says which state of the tokens this is.
pub(super) const TOKENS_VERSION_KEY: &[u8] = b"v";

/// A token.
pub(super) fn token(id: TokenId) -> Vec<u8> {
    [TOKENS, &id.to_bytes()].concat()
}

/// The id of a token's key. `None` for what is no such key.
pub(super) fn read_token(key: &[u8]) -> Option<TokenId> {
    Some(TokenId::from_bytes(key.strip_prefix(TOKENS)?.try_into().ok()?))
}

/// A frame.
pub(super) fn frame(partition: Partition, sequence: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The partition and sequence of a frame's key. `None` for what is no such key.
pub(super) fn read_frame(key: &[u8]) -> Option<(Partition, u64)> {
    let (partition, sequence) = key.split_at_checked(2)?;
    Some((u16::from_be_bytes(partition.try_into().ok()?), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// All records of partitions.
pub(super) const RECORDS: &[u8] = b"p";

/// A partition's record.
pub(super) fn record(partition: Partition) -> Vec<u8> {
    tagged(b'p', partition)
}

/// All that the standing claim of a partition condemned.
pub(super) fn condemned_of(partition: Partition) -> Vec<u8> {
    tagged(b'c', partition)
}

/// A frame of the standing claim that is condemned, or one row of it.
pub(super) fn condemned(partition: Partition, (frame, row): (u32, Option<u32>)) -> Vec<u8> {
    let mut key = condemned_of(partition);
    key.extend_from_slice(&frame.to_be_bytes());
    // The whole frame comes before its rows.
    key.extend_from_slice(&row.map_or(0, |row| u64::from(row) + 1).to_be_bytes());
    key
}

/// What the standing claim of a partition condemned behind `after`, or all.
pub(super) fn condemned_after(partition: Partition, after: Option<(u32, Option<u32>)>) -> Range<Vec<u8>> {
    let mut from = after.map_or_else(|| condemned_of(partition), |place| condemned(partition, place));
    if after.is_some() {
        from.push(0);
    }
    // Longer than any key of these, and at the highest place there can be.
    let mut to = condemned_of(partition);
    to.extend_from_slice(&[0xff; 13]);
    from..to
}

/// The frame and row of a condemned entry's key.
pub(super) fn read_condemned(key: &[u8]) -> Result<(u32, Option<u32>)> {
    let wrong = || Error::Corrupt { detail: "a condemned entry under a key that cannot be read".into() };
    let (frame, row) = key.get(3..).and_then(|place| place.split_at_checked(4)).ok_or_else(wrong)?;
    let frame = u32::from_be_bytes(frame.try_into().map_err(|_| wrong())?);
    let row = u64::from_be_bytes(row.try_into().map_err(|_| wrong())?);
    let row = row.checked_sub(1).map(u32::try_from).transpose().map_err(|_| wrong())?;
    Ok((frame, row))
}

/// A dead letter.
pub(super) fn dead(partition: Partition, id: DeadLetterId) -> Vec<u8> {
    let mut key = tagged(b'd', partition);
    key.extend_from_slice(id.to_string().as_bytes());
    key
}

/// The dead letters of a partition behind `after`, or all.
pub(super) fn dead_after(partition: Partition, after: Option<DeadLetterId>) -> Range<Vec<u8>> {
    let mut from = after.map_or_else(|| tagged(b'd', partition), |id| dead(partition, id));
    if after.is_some() {
        from.push(0);
    }
    // Ids are hexadecimal text, so this lies behind all of them.
    let mut to = tagged(b'd', partition);
    to.push(0xff);
    from..to
}

/// The devices of a partition.
pub(super) fn devices_of(partition: Partition) -> Vec<u8> {
    tagged(b's', partition)
}

/// A device.
pub(super) fn device(partition: Partition, name: &[u8]) -> Vec<u8> {
    let mut key = devices_of(partition);
    key.extend_from_slice(name);
    key
}

/// The name in a device's key.
pub(super) fn read_device(key: &[u8]) -> Option<&[u8]> {
    key.get(3..)
}

fn tagged(tag: u8, partition: Partition) -> Vec<u8> {
    let [high, low] = partition.to_be_bytes();
    vec![tag, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_what_they_stand_for() {
        let frames = [(0, 1), (0, 255), (0, 256), (1, 0), (256, 0)].map(|(p, s)| frame(p, s));
        assert!(frames.is_sorted());
        assert_eq!(read_frame(&frames[2]), Some((0, 256)));
        assert_eq!(read_frame(b"short"), None);
        let places = [(0, None), (0, Some(0)), (0, Some(u32::MAX)), (1, None), (256, Some(7))];
        let keys = places.map(|place| condemned(3, place));
        assert!(keys.is_sorted());
        for (place, after) in places.iter().zip(&keys[1..]) {
            let behind = condemned_after(3, Some(*place));
            assert!(behind.contains(after) && !behind.contains(&condemned(3, *place)));
        }
        assert!(condemned_after(3, None).contains(&condemned(3, (u32::MAX, Some(u32::MAX)))));
        assert!(!condemned_after(3, None).contains(&condemned(4, (0, None))));
        assert_eq!(keys.map(|key| read_condemned(&key).unwrap()), places);
    }

    #[test]
    fn the_letters_of_a_partition_are_its_own() {
        let (one, two) = (DeadLetterId::new(), DeadLetterId::new());
        assert!(dead_after(7, None).contains(&dead(7, one)));
        assert!(!dead_after(7, None).contains(&dead(8, one)));
        assert!(!dead_after(7, None).contains(&dead(6, one)));
        assert!(!dead_after(7, Some(one)).contains(&dead(7, one)));
        assert!(dead_after(7, Some(one.min(two))).contains(&dead(7, one.max(two))));
    }

    #[test]
    fn a_token_is_found_under_its_id() {
        let id = TokenId::from_bytes([0, 1, 0xff, 3, 4, 5]);
        assert_eq!(read_token(&token(id)), Some(id));
        for key in [&b""[..], b"k", b"k12345", b"k1234567", b"p123456"] {
            assert_eq!(read_token(key), None);
        }
    }

    #[test]
    fn raised_devices_and_events_are_listed_from_where_a_page_ended() {
        let devices = ["a\nb\nc", "a\nb\nc\u{1}", "a\nb\n\u{10ffff}"];
        assert!(devices.iter().all(|key| raised_after(None).contains(&raised(key))));
        assert!(!raised_after(Some(devices[0])).contains(&raised(devices[0])));
        assert!(raised_after(Some(devices[0])).contains(&raised(devices[1])));
        assert!(queued_after(Some(255)).contains(&queued(256)) && !queued_after(Some(255)).contains(&queued(255)));
        assert_eq!((read_queued(&queued(7)), read_queued(b"o"), read_queued(b"p12345678")), (Some(7), None, None));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for key in [&b""[..], b"c", b"c\0\0", b"c\0\0\0\0\0\0", b"c\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(read_condemned(key).is_err());
        }
    }
}
