//! Rows of one partition, encoded together and packed: what a frame is made of.
//!
//! Constraints: rows know nothing of what stands beside them, so that rows of different requests can be put together by
//! copying; a block is packed where the request is worked on, in parallel, so that what gathers blocks into frames only
//! copies them; and how much memory a block takes once it is opened stands before its content.
//!
//! Layout, little-endian, without gaps:
//!
//! ```text
//! offset  size  field
//!      0     4  raw      bytes of its rows
//!      4     4  stored   bytes of the content: as many as `raw`, or fewer when it is packed
//!      8     …  content  the rows; packed as one LZ4 block (github.com/lz4/lz4, doc/lz4_Block_format.md)
//! ```
//!
//! A row: `flags` u8 (bit 0: has id, bit 1: has attributes), `timestamp` i64, `received_at` i64, `user_id` and
//! `device_id` as one length byte and text, `id` likewise when flagged, `attributes` as u16 length and text when flagged.

use lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};

use super::ids::{Partition, partition_of};
use super::record::HeartbeatRef;
use super::sighting::{Gathered, Packed};

/// Bytes before the content of a block.
pub(super) const BLOCK_HEADER_LEN: usize = 8;
/// Rows with which a block ends, or with the one that reaches
const BLOCK_ROWS: u32 = 4_096;
/// so many raw bytes: four of LZ4's windows. What is longer packs no better.
const BLOCK_BYTES: usize = 256 << 10;
/// Shorter content of a block is left as it is: the same few words repeat only in longer ones.
const PACK_FROM: usize = 256;
/// What one request has for one partition is packed from so many bytes on. Less is left to be joined with that of others,
/// and packed then.
const PACK_ALONE_FROM: usize = 4 << 10;

const HAS_ID: u8 = 1;
const HAS_ATTRIBUTES: u8 = 2;

/// Some heartbeats of one partition, encoded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    bytes: Vec<u8>,
    rows: u32,
    raw: u32,
    oldest: i64,
    sightings: Packed,
}

impl Block {
    /// Heartbeats in it.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes that it takes in a frame.
    pub fn stored_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that it takes: those, and what is known of its devices.
    pub fn memory_len(&self) -> usize {
        self.bytes.len() + self.sightings.len()
    }

    /// Bytes that its rows take once it is opened.
    pub fn raw_len(&self) -> usize {
        self.raw as usize
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn oldest(&self) -> i64 {
        self.oldest
    }

    pub(super) fn sightings(&self) -> &Packed {
        &self.sightings
    }

    /// The rows, unless they are packed.
    pub fn plain(&self) -> Option<&[u8]> {
        self.bytes.get(BLOCK_HEADER_LEN..).filter(|content| content.len() == self.raw as usize)
    }

    /// Puts blocks of few rows together, in their order: they pack better so. Blocks that are packed stay as they are.
    pub fn join(blocks: Vec<Self>) -> Vec<Self> {
        let mut joined = Vec::with_capacity(blocks.len());
        let mut rows = Rows::default();
        for block in blocks {
            match block.plain() {
                Some(plain) => rows.append(plain, &block),
                None => {
                    joined.extend(rows.take(PACK_FROM));
                    joined.push(block);
                }
            }
            if rows.is_full() {
                joined.extend(rows.take(PACK_FROM));
            }
        }
        joined.extend(rows.take(PACK_FROM));
        joined
    }

    /// Encodes heartbeats that passed validation, as many blocks as it takes.
    pub fn encode<'a>(heartbeats: impl IntoIterator<Item = HeartbeatRef<'a>>) -> Vec<Self> {
        let (mut rows, mut blocks) = (Rows::default(), Vec::new());
        for heartbeat in heartbeats {
            rows.push(&heartbeat);
            if rows.is_full() {
                blocks.extend(rows.take(PACK_FROM));
            }
        }
        blocks.extend(rows.take(PACK_FROM));
        blocks
    }

    /// One heartbeat, and its partition: without a table of all partitions, since most requests are of one.
    pub fn of_one(heartbeat: &HeartbeatRef<'_>, partitions: Partition) -> (Partition, Self) {
        let mut rows = Rows::default();
        rows.push(heartbeat);
        (partition_of(heartbeat.user_id, partitions), rows.end(PACK_ALONE_FROM))
    }

    /// Cuts heartbeats by partition; each partition's stay in their order. `expected` is about how many bytes all of them
    /// take encoded: memory is taken for so many at once.
    pub fn encode_by_partition<'a>(
        heartbeats: impl Iterator<Item = HeartbeatRef<'a>>,
        partitions: Partition,
        expected: usize,
    ) -> Vec<(Partition, Self)> {
        let share = expected / usize::from(partitions.max(1));
        let mut tables: Vec<Rows> = Vec::new();
        tables.resize_with(partitions.max(1).into(), Rows::default);
        let mut blocks = Vec::new();
        for heartbeat in heartbeats {
            let partition = partition_of(heartbeat.user_id, partitions);
            let Some(rows) = tables.get_mut(usize::from(partition)) else { continue };
            if rows.count == 0 {
                rows.bytes.reserve(share.min(BLOCK_BYTES));
            }
            rows.push(&heartbeat);
            if rows.is_full() {
                blocks.extend(rows.take(PACK_ALONE_FROM).map(|block| (partition, block)));
            }
        }
        for (partition, mut rows) in (0..).zip(tables) {
            blocks.extend(rows.take(PACK_ALONE_FROM).map(|block| (partition, block)));
        }
        blocks
    }
}

/// Rows that become a block.
#[derive(Debug)]
struct Rows {
    bytes: Vec<u8>,
    count: u32,
    oldest: i64,
    sightings: Gathered,
}

impl Default for Rows {
    fn default() -> Self {
        Self { bytes: Vec::new(), count: 0, oldest: i64::MAX, sightings: Gathered::default() }
    }
}

impl Rows {
    fn push(&mut self, row: &HeartbeatRef<'_>) {
        self.count += 1;
        self.oldest = self.oldest.min(row.received_at);
        put_row(&mut self.bytes, row);
        self.sightings.see(row);
    }

    /// Adds the rows of a block.
    fn append(&mut self, rows: &[u8], block: &Block) {
        self.count += block.rows;
        self.oldest = self.oldest.min(block.oldest);
        self.bytes.extend_from_slice(rows);
        self.sightings.add(&block.sightings);
    }

    fn is_full(&self) -> bool {
        self.count >= BLOCK_ROWS || self.bytes.len() >= BLOCK_BYTES
    }

    /// The block of what has gathered, if anything has, packed from so many bytes on.
    fn take(&mut self, pack_from: usize) -> Option<Block> {
        (self.count > 0).then(|| std::mem::take(self).end(pack_from))
    }

    fn end(self, pack_from: usize) -> Block {
        let Self { bytes, count, oldest, sightings } = self;
        let (packed, raw) = (pack(&bytes, pack_from), bytes.len() as u32);
        Block { bytes: packed, rows: count, raw, oldest, sightings: sightings.end() }
    }
}

/// A block of these rows, packed where they are long enough and it saves something.
fn pack(rows: &[u8], pack_from: usize) -> Vec<u8> {
    let mut block = Vec::new();
    if rows.len() >= pack_from
        && let Ok(bound) = compress_bound(rows.len())
    {
        block.resize(BLOCK_HEADER_LEN + bound, 0);
        let packed = compress_to_buffer(rows, Some(CompressionMode::DEFAULT), false, &mut block[BLOCK_HEADER_LEN..]);
        if let Ok(stored) = packed
            && stored < rows.len()
        {
            block.truncate(BLOCK_HEADER_LEN + stored);
            block.shrink_to_fit();
            put_header(&mut block, rows.len(), stored);
            return block;
        }
        block.clear();
    }
    block.reserve_exact(BLOCK_HEADER_LEN + rows.len());
    block.resize(BLOCK_HEADER_LEN, 0);
    block.extend_from_slice(rows);
    put_header(&mut block, rows.len(), rows.len());
    block
}

fn put_header(block: &mut [u8], raw: usize, stored: usize) {
    // A block ends soon behind 256 KiB, so neither is ever cut here.
    block[..4].copy_from_slice(&(raw as u32).to_le_bytes());
    block[4..8].copy_from_slice(&(stored as u32).to_le_bytes());
}

/// Opens blocks that stand one behind the other, adding their rows to `rows`, which must not get longer than `most`.
pub(super) fn open_all(mut blocks: &[u8], rows: &mut Vec<u8>, most: usize) -> Result<(), &'static str> {
    while let Some((raw, rest)) = blocks.split_first_chunk() {
        let (stored, rest) = rest.split_first_chunk().ok_or("a block ends early")?;
        let (raw, stored) = (u32::from_le_bytes(*raw) as usize, u32::from_le_bytes(*stored) as usize);
        let (content, rest) = rest.split_at_checked(stored).ok_or("a block ends early")?;
        let begin = rows.len();
        if raw > most.saturating_sub(begin) {
            return Err("a block holds more than the frame says");
        }
        if stored == raw {
            rows.extend_from_slice(content);
        } else {
            rows.resize(begin + raw, 0);
            let opened = decompress_to_buffer(content, i32::try_from(raw).ok(), &mut rows[begin..]);
            if opened.ok() != Some(raw) {
                return Err("a block cannot be unpacked");
            }
        }
        blocks = rest;
    }
    if blocks.is_empty() { Ok(()) } else { Err("a block ends early") }
}

fn put_row(out: &mut Vec<u8>, row: &HeartbeatRef<'_>) {
    let flags = if row.id.is_some() { HAS_ID } else { 0 } | if row.attributes.is_some() { HAS_ATTRIBUTES } else { 0 };
    out.reserve(row.raw_len() + 8);
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

/// Takes one row off the front of `rows`.
pub(super) fn take_row<'a>(rows: &mut &'a [u8]) -> Result<HeartbeatRef<'a>, &'static str> {
    let flags = take(rows, 1)?[0];
    if flags & !(HAS_ID | HAS_ATTRIBUTES) != 0 {
        return Err("unknown flags");
    }
    let timestamp = take_i64(rows)?;
    let received_at = take_i64(rows)?;
    let user_id = take_name(rows)?;
    let device_id = take_name(rows)?;
    let id = if flags & HAS_ID == 0 { None } else { Some(take_name(rows)?) };
    let attributes = if flags & HAS_ATTRIBUTES == 0 {
        None
    } else {
        let (len, rest) = rows.split_first_chunk().ok_or(ENDS_EARLY)?;
        *rows = rest;
        Some(take_text(rows, u16::from_le_bytes(*len).into())?)
    };
    Ok(HeartbeatRef { user_id, timestamp, device_id, id, received_at, attributes })
}

const ENDS_EARLY: &str = "the payload ends early";

fn take<'a>(rows: &mut &'a [u8], len: usize) -> Result<&'a [u8], &'static str> {
    let (taken, rest) = rows.split_at_checked(len).ok_or(ENDS_EARLY)?;
    *rows = rest;
    Ok(taken)
}

fn take_i64(rows: &mut &[u8]) -> Result<i64, &'static str> {
    let (number, rest) = rows.split_first_chunk().ok_or(ENDS_EARLY)?;
    *rows = rest;
    Ok(i64::from_le_bytes(*number))
}

fn take_text<'a>(rows: &mut &'a [u8], len: usize) -> Result<&'a str, &'static str> {
    std::str::from_utf8(take(rows, len)?).map_err(|_| "a text is not UTF-8")
}

fn take_name<'a>(rows: &mut &'a [u8]) -> Result<&'a str, &'static str> {
    let len = take(rows, 1)?[0];
    take_text(rows, len.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row<'a>(user_id: &'a str, timestamp: i64, attributes: &'a str) -> HeartbeatRef<'a> {
        let (device_id, id, received_at) = ("d", None, 7);
        HeartbeatRef { user_id, timestamp, device_id, id, received_at, attributes: Some(attributes) }
    }

    /// The timestamps of the rows in blocks.
    fn read(blocks: &[Block]) -> Vec<i64> {
        let bytes: Vec<u8> = blocks.iter().flat_map(|block| block.bytes().to_vec()).collect();
        let raw = blocks.iter().map(Block::raw_len).sum();
        let mut rows = Vec::new();
        open_all(&bytes, &mut rows, raw).unwrap();
        assert_eq!(rows.len(), raw);
        let mut rest = &rows[..];
        std::iter::from_fn(|| (!rest.is_empty()).then(|| take_row(&mut rest).unwrap().timestamp)).collect()
    }

    proptest! {
        #[test]
        fn joining_keeps_the_order_and_never_takes_more_room(
            parts in prop::collection::vec((1..60_usize, 0..200_usize), 1..40),
        ) {
            let mut next = 0..;
            let blocks: Vec<Block> = parts.iter().flat_map(|(rows, padding)| {
                let padding = format!(r#"{{"k":"{}"}}"#, "x".repeat(*padding));
                let times: Vec<i64> = next.by_ref().take(*rows).collect();
                let rows: Vec<_> = times.iter().map(|time| row("u", *time, &padding)).collect();
                Block::encode_by_partition(rows.into_iter(), 1, 0).into_iter().map(|(_, block)| block).collect::<Vec<_>>()
            }).collect();
            let (rows, stored): (u32, usize) = (blocks.iter().map(Block::rows).sum(), blocks.iter().map(Block::stored_len).sum());
            let expected = read(&blocks);
            prop_assert_eq!(&expected, &(0..i64::from(rows)).collect::<Vec<_>>());
            let joined = Block::join(blocks);
            prop_assert_eq!(read(&joined), expected);
            prop_assert!(joined.iter().map(Block::stored_len).sum::<usize>() <= stored);
            prop_assert_eq!(joined.iter().map(Block::rows).sum::<u32>(), rows);
        }
    }

    #[test]
    fn what_repeats_itself_is_packed_and_noise_is_left_as_it_is() {
        let attributes: Vec<String> = (0..200).map(|nth| format!(r#"{{"file":"src/module_{nth}.rs"}}"#)).collect();
        let [like] = &Block::encode(attributes.iter().map(|text| row("user", 1, text)))[..] else {
            panic!("one block")
        };
        assert!(like.stored_len() * 3 < like.raw_len() && like.plain().is_none(), "{}", like.stored_len());
        let mut state = 7_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + (state >> 40) as u8 % 90)
        };
        let noise: String = std::iter::repeat_with(&mut letter).take(4_000).collect();
        let [noise] = &Block::encode([row("user", 1, &noise)])[..] else { panic!("one block") };
        assert_eq!(noise.plain().map(<[u8]>::len), Some(noise.raw_len()));
    }

    #[test]
    fn blocks_end_before_they_are_too_large() {
        let text = "x".repeat(4_096);
        let blocks = Block::encode((0..200).map(|nth| row("u", nth, &text)));
        assert!(blocks.iter().all(|block| block.raw_len() < BLOCK_BYTES + 5_000) && blocks.len() >= 3);
        assert_eq!(read(&blocks), (0..200).collect::<Vec<_>>());
        let blocks = Block::encode((0..10_000).map(|nth| row("u", nth, "{}")));
        assert_eq!(blocks.iter().map(Block::rows).collect::<Vec<_>>(), [4_096, 4_096, 1_808]);
    }

    #[test]
    fn blocks_that_are_not_what_they_say_are_refused() {
        let text = "x".repeat(1_000);
        let good: Vec<u8> =
            Block::encode([row("u", 1, &text)]).iter().flat_map(|block| block.bytes().to_vec()).collect();
        let raw = u32::from_le_bytes(good[..4].try_into().unwrap()) as usize;
        let open = |bytes: &[u8], most| open_all(bytes, &mut Vec::new(), most).unwrap_err();
        assert_eq!(open(&good, raw - 1), "a block holds more than the frame says");
        for cut in [1, 5, 9, good.len() - 1] {
            assert_eq!(open(&good[..cut], raw), "a block ends early", "{cut}");
        }
        let mut other = good.clone();
        other[0] ^= 1;
        assert_eq!(open(&other, raw + 1), "a block cannot be unpacked");
        // Four gigabytes are announced and never asked for.
        other[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(open(&other, raw), "a block holds more than the frame says");
    }
}
