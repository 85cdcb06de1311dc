//! The header and the blocks of an index, as bytes.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::ContentHash;
use super::{MINUTES_PER_DAY, minute_of};

const MAGIC: [u8; 8] = *b"SYSTIDX\0";
const VERSION: u32 = 2;
const MINUTES_LEN: usize = (MINUTES_PER_DAY as usize).div_ceil(8);
const CHECKSUM_LEN: usize = 8;
/// Pages of the largest index. More of them would let a search begin nearer to its key, and make the header longer.
const MAX_PAGES: u64 = 1_024;
/// Bits of a key that the header leaves out.
const LOWER_BITS: u32 = 32;

/// Bytes of the header before the table of pages.
pub(super) const FIXED_LEN: usize = 28 + MINUTES_LEN;
/// No header is longer.
#[cfg(test)]
pub(super) const MAX_HEADER_LEN: usize = FIXED_LEN + 4 * MAX_PAGES as usize + CHECKSUM_LEN;
/// Entries of a full block. Smaller blocks would make the index longer by their checksums; larger ones are read for
/// entries that nobody asked for.
pub(super) const BLOCK_ENTRIES: usize = 10;
/// Bytes of an entry.
pub(super) const ENTRY_LEN: usize = 12;
/// Bytes of a full block.
pub(super) const BLOCK_LEN: usize = BLOCK_ENTRIES * ENTRY_LEN + CHECKSUM_LEN;

/// A key and the number of its row in the published file.
pub(super) type Entry = (u64, u32);

/// What an index says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Header {
    pub(super) rows: u32,
    pub(super) hash: ContentHash,
    /// More than the upper half of the last key.
    end: u32,
    /// A bit for each minute of the day that has entries.
    minutes: [u8; MINUTES_LEN],
    /// The upper half of the first key of each page.
    pages: Vec<u32>,
}

/// A place between two entries, by the number of the second one, and a key that belongs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) entry: u64,
    pub(super) key: u64,
}

impl Header {
    /// The header of an index of so many rows, whose keys are [added](Self::add) before it is written.
    pub(super) fn new(hash: ContentHash, rows: u32) -> Self {
        Self { rows, hash, end: 0, minutes: [0; MINUTES_LEN], pages: Vec::new() }
    }

    /// Adds the key of the entry of this number. Keys come in their order.
    pub(super) fn add(&mut self, number: u64, key: u64) {
        if number.is_multiple_of(self.page_entries()) {
            self.pages.push(upper_half(key));
        }
        self.end = upper_half(key).saturating_add(1);
        let minute = usize::from(minute_of(key));
        if let Some(eight) = self.minutes.get_mut(minute / 8) {
            *eight |= 1 << (minute % 8);
        }
    }

    /// Whether there may be an entry with this key: for sure not, if its minute has none.
    pub(super) fn covers(&self, key: u64) -> bool {
        let minute = usize::from(minute_of(key));
        let has_minute = self.minutes.get(minute / 8).is_some_and(|eight| eight >> (minute % 8) & 1 == 1);
        has_minute && self.pages.first().is_some_and(|first| (*first..self.end).contains(&upper_half(key)))
    }

    /// Two edges, the first entry of this key or beyond it between them. The key is below that of the second.
    pub(super) fn around(&self, key: u64) -> (Edge, Edge) {
        // Keys with the same upper half may stand on both sides of the start of a page.
        let low = self.pages.partition_point(|first| *first < upper_half(key)).saturating_sub(1);
        let high = self.pages.partition_point(|first| *first <= upper_half(key));
        (self.start_of(low), self.start_of(high))
    }

    fn start_of(&self, page: usize) -> Edge {
        let entry = (page as u64 * self.page_entries()).min(u64::from(self.rows));
        Edge { entry, key: u64::from(self.pages.get(page).copied().unwrap_or(self.end)) << LOWER_BITS }
    }

    fn blocks(&self) -> u64 {
        u64::from(self.rows).div_ceil(BLOCK_ENTRIES as u64)
    }

    fn page_entries(&self) -> u64 {
        self.blocks().div_ceil(MAX_PAGES).max(1) * BLOCK_ENTRIES as u64
    }

    /// Bytes of the header in the file. The number of rows decides them.
    pub(super) fn encoded_len(&self) -> usize {
        let pages = u64::from(self.rows).div_ceil(self.page_entries());
        FIXED_LEN + 4 * pages as usize + CHECKSUM_LEN
    }

    /// Bytes of the whole index.
    pub(super) fn file_len(&self) -> u64 {
        self.encoded_len() as u64 + u64::from(self.rows) * ENTRY_LEN as u64 + self.blocks() * CHECKSUM_LEN as u64
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.hash.0.to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        bytes.extend(self.minutes);
        bytes.extend(self.pages.iter().flat_map(|first| first.to_le_bytes()));
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// What its first [`FIXED_LEN`] bytes say, not verified yet: enough to know how long it is. What is wrong with them, as
    /// an error.
    pub(super) fn decode_fixed(bytes: &[u8]) -> Result<Self, &'static str> {
        if !bytes.starts_with(&MAGIC) {
            return Err("it is no identity index");
        }
        if u32_at(bytes, 8) != Some(VERSION) {
            return Err("it is of another version");
        }
        let rows = u32_at(bytes, 12).ok_or(CUT)?;
        let hash = u64_at(bytes, 16).map(ContentHash).ok_or(CUT)?;
        let end = u32_at(bytes, 24).ok_or(CUT)?;
        let minutes = bytes.get(28..FIXED_LEN).and_then(|bytes| bytes.try_into().ok()).ok_or(CUT)?;
        Ok(Self { rows, hash, end, minutes, pages: Vec::new() })
    }

    /// Reads a header of just these bytes; what is wrong with it, as an error.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let header = Self::decode_fixed(bytes)?;
        if bytes.len() != header.encoded_len() {
            return Err(CUT);
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        if u64_at(checksum, 0) != Some(xxh3_64(body)) {
            return Err("its header does not match its checksum");
        }
        let pages = body[FIXED_LEN..].chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0)).collect();
        Ok(Self { pages, ..header })
    }
}

fn upper_half(key: u64) -> u32 {
    (key >> LOWER_BITS) as u32
}

const CUT: &str = "its header is cut";

pub(super) fn encode_block(entries: &[Entry], number: u64, hash: ContentHash) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_LEN);
    for (key, row) in entries {
        bytes.extend(key.to_le_bytes());
        bytes.extend(row.to_le_bytes());
    }
    bytes.extend(block_checksum(&bytes, number, hash).to_le_bytes());
    bytes
}

/// Adds the entries of a block; `None` when it does not match its checksum.
pub(super) fn decode_block(bytes: &[u8], number: u64, hash: ContentHash, entries: &mut Vec<Entry>) -> Option<()> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_LEN)?)?;
    if u64_at(checksum, 0) != Some(block_checksum(body, number, hash)) {
        return None;
    }
    entries.extend(body.chunks_exact(ENTRY_LEN).filter_map(entry));
    Some(())
}

/// Of the entries, their place and their file, so that no block passes for another one.
fn block_checksum(body: &[u8], number: u64, hash: ContentHash) -> u64 {
    xxh3_64_with_seed(body, hash.0 ^ number)
}

pub(super) fn entry(bytes: &[u8]) -> Option<Entry> {
    Some((u64_at(bytes, 0)?, u32_at(bytes, 8)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
