//! Looking identities up in several published files.

use std::sync::Arc;

use super::super::error::{Error, Result};
use super::super::paths::Staged;
use super::super::{Bucket, Dataset, PublishedName, RowBatch, RowReader};
use super::{Header, IndexFile, key_of};
use crate::heartbeat::HeartbeatRef;

/// Answers whether identities stand in some published files. No file is kept open between two questions.
#[derive(Debug)]
pub struct IdentityLookup {
    dataset: Dataset,
    bucket: Bucket,
    files: Vec<(PublishedName, Arc<Header>)>,
    bytes_read: u64,
}

/// A row of the question, and the row of a file that has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    row_in_file: u32,
    asked: usize,
}

impl IdentityLookup {
    pub(super) fn new(dataset: Dataset, bucket: Bucket, published: &[PublishedName]) -> Result<Self> {
        let mut bytes_read = 0;
        let mut files = Vec::with_capacity(published.len());
        for name in published {
            let (header, read) = dataset.index_header(bucket, name)?;
            bytes_read += read;
            files.push((*name, header));
        }
        Ok(Self { dataset, bucket, files, bytes_read })
    }

    /// One answer a row: does a row with its identity stand in any of the published files?
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::NotFound`] for a published file, [`Error::Io`].
    pub fn contains(&mut self, rows: &[HeartbeatRef<'_>]) -> Result<Vec<bool>> {
        let mut stands = vec![false; rows.len()];
        if self.files.is_empty() {
            return Ok(stands);
        }
        let mut keys: Vec<_> = rows.iter().enumerate().map(|(i, row)| (key_of(row), i)).collect();
        // Rows stand in the order of users, the index in the order of minutes.
        keys.sort_unstable();
        for at in 0..self.files.len() {
            let (name, header) = self.files[at].clone();
            let open: Vec<_> = keys.iter().copied().filter(|(key, i)| !stands[*i] && header.covers(*key)).collect();
            if open.is_empty() {
                continue;
            }
            let mut candidates = self.search(&name, &header, &open)?;
            candidates.sort_unstable();
            self.confirm(&name, rows, &candidates, &mut stands)?;
        }
        Ok(stands)
    }

    /// Bytes read so far, of indexes and published files.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn search(&mut self, name: &PublishedName, header: &Arc<Header>, keys: &[(u64, usize)]) -> Result<Vec<Candidate>> {
        let path = self.dataset.paths().staged(self.bucket, Staged::Index(*name));
        let opened = IndexFile::open_with(&path, Arc::clone(header));
        match opened.and_then(|index| self.search_in(index, keys)) {
            Err(Error::Damaged { reason, .. }) => self.search_anew(name, keys, &reason),
            Err(Error::NotFound { .. }) => self.search_anew(name, keys, "it is missing"),
            other => other,
        }
    }

    fn search_anew(&mut self, name: &PublishedName, keys: &[(u64, usize)], reason: &str) -> Result<Vec<Candidate>> {
        let index = self.dataset.rebuild_index(self.bucket, name, reason)?;
        self.search_in(index, keys)
    }

    fn search_in(&mut self, mut index: IndexFile, keys: &[(u64, usize)]) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        index.search(keys, |row_in_file, asked| candidates.push(Candidate { row_in_file, asked }))?;
        self.bytes_read += index.bytes_read();
        Ok(candidates)
    }

    /// Compares the identities themselves, reading each row group that holds a candidate once.
    fn confirm(
        &mut self,
        name: &PublishedName,
        rows: &[HeartbeatRef<'_>],
        candidates: &[Candidate],
        stands: &mut [bool],
    ) -> Result<()> {
        if candidates.is_empty() {
            return Ok(());
        }
        let mut reader = self.dataset.open_published(self.bucket, name)?;
        let starts = reader.row_group_starts().to_vec();
        let group_of = |row: u32| starts.partition_point(|start| *start <= u64::from(row)).saturating_sub(1);
        for in_group in candidates.chunk_by(|a, b| group_of(a.row_in_file) == group_of(b.row_in_file)) {
            let group = group_of(in_group[0].row_in_file);
            reader.turn_to(group)?;
            let (mut batch, mut first) = (None, starts[group]);
            for candidate in in_group {
                let row = u64::from(candidate.row_in_file);
                // Candidates are sorted: no batch is asked for twice.
                let holding = loop {
                    let current = match batch.take() {
                        Some(current) => current,
                        None => reader.next_batch()?.ok_or_else(|| too_short(&reader))?,
                    };
                    let current: RowBatch = current;
                    if row < first + current.len() as u64 {
                        break current;
                    }
                    first += current.len() as u64;
                };
                if holding.row((row - first) as usize).has_identity_of(&rows[candidate.asked]) {
                    stands[candidate.asked] = true;
                }
                batch = Some(holding);
            }
        }
        self.bytes_read += reader.bytes_read();
        Ok(())
    }
}

fn too_short(reader: &RowReader) -> Error {
    Error::damaged(reader.path(), "it is shorter than its identity index")
}
