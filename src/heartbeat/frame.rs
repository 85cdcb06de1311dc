//! The frame: some heartbeats of one partition, encoded together; one element of a buffer list.
//!
//! Constraints: a frame can be counted without being decoded (the buffer's scripts do), damage is found before a row is
//! read, and a frame of a version that this binary does not know is told apart from a damaged one.
//!
//! Layout, little-endian, without gaps:
//!
//! ```text
//! offset  size  field
//!      0     1  version               2
//!      1     4  count                 heartbeats in the frame, at least 1
//!      5     4  length                bytes of the payload
//!      9     8  checksum              xxh3_64 of the whole frame without these 8 bytes
//!     17     8  oldest                the smallest received_at, ms since the Unix epoch
//!     25     4  raw                   bytes of its rows once all blocks are opened: the measure of a claim's memory
//!     29     …  payload               blocks (see `block.rs`) that hold `count` rows
//! ```
//!
//! The first four fields stand so in every version to come; that is how an unknown version is told from a damaged frame.
//! Version 1, which is still read, has no `raw`: its payload, at 25, is the rows as they are.

use std::borrow::Cow;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::block::{Block, open_all, take_row};
use super::record::HeartbeatRef;
use super::sighting::{Gathered, Sightings};

/// The version that this binary writes, and the newest that it reads.
pub const FRAME_VERSION: u8 = 2;
/// Bytes before the payload of a frame that this binary writes.
pub const FRAME_HEADER_LEN: usize = 29;
/// Rows of a frame may take so many bytes at most once they are opened. What is written stays far below.
pub const MAX_FRAME_RAW: usize = 32 << 20;

const HEADER_LEN_V1: usize = 25;
const CHECKSUM_AT: usize = 9;
const CHECKSUM_END: usize = 17;
const RAW_AT: usize = 25;
/// LZ4 packs up to so many bytes into one.
const MOST_PACKED: usize = 256;

/// Why a frame cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header, or not as long as its header says.
    #[error("truncated: {have} bytes where {want} were expected")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// The content does not match the checksum.
    #[error("damaged: the checksum does not match")]
    Checksum,
    /// Whole, but written by a newer Systole. Not a fault of the data: a newer binary can read it.
    #[error("format version {0} is newer than this binary knows")]
    UnknownVersion(u8),
    /// Whole and of a known version, but its rows cannot be unpacked.
    #[error("its payload cannot be opened: {reason}")]
    Payload {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Whole and of a known version, but row `row` makes no sense.
    #[error("row {row} cannot be decoded: {reason}")]
    Row {
        /// Index of the row.
        row: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// One encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    rows: u32,
    /// Not in its bytes: whoever holds the frame keeps them beside it.
    sightings: Sightings,
}

impl Frame {
    /// A frame of these blocks. `None` for none of them: an empty frame does not exist.
    pub fn of(blocks: &[Block]) -> Option<Self> {
        let rows = blocks.iter().map(Block::rows).sum();
        if rows == 0 {
            return None;
        }
        let length = blocks.iter().map(Block::stored_len).sum::<usize>();
        let raw = blocks.iter().map(Block::raw_len).sum::<usize>();
        let mut bytes = Vec::with_capacity(FRAME_HEADER_LEN + length);
        bytes.push(FRAME_VERSION);
        bytes.extend_from_slice(&u32::to_le_bytes(rows));
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; CHECKSUM_END - CHECKSUM_AT]);
        let oldest = blocks.iter().map(Block::oldest).min().unwrap_or_default();
        bytes.extend_from_slice(&oldest.to_le_bytes());
        bytes.extend_from_slice(&(raw as u32).to_le_bytes());
        blocks.iter().for_each(|block| bytes.extend_from_slice(block.bytes()));
        let checksum = checksum(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&checksum.to_le_bytes());
        Some(Self { bytes: bytes.into(), rows, sightings: sightings_of(blocks) })
    }

    /// Encodes heartbeats that passed validation. `None` for none of them.
    pub fn encode<'a>(heartbeats: impl IntoIterator<Item = HeartbeatRef<'a>>) -> Option<Self> {
        Self::of(&Block::encode(heartbeats))
    }

    /// A frame that was encoded before, by this version or a newer one: to be handed on as it is.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] or [`FrameError::Checksum`]: it is not what was encoded.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, FrameError> {
        let rows = match FrameHeader::verify(&bytes) {
            Ok(header) => header.count,
            // Whole by its checksum, so the fields that every version has hold what was written.
            Err(FrameError::UnknownVersion(_)) => FrameHeader::peek(&bytes).map_or(0, |header| header.count),
            Err(error) => return Err(error),
        };
        let sightings = Self::sightings_in(&bytes);
        Ok(Self { bytes, rows, sightings })
    }

    /// The devices of an encoded frame, by its rows: none where they cannot be read, and up to the first one that cannot.
    pub fn sightings_in(bytes: &[u8]) -> Sightings {
        OpenFrame::open(bytes).map(|open| Sightings::of(open.rows().map_while(Result::ok))).unwrap_or_default()
    }

    /// The encoded frame.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Heartbeats in it.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The devices in it.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }
}

fn sightings_of(blocks: &[Block]) -> Sightings {
    match blocks {
        [only] => only.sightings().clone().into(),
        _ => {
            let mut gathered = Gathered::default();
            blocks.iter().for_each(|block| gathered.add(block.sightings()));
            gathered.end().into()
        }
    }
}

/// Of all but the checksum itself. What is too short to have one has no other content either.
fn checksum(frame: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(frame.get(..CHECKSUM_AT).unwrap_or_default());
    hash.update(frame.get(CHECKSUM_END..).unwrap_or_default());
    hash.digest()
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Format version.
    pub version: u8,
    /// Heartbeats in the frame. Zero never passes [`FrameHeader::verify`].
    pub count: u32,
    /// Bytes of the payload.
    pub length: u32,
    /// Bytes of the rows once they are opened; for a version that this binary does not know, of the frame.
    pub raw: u32,
}

impl FrameHeader {
    /// Reads the header without judging the frame, as the buffer's scripts do. `None` when there is no whole header.
    pub fn peek(frame: &[u8]) -> Option<Self> {
        let version = *frame.first()?;
        let count = u32::from_le_bytes(array(frame, 1)?);
        let length = u32::from_le_bytes(array(frame, 5)?);
        let raw = match version {
            1 => length,
            FRAME_VERSION => u32::from_le_bytes(array(frame, RAW_AT)?),
            _ => u32::try_from(frame.len()).unwrap_or(u32::MAX),
        };
        Some(Self { version, count, length, raw })
    }

    /// The same for what may be anything: `None` for what no push has written, by the look of it.
    pub fn plausible(frame: &[u8]) -> Option<Self> {
        Self::peek(frame).filter(|header| {
            let (size, length) = (frame.len(), header.length as usize);
            let whole = header.header_len().is_none_or(|header_len| header_len.checked_add(length) == Some(size));
            header.version != 0
                && header.count >= 1
                && header.count as usize <= length.saturating_mul(MOST_PACKED)
                && length < size
                && whole
        })
    }

    /// Bytes before the payload, of a version that this binary knows.
    fn header_len(&self) -> Option<usize> {
        match self.version {
            1 => Some(HEADER_LEN_V1),
            FRAME_VERSION => Some(FRAME_HEADER_LEN),
            _ => None,
        }
    }

    /// Reads the header and checks the whole frame against it.
    ///
    /// # Errors
    /// [`FrameError::Truncated`], [`FrameError::Checksum`] or [`FrameError::UnknownVersion`].
    pub fn verify(frame: &[u8]) -> Result<Self, FrameError> {
        let truncated = |want| FrameError::Truncated { have: frame.len(), want };
        let header = Self::peek(frame).ok_or_else(|| truncated(FRAME_HEADER_LEN))?;
        let want = header.header_len().map(|header_len| header_len + header.length as usize);
        let sum = array(frame, CHECKSUM_AT).map(u64::from_le_bytes);
        if sum != Some(checksum(frame)) {
            let cut = want.filter(|&want| frame.len() < want);
            return Err(cut.map_or(FrameError::Checksum, truncated));
        }
        match want {
            None => Err(FrameError::UnknownVersion(header.version)),
            Some(want) if want != frame.len() => Err(truncated(want)),
            Some(_) => Ok(header),
        }
    }
}

/// A frame whose rows can be read.
#[derive(Debug)]
pub struct OpenFrame<'a> {
    rows: Cow<'a, [u8]>,
    count: usize,
}

impl<'a> OpenFrame<'a> {
    /// Checks the frame and unpacks its rows.
    ///
    /// # Errors
    /// Those of [`FrameHeader::verify`], and [`FrameError::Payload`].
    pub fn open(frame: &'a [u8]) -> Result<Self, FrameError> {
        let header = FrameHeader::verify(frame)?;
        let count = header.count as usize;
        if header.version == 1 {
            return Ok(Self { rows: Cow::Borrowed(&frame[HEADER_LEN_V1..]), count });
        }
        let raw = header.raw as usize;
        if raw > MAX_FRAME_RAW {
            return Err(FrameError::Payload { reason: "it is too large" });
        }
        let mut rows = Vec::with_capacity(raw);
        open_all(&frame[FRAME_HEADER_LEN..], &mut rows, raw).map_err(|reason| FrameError::Payload { reason })?;
        Ok(Self { rows: Cow::Owned(rows), count })
    }

    /// Its rows, from the first on.
    pub fn rows(&self) -> FrameRows<'_> {
        FrameRows { rest: &self.rows, next: 0, count: self.count }
    }

    /// All rows, or the first fault.
    ///
    /// # Errors
    /// [`FrameError::Row`].
    pub fn all_rows(&self) -> Result<Vec<HeartbeatRef<'_>>, FrameError> {
        self.rows().collect()
    }
}

/// The heartbeats of a frame.
///
/// Yields a [`FrameError::Row`] and then ends where a row makes no sense: behind it no row boundary can be trusted.
#[derive(Debug, Clone)]
pub struct FrameRows<'a> {
    rest: &'a [u8],
    next: usize,
    count: usize,
}

impl<'a> Iterator for FrameRows<'a> {
    type Item = Result<HeartbeatRef<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next;
        if row >= self.count {
            // One error for what stands behind the last row, then the end.
            if row == self.count && !self.rest.is_empty() {
                self.next = self.count + 1;
                return Some(Err(FrameError::Row { row, reason: "bytes follow the last row" }));
            }
            return None;
        }
        let taken = take_row(&mut self.rest);
        self.next = if taken.is_ok() { row + 1 } else { self.count + 1 };
        Some(taken.map_err(|reason| FrameError::Row { row, reason }))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::Heartbeat;
    use super::*;

    fn heartbeat() -> impl Strategy<Value = Heartbeat> {
        let name = "[a-zé🦀0-9/.]{1,20}";
        let attributes = proptest::option::of(r#"\{"k":"[a-z]{0,300}"\}"#);
        (name, name, any::<i64>(), proptest::option::of("[a-z]{1,64}"), any::<i64>(), attributes).prop_map(
            |(user_id, device_id, timestamp, id, received_at, attributes)| Heartbeat {
                user_id,
                device_id,
                timestamp,
                id,
                received_at,
                attributes,
            },
        )
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(rows in proptest::collection::vec(heartbeat(), 1..20)) {
            let frame = Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap();
            prop_assert_eq!(frame.rows() as usize, rows.len());
            let open = OpenFrame::open(frame.bytes()).unwrap();
            prop_assert_eq!(open.all_rows().unwrap(), rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>());
        }

        #[test]
        fn no_flipped_bit_goes_unnoticed(rows in proptest::collection::vec(heartbeat(), 1..4), at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap().bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let error = OpenFrame::open(&bytes).unwrap_err();
            prop_assert!(!matches!(error, FrameError::UnknownVersion(_)), "damage must not pass for a newer format");
        }

        #[test]
        fn a_frame_is_handed_on_as_it_is_unless_it_is_damaged(rows in proptest::collection::vec(heartbeat(), 1..4), at: prop::sample::Index, bit in 0..8_u8) {
            let frame = Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap();
            prop_assert_eq!(Frame::from_bytes(frame.bytes().clone()).unwrap(), frame.clone());
            let mut bytes = frame.bytes().to_vec();
            bytes[0] = FRAME_VERSION + 1;
            let sum = checksum(&bytes);
            bytes[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&sum.to_le_bytes());
            prop_assert_eq!(Frame::from_bytes(bytes.clone().into()).unwrap().rows(), frame.rows(), "of a newer version");
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Frame::from_bytes(bytes.into()).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            prop_assert!(OpenFrame::open(&bytes).is_err());
        }
    }

    #[test]
    fn the_header_is_where_the_scripts_look_for_it() {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 7, attributes: None };
        let older = HeartbeatRef { received_at: 5, ..row };
        let frame = Frame::encode([row, older]).unwrap();
        let bytes = frame.bytes();
        assert_eq!(bytes[0], 2);
        assert_eq!(bytes[1..5], 2_u32.to_le_bytes());
        assert_eq!(bytes[5..9], (bytes.len() as u32 - 29).to_le_bytes());
        assert_eq!(bytes[17..25], 5_i64.to_le_bytes());
        assert_eq!(bytes[25..29], (2 * (1 + 8 + 8 + 2 + 2_u32)).to_le_bytes());
        assert_eq!(Frame::encode([]), None);
    }

    #[test]
    fn a_frame_of_the_first_version_is_still_read() {
        // version 1, one row, 20 bytes; then the row: no id, no attributes
        let row = [&[0_u8][..], &5_i64.to_le_bytes(), &7_i64.to_le_bytes(), b"\x01u\x01d"].concat();
        let mut frame = [&[1_u8][..], &1_u32.to_le_bytes(), &(row.len() as u32).to_le_bytes(), &[0; 8]].concat();
        frame.extend_from_slice(&7_i64.to_le_bytes());
        frame.extend_from_slice(&row);
        let sum = checksum(&frame);
        frame[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&sum.to_le_bytes());
        let expected =
            HeartbeatRef { user_id: "u", timestamp: 5, device_id: "d", id: None, received_at: 7, attributes: None };
        assert_eq!(OpenFrame::open(&frame).unwrap().all_rows().unwrap(), [expected]);
        let header = FrameHeader::plausible(&frame).unwrap();
        assert_eq!((header.count, header.raw), (1, row.len() as u32));
        frame.pop();
        assert!(FrameHeader::plausible(&frame).is_none(), "cut");
    }

    #[test]
    fn a_frame_that_would_open_to_more_than_the_most_is_refused_unopened() {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 7, attributes: None };
        let mut frame = Frame::encode([row]).unwrap().bytes().to_vec();
        frame[RAW_AT..RAW_AT + 4].copy_from_slice(&(MAX_FRAME_RAW as u32 + 1).to_le_bytes());
        let sum = checksum(&frame);
        frame[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(OpenFrame::open(&frame), Err(FrameError::Payload { .. })));
    }

    #[test]
    fn a_newer_version_is_no_damage() {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 7, attributes: None };
        let mut bytes = Frame::encode([row]).unwrap().bytes().to_vec();
        bytes[0] = 9;
        let sum = checksum(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(FrameHeader::verify(&bytes), Err(FrameError::UnknownVersion(9)));
    }
}
