//! The frame: some heartbeats of one partition, encoded together; one element of a buffer list.
//!
//! Constraints: a frame can be counted without being decoded (the buffer's scripts do), damage is found before a row is
//! read, and a frame of a version that this binary does not know is told apart from a damaged one.
//!
//! Layout, little-endian, without gaps:
//!
//! ```text
//! offset  size  field
//!      0     1  version               1
//!      1     4  count                 heartbeats in the frame, at least 1
//!      5     4  length                bytes of the payload
//!      9     8  checksum              xxh3_64 of the whole frame without these 8 bytes
//!     17     8  oldest                the smallest received_at, ms since the Unix epoch
//!     25     …  payload               `count` rows
//! ```
//!
//! The first four fields stand so in every version to come; that is how an unknown version is told from a damaged frame.
//!
//! A row: `flags` u8 (bit 0: has id, bit 1: has attributes), `timestamp` i64, `received_at` i64, `user_id` and
//! `device_id` as one length byte and text, `id` likewise when flagged, `attributes` as u16 length and text when flagged.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::record::HeartbeatRef;

/// The version that this binary writes, and the newest that it reads.
pub const FRAME_VERSION: u8 = 1;
/// Bytes before the payload.
pub const FRAME_HEADER_LEN: usize = 25;

const CHECKSUM_AT: usize = 9;
const CHECKSUM_END: usize = 17;
const HAS_ID: u8 = 1;
const HAS_ATTRIBUTES: u8 = 2;

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
}

impl Frame {
    /// Encodes heartbeats that passed validation. `None` for none of them: an empty frame does not exist.
    pub fn encode<'a>(rows: impl IntoIterator<Item = HeartbeatRef<'a>>) -> Option<Self> {
        let mut bytes = vec![0_u8; FRAME_HEADER_LEN];
        let (mut count, mut oldest) = (0_u32, i64::MAX);
        for row in rows {
            count += 1;
            oldest = oldest.min(row.received_at);
            put_row(&mut bytes, &row);
        }
        if count == 0 {
            return None;
        }
        bytes[0] = FRAME_VERSION;
        bytes[1..5].copy_from_slice(&count.to_le_bytes());
        let length = (bytes.len() - FRAME_HEADER_LEN) as u32;
        bytes[5..9].copy_from_slice(&length.to_le_bytes());
        bytes[17..25].copy_from_slice(&oldest.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&checksum.to_le_bytes());
        Some(Self { bytes: bytes.into(), rows: count })
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
        Ok(Self { bytes, rows })
    }

    /// The encoded frame.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Heartbeats in it.
    pub fn rows(&self) -> u32 {
        self.rows
    }
}

fn put_row(out: &mut Vec<u8>, row: &HeartbeatRef<'_>) {
    let flags = if row.id.is_some() { HAS_ID } else { 0 } | if row.attributes.is_some() { HAS_ATTRIBUTES } else { 0 };
    out.push(flags);
    out.extend_from_slice(&row.timestamp.to_le_bytes());
    out.extend_from_slice(&row.received_at.to_le_bytes());
    // Validation bounds names by 128 bytes and attributes by 4 KiB, so neither length is ever cut here.
    for name in [Some(row.user_id), Some(row.device_id), row.id].into_iter().flatten() {
        debug_assert!(u8::try_from(name.len()).is_ok());
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
    }
    if let Some(attributes) = row.attributes {
        debug_assert!(u16::try_from(attributes.len()).is_ok());
        out.extend_from_slice(&(attributes.len() as u16).to_le_bytes());
        out.extend_from_slice(attributes.as_bytes());
    }
}

fn checksum(frame: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&frame[..CHECKSUM_AT]);
    hash.update(&frame[CHECKSUM_END..]);
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
}

impl FrameHeader {
    /// Reads the header without judging the frame, as the buffer's scripts do. `None` when there is no whole header.
    pub fn peek(frame: &[u8]) -> Option<Self> {
        Some(Self {
            version: *frame.first()?,
            count: u32::from_le_bytes(array(frame, 1)?),
            length: u32::from_le_bytes(array(frame, 5)?),
        })
    }

    /// Reads the header and checks the whole frame against it.
    ///
    /// # Errors
    /// [`FrameError::Truncated`], [`FrameError::Checksum`] or [`FrameError::UnknownVersion`].
    pub fn verify(frame: &[u8]) -> Result<Self, FrameError> {
        let truncated = |want| FrameError::Truncated { have: frame.len(), want };
        if frame.len() < FRAME_HEADER_LEN {
            return Err(truncated(FRAME_HEADER_LEN));
        }
        let header = Self::peek(frame).ok_or_else(|| truncated(FRAME_HEADER_LEN))?;
        let sum = array(frame, CHECKSUM_AT).map(u64::from_le_bytes);
        if sum != Some(checksum(frame)) {
            let want = FRAME_HEADER_LEN + header.length as usize;
            let cut = header.version == FRAME_VERSION && frame.len() < want;
            return Err(if cut { truncated(want) } else { FrameError::Checksum });
        }
        if header.version != FRAME_VERSION {
            return Err(FrameError::UnknownVersion(header.version));
        }
        Ok(header)
    }
}

/// The heartbeats of a frame, borrowed from its bytes.
///
/// Yields a [`FrameError::Row`] and then ends where a row makes no sense: behind it no row boundary can be trusted.
#[derive(Debug)]
pub struct FrameRows<'a> {
    rest: &'a [u8],
    next: usize,
    count: usize,
}

impl<'a> FrameRows<'a> {
    /// Checks the frame and begins to read its rows.
    ///
    /// # Errors
    /// Those of [`FrameHeader::verify`].
    pub fn new(frame: &'a [u8]) -> Result<Self, FrameError> {
        let header = FrameHeader::verify(frame)?;
        Ok(Self { rest: &frame[FRAME_HEADER_LEN..], next: 0, count: header.count as usize })
    }

    /// All rows, or the first fault.
    ///
    /// # Errors
    /// Those of [`FrameRows::new`], and [`FrameError::Row`].
    pub fn decode(frame: &'a [u8]) -> Result<Vec<HeartbeatRef<'a>>, FrameError> {
        Self::new(frame)?.collect()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn take_text(&mut self, len: usize) -> Result<&'a str, &'static str> {
        std::str::from_utf8(self.take(len).ok_or(ENDS_EARLY)?).map_err(|_| "a text is not UTF-8")
    }

    fn take_name(&mut self) -> Result<&'a str, &'static str> {
        let len = self.take(1).ok_or(ENDS_EARLY)?[0];
        self.take_text(len.into())
    }

    fn take_i64(&mut self) -> Result<i64, &'static str> {
        self.take(8).and_then(|bytes| array(bytes, 0)).map(i64::from_le_bytes).ok_or(ENDS_EARLY)
    }

    fn take_row(&mut self) -> Result<HeartbeatRef<'a>, &'static str> {
        let flags = self.take(1).ok_or(ENDS_EARLY)?[0];
        if flags & !(HAS_ID | HAS_ATTRIBUTES) != 0 {
            return Err("unknown flags");
        }
        let timestamp = self.take_i64()?;
        let received_at = self.take_i64()?;
        let user_id = self.take_name()?;
        let device_id = self.take_name()?;
        let id = if flags & HAS_ID == 0 { None } else { Some(self.take_name()?) };
        let attributes = if flags & HAS_ATTRIBUTES == 0 {
            None
        } else {
            let len = self.take(2).and_then(|bytes| array(bytes, 0)).map(u16::from_le_bytes).ok_or(ENDS_EARLY)?;
            Some(self.take_text(len.into())?)
        };
        Ok(HeartbeatRef { user_id, timestamp, device_id, id, received_at, attributes })
    }
}

const ENDS_EARLY: &str = "the payload ends early";

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
        let taken = self.take_row();
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
            let back = FrameRows::decode(frame.bytes()).unwrap();
            prop_assert_eq!(back, rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>());
        }

        #[test]
        fn no_flipped_bit_goes_unnoticed(rows in proptest::collection::vec(heartbeat(), 1..4), at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap().bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let error = FrameRows::decode(&bytes).unwrap_err();
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
            prop_assert!(FrameRows::decode(&bytes).is_err());
        }
    }

    #[test]
    fn the_header_is_where_the_scripts_look_for_it() {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 7, attributes: None };
        let older = HeartbeatRef { received_at: 5, ..row };
        let frame = Frame::encode([row, older]).unwrap();
        let bytes = frame.bytes();
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1..5], 2_u32.to_le_bytes());
        assert_eq!(bytes[5..9], (bytes.len() as u32 - 25).to_le_bytes());
        assert_eq!(bytes[17..25], 5_i64.to_le_bytes());
        assert_eq!(Frame::encode([]), None);
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
