//! Building an index: rows come in the order of users, entries stand in the order of minutes.
//!
//! Constraint: bounded memory, however many rows. Entries are sorted in runs; runs that do not fit go to a file without a
//! name, and are merged from there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::super::error::{At, Error, Result};
use super::super::temp::TempFile;
use super::super::{Bucket, ContentHash, Dataset};
use super::format::{BLOCK_ENTRIES, ENTRY_LEN, Entry, Header, encode_block, entry};

/// Entries sorted in memory: 4 MiB.
const RUN_ENTRIES: usize = 1 << 18;
/// Memory to read one run while merging.
const READ_ENTRIES: usize = 1_024;

/// Takes the keys of a file's rows in the order of the rows.
#[derive(Debug)]
pub(in super::super) struct KeySorter {
    dataset: Dataset,
    bucket: Bucket,
    run_entries: usize,
    rows: u32,
    run: Vec<Entry>,
    spill: Option<File>,
    /// Entries of each run in the file, one after the other.
    spilled: Vec<u64>,
}

impl KeySorter {
    pub(in super::super) fn new(dataset: Dataset, bucket: Bucket) -> Self {
        Self::with_run(dataset, bucket, RUN_ENTRIES)
    }

    pub(super) fn with_run(dataset: Dataset, bucket: Bucket, run_entries: usize) -> Self {
        Self { dataset, bucket, run_entries, rows: 0, run: Vec::new(), spill: None, spilled: Vec::new() }
    }

    /// Adds the key of the next row.
    pub(in super::super) fn push(&mut self, key: u64) -> Result<()> {
        let next = self.rows.checked_add(1);
        let next = next.ok_or_else(|| Error::Conflict { advice: "a file cannot hold more than 2^32 rows".into() })?;
        if self.run.len() >= self.run_entries {
            self.spill()?;
        }
        self.run.push((key, self.rows));
        self.rows = next;
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_unstable();
        let file = match self.spill.take() {
            Some(file) => file,
            // The name goes at once: the file goes with its descriptor, even if this process is killed.
            None => TempFile::create(&self.dataset, self.bucket)?.1,
        };
        let path = self.dataset.paths().staging_folder(self.bucket);
        let mut out = BufWriter::new(&file);
        let mut write = |bytes: &[u8]| out.write_all(bytes);
        let written = self.run.iter().try_for_each(|(key, row)| {
            write(&key.to_le_bytes())?;
            write(&row.to_le_bytes())
        });
        written.and_then(|()| out.flush()).at("write a temp file in", &path)?;
        drop(out);
        self.spilled.push(self.run.len() as u64);
        self.run.clear();
        self.spill = Some(file);
        Ok(())
    }

    /// Hands over all entries in order.
    fn merge(mut self, mut take: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        self.run.sort_unstable();
        let Some(file) = &self.spill else {
            return self.run.into_iter().try_for_each(take);
        };
        let mut start = 0;
        let mut runs = Vec::with_capacity(self.spilled.len() + 1);
        for entries in &self.spilled {
            runs.push(Run { file: Some(file), next: start, end: start + entries, buffer: Vec::new().into_iter() });
            start += entries;
        }
        runs.push(Run { file: None, next: 0, end: 0, buffer: self.run.into_iter() });
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (i, run) in runs.iter_mut().enumerate() {
            heads.extend(run.pop()?.map(|head| Reverse((head, i))));
        }
        while let Some(Reverse((head, i))) = heads.pop() {
            take(head)?;
            heads.extend(runs[i].pop()?.map(|head| Reverse((head, i))));
        }
        Ok(())
    }
}

/// A sorted run, read bit by bit from the file, or in memory as a whole.
struct Run<'a> {
    file: Option<&'a File>,
    next: u64,
    end: u64,
    buffer: std::vec::IntoIter<Entry>,
}

impl Run<'_> {
    fn pop(&mut self) -> io::Result<Option<Entry>> {
        if let (0, Some(file), true) = (self.buffer.len(), self.file, self.next < self.end) {
            let entries = (self.end - self.next).min(READ_ENTRIES as u64);
            let mut bytes = vec![0; entries as usize * ENTRY_LEN];
            file.read_exact_at(&mut bytes, self.next * ENTRY_LEN as u64)?;
            self.buffer = bytes.chunks_exact(ENTRY_LEN).filter_map(entry).collect::<Vec<_>>().into_iter();
            self.next += entries;
        }
        Ok(self.buffer.next())
    }
}

/// Writes the index of the file with this hash; hands `file` back with everything written to it.
pub(super) fn write(keys: KeySorter, hash: ContentHash, file: File) -> io::Result<File> {
    let mut header = Header::new(hash, keys.rows);
    let mut out = BufWriter::new(file);
    // What the header says of the keys is known behind the last of them only.
    out.seek(SeekFrom::Start(header.encoded_len() as u64))?;
    let mut block = Vec::with_capacity(BLOCK_ENTRIES);
    let (mut entries, mut blocks) = (0, 0);
    keys.merge(|entry| {
        header.add(entries, entry.0);
        entries += 1;
        block.push(entry);
        if block.len() == BLOCK_ENTRIES {
            out.write_all(&encode_block(&block, blocks, hash))?;
            block.clear();
            blocks += 1;
        }
        Ok(())
    })?;
    if !block.is_empty() {
        out.write_all(&encode_block(&block, blocks, hash))?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.write_all_at(&header.encode(), 0)?;
    Ok(file)
}
