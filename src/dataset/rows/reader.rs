//! Reading a file, one window of rows at a time.
//!
//! A row group is read and checked whole, and kept as it is, compressed: a tenth of what its rows take. They are decoded
//! a window at a time, so that a merge of many files needs little memory for each. A page that two windows share is
//! decompressed twice, which small pages (see the writer) keep cheap.
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

use polars::prelude::_internal::to_deserializer;
use polars::prelude::{ArrowSchema, FileMetadataRef, ParquetReader, PolarsError, SerReader, Series};
use polars_parquet::read::Filter;

use super::super::FORMAT_VERSION;
use xxhash_rust::xxh3::xxh3_64;

use super::super::error::{At, Error, Result, or_not_found};
use super::batch::RowBatch;
use super::encode::PAGE_BYTES;
use super::{GROUPS_KEY, VERSION_KEY, guarded, schema};

/// Rows in a window at most,
const WINDOW_ROWS: usize = 8 * 1024;
/// and about so many bytes of decompressed pages.
const WINDOW_BYTES: u64 = 512 << 10;
/// Rows in a window at least, however large they are.
const WINDOW_ROWS_MIN: usize = 128;

/// Streams the rows of one file in order.
pub struct RowReader {
    path: PathBuf,
    source: Source,
    footer: FileMetadataRef,
    schema: Arc<ArrowSchema>,
    metadata: BTreeMap<String, String>,
    starts: Vec<u64>,
    groups: Vec<Group>,
    next: usize,
    current: Option<Current>,
    bytes_read: u64,
}

/// What is checked of a row group before it is decoded.
struct Group {
    bytes: Range<u64>,
    hash: u64,
}

/// The row group whose rows are being handed out.
struct Current {
    group: usize,
    /// Its bytes, unless they stand in memory anyway.
    read: Option<Vec<u8>>,
    /// Rows of it that were handed out.
    done: usize,
}

/// Where the bytes come from: a published file is streamed, a fragment stands verified in memory.
enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl RowReader {
    /// Opens a file and checks its footer: schema, format version, row counts. Reads no row, and checks no hash.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = or_not_found(File::open(path), "open", path)?;
        let len = file.metadata().at("look at", path)?.len();
        let second = file.try_clone().at("open", path)?;
        let (footer, schema) = read_footer(path, ParquetReader::new(second))?;
        Self::new(path, Source::File(file), len, footer, schema)
    }

    /// The same for a file that stands in memory. `path` is for messages.
    pub(in super::super) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let (footer, schema) = read_footer(path, ParquetReader::new(Cursor::new(bytes.as_slice())))?;
        let len = bytes.len() as u64;
        Self::new(path, Source::Memory(bytes), len, footer, schema)
    }

    fn new(path: &Path, source: Source, len: u64, footer: FileMetadataRef, schema: Arc<ArrowSchema>) -> Result<Self> {
        let pairs = footer.key_value_metadata().iter().flatten();
        let metadata: BTreeMap<_, _> =
            pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect();
        check_version(path, &metadata)?;
        schema::check(&schema).map_err(|reason| Error::damaged(path, reason))?;
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
        Ok(Self { path, source, footer, schema, metadata, starts, groups, next: 0, current: None, bytes_read: 0 })
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
    /// it stands in memory; a window of rows, and the pages that hold it.
    pub fn weight(&self) -> u64 {
        let weigh = |(i, group): (usize, &Group)| {
            let compressed = match &self.source {
                Source::File(_) => group.bytes.end - group.bytes.start,
                Source::Memory(bytes) => bytes.len() as u64,
            };
            let rows = self.window_rows(i).min(self.rows_of(i)) as u64;
            let pages = WINDOW_BYTES + self.schema.len() as u64 * PAGE_BYTES as u64;
            compressed + rows * RowBatch::ROW_OVERHEAD + pages.min(self.decompressed_len(i))
        };
        self.groups.iter().enumerate().map(weigh).max().unwrap_or(0)
    }

    /// The next rows in order, all of one row group; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn next_batch(&mut self) -> Result<Option<RowBatch>> {
        let current = match self.current.take() {
            Some(current) => current,
            None if self.next >= self.row_groups() => return Ok(None),
            None => {
                let group = self.next;
                let read = self.read_group(group)?;
                self.next += 1;
                Current { group, read, done: 0 }
            }
        };
        let Current { group, read, done } = current;
        let rows = self.rows_of(group);
        let end = rows.min(done + self.window_rows(group));
        let batch = self.decode(group, read.as_deref(), done..end)?;
        if end < rows {
            self.current = Some(Current { group, read, done: end });
        }
        Ok(Some(batch))
    }

    /// Row group `i` as a whole, wherever [`next_batch`](Self::next_batch) stands.
    ///
    /// # Errors
    /// [`Error::Damaged`], also when there is no such row group; [`Error::Io`].
    pub fn read_row_group(&mut self, i: usize) -> Result<RowBatch> {
        if i >= self.row_groups() {
            return Err(self.damaged(format!("it has no row group {i}")));
        }
        let read = self.read_group(i)?;
        self.decode(i, read.as_deref(), 0..self.rows_of(i))
    }

    fn rows_of(&self, group: usize) -> usize {
        self.footer.row_groups.get(group).map_or(0, |group| group.num_rows())
    }

    fn decompressed_len(&self, group: usize) -> u64 {
        self.footer.row_groups.get(group).map_or(0, |group| group.total_byte_size() as u64)
    }

    fn window_rows(&self, group: usize) -> usize {
        let of_bytes = (self.rows_of(group) as u64 * WINDOW_BYTES).checked_div(self.decompressed_len(group));
        of_bytes.map_or(WINDOW_ROWS, |rows| (rows as usize).clamp(WINDOW_ROWS_MIN, WINDOW_ROWS))
    }

    /// Some rows of a row group that was read.
    fn decode(&self, group: usize, read: Option<&[u8]>, rows: Range<usize>) -> Result<RowBatch> {
        let bytes = self.bytes_of(group, read);
        let columns = (0..self.schema.len()).map(|column| self.decode_column(group, column, bytes, rows.clone()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        to_batch(rows.len(), &columns).map_err(|reason| self.damaged(format!("row group {group}: {reason}")))
    }

    /// Checks the bytes of a row group against its hash. They are handed out where they do not stand in memory anyway.
    fn read_group(&mut self, i: usize) -> Result<Option<Vec<u8>>> {
        let Group { bytes: range, hash } = &self.groups[i];
        let len = range.end - range.start;
        let read = match &self.source {
            Source::Memory(_) => None,
            Source::File(file) => {
                let mut bytes = vec![0; len as usize];
                match file.read_exact_at(&mut bytes, range.start) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(self.damaged("it became shorter"));
                    }
                    other => other.at("read", &self.path)?,
                }
                Some(bytes)
            }
        };
        if xxh3_64(self.bytes_of(i, read.as_deref())) != *hash {
            return Err(self.damaged(format!("row group {i} does not match its hash")));
        }
        self.bytes_read += len;
        Ok(read)
    }

    /// The bytes of a row group, which were read unless they stand in memory.
    fn bytes_of<'a>(&'a self, group: usize, read: Option<&'a [u8]>) -> &'a [u8] {
        let range = &self.groups[group].bytes;
        match (&self.source, read) {
            (_, Some(read)) => read,
            (Source::Memory(bytes), None) => &bytes[range.start as usize..range.end as usize],
            // Damage, to whoever compares it with a hash or looks for a column in it.
            (Source::File(_), None) => &[],
        }
    }

    fn decode_column(&self, group: usize, column: usize, bytes: &[u8], rows: Range<usize>) -> Result<Series> {
        let found = self.schema.get_at_index(column).and_then(|(name, field)| {
            let mut chunks = self.footer.row_groups.get(group)?.columns_under_root_iter(name)?;
            Some((field, chunks.next().filter(|_| chunks.len() == 0)?))
        });
        let (field, chunk) = found.ok_or_else(|| self.damaged(format!("row group {group} lacks column {column}")))?;
        let fault = |reason: String| self.damaged(format!("row group {group}, column {}: {reason}", field.name));
        let (start, range) = (self.groups[group].bytes.start, chunk.byte_range());
        let within = range.start.checked_sub(start).zip(range.end.checked_sub(start));
        let bytes = within.and_then(|(start, end)| bytes.get(start as usize..end as usize));
        let bytes = bytes.ok_or_else(|| fault("it lies outside of its row group".into()))?.to_vec();
        let series = guarded(|| {
            let wanted = Filter::new_ranged(rows.start, rows.end);
            let (arrays, _) = to_deserializer(vec![(chunk, bytes.into())], field.clone(), Some(wanted))?;
            Ok::<_, PolarsError>(Series::try_from((field, arrays))?.rechunk())
        });
        let series = series.map_err(fault)?;
        if series.len() != rows.len() {
            return Err(fault(format!("{} values for {} rows", series.len(), rows.len())));
        }
        Ok(series)
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::damaged(&self.path, reason)
    }
}

fn read_footer<R: polars::io::mmap::MmapBytesReader>(
    path: &Path,
    mut reader: ParquetReader<R>,
) -> Result<(FileMetadataRef, Arc<ArrowSchema>)> {
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

/// `columns` in the order of the schema, each of `rows` values.
fn to_batch(rows: usize, columns: &[Series]) -> Result<RowBatch, String> {
    let [user_id, device_id, timestamp, received_at, id, attributes] = columns else {
        return Err(format!("{} columns", columns.len()));
    };
    for required in [user_id, device_id, timestamp, received_at] {
        if required.null_count() > 0 {
            return Err(format!("{} values of {} are null", required.null_count(), required.name()));
        }
    }
    let text = |series: &Series| series.str().cloned().map_err(|error| error.to_string());
    let time =
        |series: &Series| series.datetime().map(|time| time.physical().clone()).map_err(|error| error.to_string());
    Ok(RowBatch {
        len: rows,
        user_id: text(user_id)?,
        device_id: text(device_id)?,
        timestamp: time(timestamp)?,
        received_at: time(received_at)?,
        id: text(id)?,
        attributes: text(attributes)?,
    })
}

impl fmt::Debug for RowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowReader").field("path", &self.path).field("rows", &self.rows()).finish_non_exhaustive()
    }
}
