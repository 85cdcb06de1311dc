//! The header and the blocks of an index, as bytes.

use std::ops::Range;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::ContentHash;

const MAGIC: [u8; 8] = *b"SYSTIDX\0";
const VERSION: u32 = 1;
/// Bytes of the header before the table.
const FIXED_LEN: usize = 32;
const CHECKSUM_LEN: usize = 8;
/// Minutes from 0 to 1439, and one number beyond.
const MAX_TABLE: usize = 1_441;

/// No header is longer, so that one read gets all of it.
pub(super) const MAX_HEADER_LEN: usize = FIXED_LEN + 4 * MAX_TABLE + CHECKSUM_LEN;
/// Entries of a full block.
pub(super) const BLOCK_ENTRIES: usize = 42;
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
    pub(super) first_minute: u16,
    /// The number of the first entry of each minute from `first_minute` on, and of the one after the last entry.
    pub(super) starts: Vec<u32>,
}

impl Header {
    /// The header for these counts of entries, one for each minute of a day.
    pub(super) fn new(hash: ContentHash, counts: &[u32]) -> Self {
        let present = |count: &u32| *count > 0;
        let (Some(first), Some(last)) = (counts.iter().position(present), counts.iter().rposition(present)) else {
            return Self { rows: 0, hash, first_minute: 0, starts: Vec::new() };
        };
        let mut starts = vec![0];
        let mut rows = 0;
        for count in &counts[first..=last] {
            rows += count;
            starts.push(rows);
        }
        Self { rows, hash, first_minute: first as u16, starts }
    }

    /// The numbers of the entries of a minute.
    pub(super) fn entries(&self, minute: u16) -> Range<u32> {
        let at = usize::from(minute).checked_sub(usize::from(self.first_minute));
        match at.and_then(|at| self.starts.get(at..at + 2)) {
            Some(&[start, end]) => start..end,
            _ => 0..0,
        }
    }

    /// Bytes of the header in the file.
    pub(super) fn encoded_len(&self) -> usize {
        FIXED_LEN + 4 * self.starts.len() + CHECKSUM_LEN
    }

    /// Bytes of the whole index.
    pub(super) fn file_len(&self) -> u64 {
        let rows = u64::from(self.rows);
        let blocks = rows.div_ceil(BLOCK_ENTRIES as u64);
        self.encoded_len() as u64 + rows * ENTRY_LEN as u64 + blocks * CHECKSUM_LEN as u64
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let last_minute = self.first_minute + self.starts.len().saturating_sub(2) as u16;
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.hash.0.to_le_bytes());
        bytes.extend(self.first_minute.to_le_bytes());
        bytes.extend(last_minute.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.starts.iter().flat_map(|start| start.to_le_bytes()));
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a header from the first bytes of a file; what is wrong with it, as an error.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if !bytes.starts_with(&MAGIC) {
            return Err("it is no identity index");
        }
        if u32_at(bytes, 8) != Some(VERSION) {
            return Err("it is of another version");
        }
        let rows = u32_at(bytes, 12).ok_or(CUT)?;
        let hash = u64_at(bytes, 16).map(ContentHash).ok_or(CUT)?;
        let minutes = u32_at(bytes, 24).ok_or(CUT)?;
        let (first_minute, last_minute) = (minutes as u16, (minutes >> 16) as u16);
        let table = match rows {
            0 => 0,
            _ => {
                usize::from(last_minute).checked_sub(usize::from(first_minute)).ok_or("its minutes make no sense")? + 2
            }
        };
        let table_end = FIXED_LEN + 4 * table;
        let body = bytes.get(..table_end).filter(|_| table <= MAX_TABLE).ok_or(CUT)?;
        if u64_at(bytes, table_end) != Some(xxh3_64(body)) {
            return Err("its header does not match its checksum");
        }
        let starts = body[FIXED_LEN..].chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0)).collect();
        Ok(Self { rows, hash, first_minute, starts })
    }
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
