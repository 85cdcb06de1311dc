//! One index on the disk, read by positions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::ContentHash;
use super::super::error::{At, Error, Result, or_not_found};
use super::format::{BLOCK_ENTRIES, BLOCK_LEN, Entry, Header, MAX_HEADER_LEN, decode_block};
use super::{HASH_BITS, minute_of};

/// Blocks read at once where the keys asked for stand close together: 32 KiB.
const DENSE_BLOCKS: u64 = 64;
/// Guesses by the even spread of keys; then halving, which bounds the search whatever the keys.
const GUESSES: u32 = 4;

/// An open index.
#[derive(Debug)]
pub(in super::super) struct IndexFile {
    path: PathBuf,
    file: File,
    header: Arc<Header>,
    /// The blocks read last: the first one's number, and all their entries.
    cache: (u64, Vec<Entry>),
    bytes_read: u64,
}

impl IndexFile {
    /// Opens the index of the published file with this hash.
    ///
    /// `Error::NotFound` and `Error::Damaged` both mean: build it anew.
    pub(in super::super) fn open(path: &Path, hash: ContentHash) -> Result<Self> {
        let file = or_not_found(File::open(path), "open", path)?;
        let len = file.metadata().at("look at", path)?.len();
        let mut bytes = vec![0; len.min(MAX_HEADER_LEN as u64) as usize];
        file.read_exact_at(&mut bytes, 0).at("read", path)?;
        let header = Header::decode(&bytes).map_err(|reason| Error::damaged(path, reason))?;
        if header.hash != hash || header.file_len() != len {
            return Err(Error::damaged(path, "it is the index of another file, or cut"));
        }
        let (path, header, bytes_read) = (path.to_owned(), Arc::new(header), bytes.len() as u64);
        Ok(Self { path, file, header, cache: (0, Vec::new()), bytes_read })
    }

    /// The same, with a header that is known already: it is not read again.
    pub(super) fn open_with(path: &Path, header: Arc<Header>) -> Result<Self> {
        let file = or_not_found(File::open(path), "open", path)?;
        Ok(Self { path: path.to_owned(), file, header, cache: (0, Vec::new()), bytes_read: 0 })
    }

    pub(super) fn header(&self) -> Arc<Header> {
        Arc::clone(&self.header)
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Calls `found` with the number of each row whose key is among `keys`, which are sorted, and with what stands beside
    /// the key.
    pub(super) fn search(&mut self, keys: &[(u64, usize)], mut found: impl FnMut(u32, usize)) -> Result<()> {
        for of_minute in keys.chunk_by(|a, b| minute_of(a.0) == minute_of(b.0)) {
            let minute = Minute::new(&self.header, minute_of(of_minute[0].0), of_minute.len());
            let Some(minute) = minute else { continue };
            let mut low = minute.first_block;
            for (key, beside) in of_minute {
                low = self.first_block_reaching(*key, low, &minute)?;
                self.rows_of(*key, low, &minute, |row| found(row, *beside))?;
            }
        }
        Ok(())
    }

    /// The first block, from `low` on, whose last key is `key` or beyond; the minute's last block if there is none.
    fn first_block_reaching(&mut self, key: u64, low: u64, minute: &Minute) -> Result<u64> {
        let (mut low, mut high) = (low, minute.last_block);
        let mut guess = minute.block_of(key);
        for attempt in 0.. {
            if low >= high {
                break;
            }
            let probe = if attempt < GUESSES { guess.clamp(low, high - 1) } else { low + (high - low) / 2 };
            let (first, last) = self.ends(probe, minute)?;
            if last < key {
                low = probe + 1;
            } else if first < key {
                // Blocks before this one end below its first key.
                return Ok(probe);
            } else {
                high = probe;
            }
            guess = probe.saturating_add_signed(minute.blocks_between(first, key));
        }
        Ok(low)
    }

    fn rows_of(&mut self, key: u64, block: u64, minute: &Minute, mut found: impl FnMut(u32)) -> Result<()> {
        // Entries of one key may go on in the next block.
        for block in block..=minute.last_block {
            let entries = self.block(block, minute)?;
            let start = entries.partition_point(|entry| entry.0 < key);
            let equal = entries[start..].iter().take_while(|entry| entry.0 == key);
            let mut end = start;
            for (_, row) in equal {
                found(*row);
                end += 1;
            }
            if end < entries.len() {
                break;
            }
        }
        Ok(())
    }

    fn ends(&mut self, block: u64, minute: &Minute) -> Result<(u64, u64)> {
        let entries = self.block(block, minute)?;
        // A block is never empty; if it were, it would be passed over.
        Ok(entries.first().zip(entries.last()).map_or((0, 0), |(first, last)| (first.0, last.0)))
    }

    /// The entries of a block, from memory, or read together with blocks behind it if the minute is asked for densely.
    fn block(&mut self, number: u64, minute: &Minute) -> Result<&[Entry]> {
        let cached = |cache: &(u64, Vec<Entry>)| {
            let start = usize::try_from(number.checked_sub(cache.0)?).ok()? * BLOCK_ENTRIES;
            (start < cache.1.len()).then(|| start..(start + BLOCK_ENTRIES).min(cache.1.len()))
        };
        let range = match cached(&self.cache) {
            Some(range) => range,
            None => {
                let blocks = (minute.last_block + 1).saturating_sub(number).clamp(1, minute.read_ahead);
                self.cache = (number, self.read_blocks(number, blocks)?);
                cached(&self.cache).ok_or_else(|| Error::damaged(&self.path, format!("it has no block {number}")))?
            }
        };
        Ok(&self.cache.1[range])
    }

    fn read_blocks(&mut self, number: u64, blocks: u64) -> Result<Vec<Entry>> {
        let damaged = || Error::damaged(&self.path, format!("block {number} does not match its checksum"));
        let start = self.header.encoded_len() as u64 + number * BLOCK_LEN as u64;
        let len = self.header.file_len().saturating_sub(start).min(blocks * BLOCK_LEN as u64);
        let mut bytes = vec![0; len as usize];
        match self.file.read_exact_at(&mut bytes, start) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
            other => other.at("read", &self.path)?,
        }
        self.bytes_read += len;
        let mut entries = Vec::with_capacity(bytes.len() / BLOCK_LEN * BLOCK_ENTRIES + BLOCK_ENTRIES);
        for (block, bytes) in (number..).zip(bytes.chunks(BLOCK_LEN)) {
            decode_block(bytes, block, self.header.hash, &mut entries).ok_or_else(damaged)?;
        }
        Ok(entries)
    }
}

/// Where the entries of one minute stand.
struct Minute {
    start: u64,
    entries: u64,
    first_block: u64,
    last_block: u64,
    /// Blocks to read at once.
    read_ahead: u64,
}

impl Minute {
    /// `None` when it has no entries. `asked` keys of it will be searched for.
    fn new(header: &Header, minute: u16, asked: usize) -> Option<Self> {
        let entries = header.entries(minute);
        let (start, end) = (u64::from(entries.start), u64::from(entries.end));
        let last = end.checked_sub(1).filter(|_| start < end)?;
        let block = |entry| entry / BLOCK_ENTRIES as u64;
        let (first_block, last_block) = (block(start), block(last));
        let is_dense = 2 * asked as u64 > last_block - first_block;
        let read_ahead = if is_dense { DENSE_BLOCKS } else { 1 };
        Some(Self { start, entries: end - start, first_block, last_block, read_ahead })
    }

    /// The block where a key of this minute should be if keys are spread evenly.
    fn block_of(&self, key: u64) -> u64 {
        let below_minute = key & ((1 << HASH_BITS) - 1);
        (self.start + self.scale(below_minute)) / BLOCK_ENTRIES as u64
    }

    /// About how many blocks lie from one key to another; away from zero, so that a search moves on.
    fn blocks_between(&self, from: u64, to: u64) -> i64 {
        let blocks = (self.scale(from.abs_diff(to)) / BLOCK_ENTRIES as u64).max(1) as i64;
        if to < from { -blocks } else { blocks }
    }

    fn scale(&self, keys: u64) -> u64 {
        ((u128::from(keys) * u128::from(self.entries)) >> HASH_BITS) as u64
    }
}
