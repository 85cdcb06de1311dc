//! The pages of one column of a row group, decoded one after the other, each once.
//!
//! Constraint: of each column one page is in memory decoded. The encodings are those that the writer uses, and those that
//! it used before: dictionary and plain for all columns, differences for times, lengths apart for texts.

use std::cell::RefCell;
use std::io::Cursor;
use std::sync::Arc;

use polars_buffer::Buffer;
use polars_parquet::parquet::compression::DecompressionContext;
use polars_parquet::parquet::encoding::hybrid_rle::HybridRleDecoder;
use polars_parquet::parquet::metadata::ColumnChunkMetadata;
use polars_parquet::parquet::page::{CompressedPage, DataPage, Page};
use polars_parquet::parquet::read::{PageReader, decompress};
use polars_parquet::write::Encoding;

use super::delta_decoder;

/// No page is larger, compressed or not: the library allocates what a page's header says.
const MAX_PAGE_BYTES: usize = 1 << 30;
/// The place of a value that is null.
const NULL: u32 = u32::MAX;

thread_local! {
    /// What the decompression works with, some hundred KiB: one for each thread that reads, not for each open file.
    static CONTEXT: RefCell<DecompressionContext> = const { RefCell::new(DecompressionContext::Unset) };
}

/// A page as values.
pub(super) trait Values: Sized {
    /// The values that all pages of a column refer to.
    type Dictionary;

    fn dictionary(bytes: &[u8], values: usize) -> Result<Self::Dictionary, String>;

    fn decode(data: &Data<'_>, dictionary: Option<&Self::Dictionary>) -> Result<Self, String>;
}

/// What a page says.
pub(super) struct Data<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
    rows: usize,
    /// For each row whether it has a value; left out where all have one.
    levels: Option<Vec<u32>>,
}

impl Data<'_> {
    fn values(&self) -> usize {
        self.levels.as_ref().map_or(self.rows, |levels| levels.iter().filter(|level| **level > 0).count())
    }

    /// Numbers of entries of the dictionary, one for each value.
    fn keys(&self, entries: usize) -> Result<Vec<u32>, String> {
        let values = self.values();
        let (width, bytes) = match self.bytes.split_first() {
            Some((width, bytes)) => (u32::from(*width), bytes),
            None if values == 0 => return Ok(Vec::new()),
            None => return Err("its keys are cut".into()),
        };
        let keys = HybridRleDecoder::new(bytes, width, values).collect().map_err(|error| error.to_string())?;
        match keys.iter().find(|key| **key as usize >= entries) {
            Some(key) => Err(format!("its key {key} is none of {entries}")),
            None if keys.len() != values => Err(format!("it has {} keys for {values} values", keys.len())),
            None => Ok(keys),
        }
    }
}

/// The pages of one column.
pub(super) struct Column<V: Values> {
    pages: PageReader,
    optional: bool,
    dictionary: Option<V::Dictionary>,
    page: Option<Arc<V>>,
    at: usize,
    rows: usize,
}

/// Some rows of one page; the first stands at the number beside it.
pub(super) type Part<V> = (Arc<V>, usize);

impl<V: Values> Column<V> {
    /// `bytes` are those of the column chunk.
    pub(super) fn open(bytes: Buffer<u8>, chunk: &ColumnChunkMetadata) -> Result<Self, String> {
        let mut pages = PageReader::new(Cursor::new(bytes), chunk, Vec::new(), MAX_PAGE_BYTES);
        let dictionary = match pages.read_dict().map_err(|error| error.to_string())? {
            None => None,
            Some(page) => match inflated(CompressedPage::Dict(page))? {
                Page::Dict(page) => Some(V::dictionary(&page.buffer, page.num_values)?),
                Page::Data(_) => return Err("its dictionary is none".into()),
            },
        };
        let optional = chunk.descriptor().descriptor.max_def_level > 0;
        Ok(Self { pages, optional, dictionary, page: None, at: 0, rows: 0 })
    }

    /// Rows that can be taken from the page at hand; 0 at the end of the column.
    pub(super) fn at_hand(&mut self) -> Result<usize, String> {
        while self.at == self.rows {
            // Before the next one is decoded, so that there are not two.
            self.page = None;
            let Some(next) = self.pages.next() else { return Ok(0) };
            match inflated(next.map_err(|error| error.to_string())?)? {
                Page::Data(page) => self.turn_to(&page)?,
                Page::Dict(_) => return Err("it has a dictionary among its pages".into()),
            }
        }
        Ok(self.rows - self.at)
    }

    fn turn_to(&mut self, page: &DataPage) -> Result<(), String> {
        let rows = page.num_values();
        let mut bytes = page.buffer();
        let levels = if self.optional { levels(&mut bytes, rows)? } else { None };
        let data = Data { encoding: page.encoding(), bytes, rows, levels };
        self.page = Some(Arc::new(V::decode(&data, self.dictionary.as_ref())?));
        (self.at, self.rows) = (0, rows);
        Ok(())
    }

    /// Passes over so many rows. Pages that lie whole among them are not decoded.
    pub(super) fn skip(&mut self, mut rows: usize) -> Result<(), String> {
        loop {
            let here = rows.min(self.rows - self.at);
            self.at += here;
            rows -= here;
            if rows == 0 {
                return Ok(());
            }
            self.page = None;
            let next = self.pages.next().ok_or("rows are missing")?.map_err(|error| error.to_string())?;
            match next {
                CompressedPage::Data(page) if page.num_values() <= rows => {
                    rows -= page.num_values();
                    (self.at, self.rows) = (0, 0);
                }
                page => match inflated(page)? {
                    Page::Data(page) => self.turn_to(&page)?,
                    Page::Dict(_) => return Err("it has a dictionary among its pages".into()),
                },
            }
        }
    }

    /// The page at hand, and where its first row stands that is still to come.
    pub(super) fn look(&self) -> Option<(&V, usize)> {
        Some((self.page.as_deref()?, self.at))
    }

    /// Takes so many of the rows at hand.
    pub(super) fn take(&mut self, rows: usize) -> Option<Part<V>> {
        let part = (Arc::clone(self.page.as_ref()?), self.at);
        self.at += rows;
        Some(part)
    }
}

fn inflated(page: CompressedPage) -> Result<Page, String> {
    CONTEXT.with_borrow_mut(|context| decompress(page, &mut Vec::new(), context)).map_err(|error| error.to_string())
}

/// Takes the definition levels from the front of a page; `None` when no row is null.
fn levels(bytes: &mut &[u8], rows: usize) -> Result<Option<Vec<u32>>, String> {
    let cut = || "its levels are cut".to_owned();
    let (len, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
    let (encoded, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut)?;
    *bytes = rest;
    let levels = HybridRleDecoder::new(encoded, 1, rows).collect().map_err(|error| error.to_string())?;
    if levels.len() != rows {
        return Err(format!("it has {} levels for {rows} rows", levels.len()));
    }
    Ok(levels.contains(&0).then_some(levels))
}

/// Times of one page; none is null.
pub(super) struct Times(Vec<i64>);

impl Times {
    pub(super) fn get(&self, row: usize) -> i64 {
        self.0[row]
    }
}

impl Values for Times {
    type Dictionary = Vec<i64>;

    fn dictionary(bytes: &[u8], values: usize) -> Result<Vec<i64>, String> {
        plain_times(bytes, values)
    }

    fn decode(data: &Data<'_>, dictionary: Option<&Vec<i64>>) -> Result<Self, String> {
        if data.values() < data.rows {
            return Err(format!("{} values are null", data.rows - data.values()));
        }
        let values = match (data.encoding, dictionary) {
            (Encoding::DeltaBinaryPacked, _) => delta_decoder::take(&mut { data.bytes }, data.rows)?,
            (Encoding::Plain, _) => plain_times(data.bytes, data.rows)?,
            (Encoding::RleDictionary | Encoding::PlainDictionary, Some(dictionary)) => {
                let keys = data.keys(dictionary.len())?;
                keys.into_iter().map(|key| dictionary[key as usize]).collect()
            }
            (other, _) => return Err(format!("times are not read from {other:?}")),
        };
        Ok(Self(values))
    }
}

fn plain_times(bytes: &[u8], values: usize) -> Result<Vec<i64>, String> {
    let (chunks, _) = bytes.as_chunks();
    let times = chunks.get(..values).ok_or_else(|| format!("{} times, not {values}", chunks.len()))?;
    Ok(times.iter().map(|time| i64::from_le_bytes(*time)).collect())
}

/// Texts, one after the other.
pub(super) struct TextBuffer {
    text: String,
    ends: Vec<u32>,
}

impl TextBuffer {
    fn new(text: Vec<u8>, ends: Vec<u32>) -> Result<Self, String> {
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        match ends.iter().find(|end| !text.is_char_boundary(**end as usize)) {
            None => Ok(Self { text, ends }),
            Some(end) => Err(format!("no text ends at {end}")),
        }
    }

    fn plain(mut bytes: &[u8], values: usize) -> Result<Self, String> {
        let (mut text, mut ends) = (Vec::with_capacity(bytes.len()), Vec::new());
        for _ in 0..values {
            let cut = || "its texts are cut".to_owned();
            let (len, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut)?;
            text.extend_from_slice(value);
            ends.push(u32::try_from(text.len()).map_err(|error| error.to_string())?);
            bytes = rest;
        }
        Self::new(text, ends)
    }

    fn with_lengths(mut bytes: &[u8], values: usize) -> Result<Self, String> {
        let lengths = delta_decoder::take(&mut bytes, values)?;
        let (mut ends, mut end) = (Vec::with_capacity(values), 0_u32);
        for len in lengths {
            let len = u32::try_from(len).map_err(|error| error.to_string())?;
            end = end.checked_add(len).ok_or("its texts have no end")?;
            ends.push(end);
        }
        let text = bytes.get(..end as usize).ok_or("its texts are cut")?;
        Self::new(text.to_vec(), ends)
    }

    fn get(&self, value: usize) -> &str {
        let start = value.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[value] as usize]
    }
}

/// Texts of one page.
pub(super) struct Texts {
    values: Arc<TextBuffer>,
    /// The value of each row; left out where they stand in the order of the rows.
    places: Option<Vec<u32>>,
}

impl Texts {
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        match &self.places {
            None => Some(self.values.get(row)),
            Some(places) => {
                Some(places[row]).filter(|place| *place != NULL).map(|place| self.values.get(place as usize))
            }
        }
    }
}

impl Values for Texts {
    type Dictionary = Arc<TextBuffer>;

    fn dictionary(bytes: &[u8], values: usize) -> Result<Arc<TextBuffer>, String> {
        TextBuffer::plain(bytes, values).map(Arc::new)
    }

    fn decode(data: &Data<'_>, dictionary: Option<&Arc<TextBuffer>>) -> Result<Self, String> {
        let (values, keys) = match (data.encoding, dictionary) {
            (Encoding::DeltaLengthByteArray, _) => {
                (Arc::new(TextBuffer::with_lengths(data.bytes, data.values())?), None)
            }
            (Encoding::Plain, _) => (Arc::new(TextBuffer::plain(data.bytes, data.values())?), None),
            (Encoding::RleDictionary | Encoding::PlainDictionary, Some(dictionary)) => {
                (Arc::clone(dictionary), Some(data.keys(dictionary.ends.len())?))
            }
            (other, _) => return Err(format!("texts are not read from {other:?}")),
        };
        let Some(levels) = &data.levels else {
            return Ok(Self { values, places: keys });
        };
        let mut keys = keys.unwrap_or_else(|| (0..data.values() as u32).collect()).into_iter();
        let place = |level: &u32| if *level > 0 { keys.next().unwrap_or(NULL) } else { NULL };
        Ok(Self { values, places: Some(levels.iter().map(place).collect()) })
    }
}

impl Texts {
    /// Whether any of its rows is null.
    pub(super) fn has_nulls(&self) -> bool {
        self.places.as_ref().is_some_and(|places| places.contains(&NULL))
    }
}
