//! One index on the disk, read by positions.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::ContentHash;
use super::super::error::{At, Error, Result, or_not_found};
use super::format::{BLOCK_ENTRIES, BLOCK_LEN, Edge, Entry, FIXED_LEN, Header, decode_block};

/// Keys that are looked for together: they are if half of the blocks they lie in have one of them, 32 KiB at most.
const DENSE_KEYS: usize = 128;
/// Guesses by the even spread of keys; then halving, which bounds the search whatever the keys.
const GUESSES: u32 = 4;

/// An open index.
#[derive(Debug)]
pub(in super::super) struct IndexFile {
    path: PathBuf,
    file: File,
    header: Arc<Header>,
    /// The block read last by itself, and the blocks read last together.
    single: Blocks,
    dense: Blocks,
    bytes_read: u64,
}

/// Blocks that follow one another.
#[derive(Debug, Default)]
struct Blocks {
    first: u64,
    entries: Vec<Entry>,
}

impl Blocks {
    fn get(&self, number: u64) -> Option<&[Entry]> {
        let start = usize::try_from(number.checked_sub(self.first)?).ok()?.checked_mul(BLOCK_ENTRIES)?;
        let entries = self.entries.get(start..)?;
        // None of an index is empty.
        entries.chunks(BLOCK_ENTRIES).next()
    }
}

impl IndexFile {
    /// Opens the index of the published file with this hash.
    ///
    /// `Error::NotFound` and `Error::Damaged` both mean: build it anew.
    pub(in super::super) fn open(path: &Path, hash: ContentHash) -> Result<Self> {
        let file = or_not_found(File::open(path), "open", path)?;
        let len = file.metadata().at("look at", path)?.len();
        let read = |bytes: &mut [u8], start| file.read_exact_at(bytes, start).at("read", path);
        let damaged = |reason| Error::damaged(path, reason);
        let mut bytes = vec![0; len.min(FIXED_LEN as u64) as usize];
        read(&mut bytes, 0)?;
        let header = Header::decode_fixed(&bytes).map_err(damaged)?;
        if header.hash != hash || header.file_len() != len {
            return Err(damaged("it is the index of another file, or cut"));
        }
        bytes.resize(header.encoded_len(), 0);
        read(&mut bytes[FIXED_LEN..], FIXED_LEN as u64)?;
        let header = Header::decode(&bytes).map_err(damaged)?;
        Ok(Self { bytes_read: bytes.len() as u64, ..Self::with(path, file, Arc::new(header)) })
    }

    /// The same, with a header that is known already: it is not read again.
    pub(super) fn open_with(path: &Path, header: Arc<Header>) -> Result<Self> {
        let file = or_not_found(File::open(path), "open", path)?;
        Ok(Self::with(path, file, header))
    }

    fn with(path: &Path, file: File, header: Arc<Header>) -> Self {
        let (single, dense) = Default::default();
        Self { path: path.to_owned(), file, header, single, dense, bytes_read: 0 }
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
        let header = self.header();
        // The last key looked for, and where it stands or would stand.
        let mut known = Edge { entry: 0, key: 0 };
        for near in keys.chunks(DENSE_KEYS) {
            let dense = self.dense_blocks(near, known);
            for (key, beside) in near.iter().copied().filter(|(key, _)| header.covers(*key)) {
                let reaching = self.first_reaching(key, known, &dense)?;
                known = Edge { entry: reaching.entry, key };
                if reaching.key == key {
                    self.rows_of(reaching, &dense, |row| found(row, beside))?;
                }
            }
        }
        Ok(())
    }

    /// The blocks where these keys should be, if they are to be read together; else none. None of the keys stands before
    /// `known`.
    fn dense_blocks(&self, keys: &[(u64, usize)], known: Edge) -> Range<u64> {
        let block_of = |key: u64| {
            let (low, high) = self.header.around(key);
            guess(key, low, high) / BLOCK_ENTRIES as u64
        };
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return 0..0 };
        let start = block_of(first.0).max(known.entry / BLOCK_ENTRIES as u64);
        let blocks = start..block_of(last.0) + 1;
        if blocks.end.saturating_sub(start) <= 2 * keys.len() as u64 { blocks } else { 0..0 }
    }

    /// The first entry whose key is `key` or beyond; if there is none, an edge of a key beyond. No entry before `known` is.
    fn first_reaching(&mut self, key: u64, known: Edge, dense: &Range<u64>) -> Result<Edge> {
        let (mut low, mut high) = self.header.around(key);
        if known.entry > low.entry {
            low = known;
        }
        for attempt in 0.. {
            if low.entry >= high.entry {
                break;
            }
            let place =
                if attempt < GUESSES { guess(key, low, high) } else { low.entry + (high.entry - low.entry) / 2 };
            let block = place / BLOCK_ENTRIES as u64;
            let entries = self.block(block, dense)?;
            let edge =
                |at: usize, entry: &Entry| Edge { entry: block * BLOCK_ENTRIES as u64 + at as u64, key: entry.0 };
            let below = entries.partition_point(|entry| entry.0 < key);
            match (entries.get(below), entries.last()) {
                (Some(first), _) if below == 0 => high = edge(0, first),
                (Some(reaching), _) => return Ok(edge(below, reaching)),
                (None, Some(last)) => low = edge(below, last),
                (None, None) => return Err(self.without(block)),
            }
        }
        Ok(high)
    }

    /// The rows of the entries of this edge's key, the first of which it stands at.
    fn rows_of(&mut self, first: Edge, dense: &Range<u64>, mut found: impl FnMut(u32)) -> Result<()> {
        let mut next = first.entry;
        while next < u64::from(self.header.rows) {
            let entries = self.block(next / BLOCK_ENTRIES as u64, dense)?;
            let rest = &entries[(next % BLOCK_ENTRIES as u64) as usize..];
            let equal = rest.iter().take_while(|entry| entry.0 == first.key).count();
            rest[..equal].iter().for_each(|entry| found(entry.1));
            // Entries of one key may go on in the next block.
            if equal < rest.len() {
                break;
            }
            next += equal as u64;
        }
        Ok(())
    }

    /// The entries of a block, from memory, or read together with the other dense ones if it is one of them.
    fn block(&mut self, number: u64, dense: &Range<u64>) -> Result<&[Entry]> {
        if self.single.get(number).is_none() && self.dense.get(number).is_none() {
            if dense.contains(&number) {
                self.dense = self.read_blocks(dense.start, dense.end - dense.start)?;
            } else {
                self.single = self.read_blocks(number, 1)?;
            }
        }
        let entries = self.single.get(number).or_else(|| self.dense.get(number));
        entries.ok_or_else(|| self.without(number))
    }

    fn without(&self, block: u64) -> Error {
        Error::damaged(&self.path, format!("it has no block {block}"))
    }

    fn read_blocks(&mut self, number: u64, blocks: u64) -> Result<Blocks> {
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
        Ok(Blocks { first: number, entries })
    }
}

/// The place of a key between two edges, if keys are spread evenly there; never that of `high`, unless there is no other.
fn guess(key: u64, low: Edge, high: Edge) -> u64 {
    let entries = high.entry.saturating_sub(low.entry);
    let keys = high.key.saturating_sub(low.key).max(1);
    let below = u128::from(entries) * u128::from(key.saturating_sub(low.key)) / u128::from(keys);
    low.entry + (below as u64).min(entries.saturating_sub(1))
}
