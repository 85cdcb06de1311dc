//! Reading a file, a page of each column at a time.
//!
//! A row group is read and checked whole, and kept as it is, compressed: a tenth of what its rows take. Its pages are
//! decoded one after the other, each once, so that a merge of many files needs little memory for each.
//!
//! Column chunks are read by plain positioned reads, never through a memory map: a bad sector is then an error for one
//! file, where under a map it would be a signal that ends the process.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::{ArrowSchema, FileMetadataRef, ParquetReader, PolarsError, SerReader};
use polars_buffer::Buffer;
use polars_parquet::parquet::statistics::Statistics;
use xxhash_rust::xxh3::xxh3_64;

use super::super::FORMAT_VERSION;
use super::super::error::{At, Error, Result, or_not_found};
use super::batch::RowBatch;
use super::encode::PAGE_BYTES;
use super::group::GroupRows;
use super::{GROUPS_KEY, VERSION_KEY, guarded, schema};

/// Bytes that a decoded row takes beside its texts: the places of four texts and two times.
const ROW_OVERHEAD: u64 = 32;
/// Bytes behind a footer: its length, and the four that a Parquet file ends with.
const FOOTER_END: u64 = 8;
/// Rows of a page whose values take two bytes or more; those that take less are few.
const PAGE_ROWS: u64 = 16 * 1024;

/// Streams the rows of one file in order.
pub struct RowReader {
    path: PathBuf,
    source: Source,
    footer: FileMetadataRef,
    metadata: BTreeMap<String, String>,
    starts: Vec<u64>,
    groups: Vec<Group>,
    next: usize,
    current: Option<GroupRows>,
    bytes_read: u64,
}

/// What is checked of a row group before it is decoded.
struct Group {
    bytes: Range<u64>,
    hash: u64,
}

/// Where the bytes come from: a published file is streamed, a fragment stands verified in memory.
enum Source {
    File(File),
    Memory(Buffer<u8>),
}

impl RowReader {
    /// Opens a file and checks its footer: schema, format version, row counts. Reads no row, and checks no hash.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = or_not_found(File::open(path), "open", path)?;
        let len = file.metadata().at("look at", path)?.len();
        let (footer, schema) = read_footer(path, &footer_bytes(path, &file, len)?)?;
        Self::new(path, Source::File(file), len, footer, &schema)
    }

    /// The same for a file that stands in memory. `path` is for messages.
    pub(in super::super) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let (footer, schema) = read_footer(path, &bytes)?;
        let len = bytes.len() as u64;
        Self::new(path, Source::Memory(bytes.into()), len, footer, &schema)
    }

    fn new(path: &Path, source: Source, len: u64, footer: FileMetadataRef, schema: &ArrowSchema) -> Result<Self> {
        let pairs = footer.key_value_metadata().iter().flatten();
        let metadata: BTreeMap<_, _> =
            pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect();
        check_version(path, &metadata)?;
        schema::check(schema).map_err(|reason| Error::damaged(path, reason))?;
        let mut rows = 0;
        let mut starts = Vec::with_capacity(footer.row_groups.len());
        for group in &footer.row_groups {
            starts.push(rows);
            rows += group.num_rows() as u64;
        }
        if rows != footer.num_rows as u64 {
            return Err(Error::damaged(path, format!("{} rows, but {rows} in its row groups", footer.num_rows)));
        }
        let groups = hashed_groups(&footer, &metadata, len).map_err(|reason| Error::damaged(path, reason))?;
        let path = path.to_owned();
        Ok(Self { path, source, footer, metadata, starts, groups, next: 0, current: None, bytes_read: 0 })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows in the whole file.
    pub fn rows(&self) -> u64 {
        self.footer.num_rows as u64
    }

    /// The key-value metadata of the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Row groups in the file.
    pub fn row_groups(&self) -> usize {
        self.starts.len()
    }

    /// The number of the first row of each row group.
    pub fn row_group_starts(&self) -> &[u64] {
        &self.starts
    }

    /// Bytes of column chunks read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Bytes that the reader and one batch take in memory at most, about: a row group compressed, or the whole file where
    /// it stands in memory, and a decoded page of each column.
    pub fn weight(&self) -> u64 {
        let weigh = |(group, Group { bytes, .. }): (usize, &Group)| {
            let compressed = match &self.source {
                Source::File(_) => bytes.end - bytes.start,
                Source::Memory(bytes) => bytes.len() as u64,
            };
            let page = |bytes: i64| u64::try_from(bytes).unwrap_or(0).min(PAGE_BYTES as u64);
            let columns = self.footer.row_groups.get(group).map_or(&[][..], |group| group.parquet_columns());
            let pages: u64 = columns.iter().map(|column| page(column.uncompressed_size())).sum();
            compressed + pages + (self.rows_of(group) as u64).min(PAGE_ROWS) * ROW_OVERHEAD
        };
        self.groups.iter().enumerate().map(weigh).max().unwrap_or(0)
    }

    /// The next rows in order, all of one row group; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn next_batch(&mut self) -> Result<Option<RowBatch>> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None if self.next >= self.row_groups() => return Ok(None),
            None => {
                let current = self.open_group(self.next)?;
                self.next += 1;
                current
            }
        };
        let group = self.next.saturating_sub(1);
        let batch =
            guarded(|| current.next()).map_err(|reason| self.damaged(format!("row group {group}: {reason}")))?;
        if !current.is_over() {
            self.current = Some(current);
        }
        Ok(Some(batch))
    }

    /// Turns to the first row of row group `i`: it is the next to come.
    ///
    /// # Errors
    /// [`Error::Damaged`] when there is no such row group.
    pub fn turn_to(&mut self, i: usize) -> Result<()> {
        if i >= self.row_groups() {
            return Err(self.damaged(format!("it has no row group {i}")));
        }
        (self.current, self.next) = (None, i);
        Ok(())
    }

    /// Turns to the first row of this user at or behind this time, or to the first that would stand behind it: it is the next
    /// to come. Row groups that cannot hold it, by the statistics of the footer, are not read.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn seek(&mut self, user_id: &str, timestamp: i64) -> Result<()> {
        (self.current, self.next) = (None, self.row_groups());
        for i in 0..self.row_groups() {
            if self.stands_before(i, user_id, timestamp) {
                continue;
            }
            let mut group = self.open_group(i)?;
            guarded(|| group.skip_to(user_id, timestamp))
                .map_err(|reason| self.damaged(format!("row group {i}: {reason}")))?;
            self.next = i + 1;
            if !group.is_over() {
                self.current = Some(group);
                break;
            }
        }
        Ok(())
    }

    /// Whether rows of this user can stand in row group `i`, by the statistics of the footer.
    fn may_hold(&self, i: usize, user_id: &str) -> bool {
        self.users_of(i)
            .is_none_or(|(least, greatest)| (least.as_slice()..=greatest.as_slice()).contains(&user_id.as_bytes()))
    }

    /// Whether any row group can hold rows of this user, by the statistics of the footer.
    pub fn may_hold_user(&self, user_id: &str) -> bool {
        (0..self.row_groups()).any(|i| self.may_hold(i, user_id))
    }

    /// Whether all rows of row group `i` stand before this user and time, by the statistics of the footer.
    fn stands_before(&self, i: usize, user_id: &str, timestamp: i64) -> bool {
        let Some((least, greatest)) = self.users_of(i) else { return false };
        let user_id = user_id.as_bytes();
        greatest.as_slice() < user_id
            || least == user_id && greatest == user_id && self.last_time_of(i).is_some_and(|last| last < timestamp)
    }

    /// The least and the greatest user of row group `i`.
    fn users_of(&self, i: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let statistics = self.statistics(i, schema::USER_ID)?;
        let of = statistics.as_binary()?;
        of.min_value.clone().zip(of.max_value.clone())
    }

    /// The latest timestamp of row group `i`.
    fn last_time_of(&self, i: usize) -> Option<i64> {
        self.statistics(i, schema::TIMESTAMP)?.as_int64()?.max_value
    }

    fn statistics(&self, i: usize, column: &str) -> Option<Statistics> {
        let group = self.footer.row_groups.get(i)?;
        let chunk = group.columns_under_root_iter(column)?.next()?;
        guarded(|| chunk.statistics(&self.footer.footer_buf).transpose()).ok()?
    }

    fn rows_of(&self, group: usize) -> usize {
        self.footer.row_groups.get(group).map_or(0, |group| group.num_rows())
    }

    fn open_group(&mut self, i: usize) -> Result<GroupRows> {
        let bytes = self.read_group(i)?;
        let opened = guarded(|| {
            let group = self.footer.row_groups.get(i).ok_or("it is not in the footer")?;
            GroupRows::open(group, &bytes, self.groups[i].bytes.start)
        });
        opened.map_err(|reason| self.damaged(format!("row group {i}: {reason}")))
    }

    /// The bytes of a row group, checked against its hash.
    fn read_group(&mut self, i: usize) -> Result<Buffer<u8>> {
        let Group { bytes: range, hash } = &self.groups[i];
        let bytes = match &self.source {
            Source::Memory(bytes) => bytes.clone().sliced(range.start as usize..range.end as usize),
            Source::File(file) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                match file.read_exact_at(&mut bytes, range.start) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(self.damaged("it became shorter"));
                    }
                    other => other.at("read", &self.path)?,
                }
                bytes.into()
            }
        };
        if xxh3_64(&bytes) != *hash {
            return Err(self.damaged(format!("row group {i} does not match its hash")));
        }
        self.bytes_read += bytes.len() as u64;
        Ok(bytes)
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::damaged(&self.path, reason)
    }
}

/// The bytes of a file from the start of its footer on. Polars would read 64 KiB to find a tenth of that.
fn footer_bytes(path: &Path, file: &File, len: u64) -> Result<Vec<u8>> {
    let read = |bytes: u64| {
        let bytes = bytes.min(len);
        let mut tail = vec![0; bytes as usize];
        file.read_exact_at(&mut tail, len - bytes).at("read", path)?;
        Ok(tail)
    };
    let end = read(FOOTER_END)?;
    let footer = match end.as_slice() {
        [a, b, c, d, b'P', b'A', b'R', b'1'] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => return Err(Error::damaged(path, "it does not end as a Parquet file")),
    };
    if footer + FOOTER_END > len {
        return Err(Error::damaged(path, "its footer is longer than the file"));
    }
    read(footer + FOOTER_END)
}

/// Decodes the footer that these bytes end with.
fn read_footer(path: &Path, bytes: &[u8]) -> Result<(FileMetadataRef, Arc<ArrowSchema>)> {
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let read = guarded(|| {
        let schema = reader.schema()?;
        Ok::<_, PolarsError>((Arc::clone(reader.get_metadata()?), schema))
    });
    read.map_err(|reason| Error::damaged(path, reason))
}

fn check_version(path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    let text = metadata.get(VERSION_KEY).ok_or_else(|| Error::damaged(path, format!("it has no {VERSION_KEY}")))?;
    let found: u64 = text.parse().map_err(|_| Error::damaged(path, format!("its {VERSION_KEY} is {text:?}")))?;
    if found > FORMAT_VERSION {
        return Err(Error::NewerFormat { path: path.to_owned(), found, known: FORMAT_VERSION });
    }
    Ok(())
}

/// Where each row group lies and what its hash is; the groups follow one another without overlap.
fn hashed_groups(
    footer: &FileMetadataRef,
    metadata: &BTreeMap<String, String>,
    len: u64,
) -> Result<Vec<Group>, String> {
    let list = metadata.get(GROUPS_KEY).map_or("", String::as_str);
    let mut start = 0;
    let mut groups = Vec::with_capacity(footer.row_groups.len());
    for entry in list.split(',').filter(|entry| !entry.is_empty()) {
        let parsed = entry
            .split_once('-')
            .and_then(|(end, hash)| Some((end.parse::<u64>().ok()?, u64::from_str_radix(hash, 16).ok()?)));
        // Before anything is allocated: damage may have made any number of it.
        let (end, hash) = parsed
            .filter(|(end, _)| (start..=len).contains(end))
            .ok_or_else(|| format!("its {GROUPS_KEY} has no row group that ends at {entry:?}, in {len} bytes"))?;
        groups.push(Group { bytes: start..end, hash });
        start = end;
    }
    if groups.len() != footer.row_groups.len() {
        return Err(format!("its {GROUPS_KEY} lists {} row groups of {}", groups.len(), footer.row_groups.len()));
    }
    Ok(groups)
}

impl fmt::Debug for RowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowReader").field("path", &self.path).field("rows", &self.rows()).finish_non_exhaustive()
    }
}
