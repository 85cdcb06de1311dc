//! From rows to Parquet pages, compressed.
//!
//! The Parquet library writes pages of any encoding, but chooses encodings by hashing every value of every column, wants
//! its own columns for them, and makes a compressor anew for each page. Here a column's kind decides. Sorted rows have times
//! with small steps between them, and a time of arrival follows the time of the beat: differences. Texts that repeat
//! (users, devices) stand in a dictionary. Texts that mostly differ compress best with their lengths apart: between the
//! texts, they cut every match short.
//!
//! Constraint: the same rows make the same bytes. What depends on chance (the hasher's seed) decides about no byte, and a
//! compressor serves one file only, so that nothing of another file is left in it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use foldhash::fast::RandomState;
use polars::prelude::{PolarsResult, StatisticsOptions, polars_err};
use polars_parquet::parquet::CowBuffer;
use polars_parquet::parquet::compression::Compression;
use polars_parquet::parquet::encoding::hybrid_rle;
use polars_parquet::parquet::page::{
    CompressedDataPage, CompressedDictPage, DataPageHeader, DataPageHeaderV1, FormatEncoding,
};
use polars_parquet::parquet::statistics::{BinaryStatistics, ParquetStatistics, PrimitiveStatistics};
use polars_parquet::write::{
    CompressedPage, CompressionOptions, Descriptor, ParquetType, Version, WriteOptions, write_def_levels,
};
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use super::columns::RowGroup;
use super::delta_encoder;

/// Raw bytes of a page: small against what a reader takes of a row group at once.
pub(super) const PAGE_BYTES: usize = 128 << 10;
/// The fastest level is also the best one short of 6 for texts of a hundred bytes that differ in some numbers and names:
/// the matches that the levels between find on top are too short to pay.
const ZSTD_LEVEL: i32 = 1;
/// Times in a page.
const PAGE_TIMES: usize = PAGE_BYTES / size_of::<i64>();
/// Keys of a dictionary in a page.
const PAGE_KEYS: usize = PAGE_BYTES / size_of::<u32>();
/// A dictionary larger than this is not worth reading whole.
const DICTIONARY_BYTES: usize = 1 << 20;
/// Longer smallest and largest values are cut to this in statistics, as most writers do.
const STATISTICS_BYTES: usize = 64;

/// What the file around the pages has to know.
pub(super) fn write_options() -> WriteOptions {
    WriteOptions {
        statistics: StatisticsOptions::full(),
        version: Version::V1,
        compression: CompressionOptions::Zstd(None),
        data_page_size: None,
    }
}

/// Makes the pages of one file.
pub(super) struct Pages {
    zstd: Compressor<'static>,
    /// A page, before it is compressed,
    page: Vec<u8>,
    /// and after.
    compressed: Vec<u8>,
}

impl Pages {
    pub(super) fn new() -> PolarsResult<Self> {
        let zstd = Compressor::new(ZSTD_LEVEL)?;
        Ok(Self { zstd, page: Vec::new(), compressed: Vec::new() })
    }

    /// The pages of each column. `types` are those of the columns in the file's order.
    pub(super) fn of(&mut self, rows: &impl RowGroup, types: &[ParquetType]) -> PolarsResult<Vec<Vec<CompressedPage>>> {
        let [user_id, device_id, timestamp, received_at, id, attributes] = types else {
            return Err(polars_err!(ComputeError: "{} columns", types.len()));
        };
        let len = rows.len();
        Ok(vec![
            self.texts(&Texts::new(len, |at| Some(rows.user_id(at))), user_id)?,
            self.texts(&Texts::new(len, |at| Some(rows.device_id(at))), device_id)?,
            self.times(len, |at| rows.timestamp(at), timestamp)?,
            self.times(len, |at| rows.received_at(at), received_at)?,
            self.texts(&Texts::new(len, |at| rows.id(at)), id)?,
            self.texts(&Texts::new(len, |at| rows.attributes(at)), attributes)?,
        ])
    }

    fn times(
        &mut self,
        len: usize,
        get: impl Fn(usize) -> i64,
        type_: &ParquetType,
    ) -> PolarsResult<Vec<CompressedPage>> {
        let descriptor = descriptor(type_)?;
        let mut pages = Vec::new();
        for start in (0..len).step_by(PAGE_TIMES) {
            let rows = start..len.min(start + PAGE_TIMES);
            self.page.clear();
            write_def_levels(&mut self.page, true, None, rows.len(), Version::V1)?;
            delta_encoder::put(&mut self.page, rows.len(), rows.clone().map(&get));
            let statistics = PrimitiveStatistics {
                primitive_type: descriptor.primitive_type.clone(),
                null_count: Some(0),
                distinct_count: None,
                min_value: rows.clone().map(&get).min(),
                max_value: rows.clone().map(&get).max(),
            };
            let header = header(FormatEncoding::DELTA_BINARY_PACKED, rows.len(), statistics.serialize());
            pages.push(self.data_page(header, descriptor.clone(), rows.len())?);
        }
        Ok(pages)
    }

    fn texts<'a>(&mut self, texts: &Texts<impl Get<'a>>, type_: &ParquetType) -> PolarsResult<Vec<CompressedPage>> {
        let descriptor = descriptor(type_)?;
        match dictionary(texts) {
            Some(dictionary) => self.texts_by_key(texts, &dictionary, &descriptor),
            None => self.texts_by_length(texts, &descriptor),
        }
    }

    fn texts_by_length<'a>(
        &mut self,
        texts: &Texts<impl Get<'a>>,
        descriptor: &Descriptor,
    ) -> PolarsResult<Vec<CompressedPage>> {
        let mut pages = Vec::new();
        let mut start = 0;
        while start < texts.len {
            let rows = full_page(texts, start);
            start = rows.end;
            self.page.clear();
            put_levels(&mut self.page, texts, rows.clone())?;
            let present = || rows.clone().filter_map(&texts.get);
            let count = rows.len() - texts.nulls_in(&rows);
            delta_encoder::put(&mut self.page, count, present().map(|text| text.len() as i64));
            let mut bounds = Bounds::default();
            for text in present() {
                self.page.extend_from_slice(text.as_bytes());
                bounds.include(text);
            }
            let statistics = bounds.statistics(texts.nulls_in(&rows), descriptor);
            let header = header(FormatEncoding::DELTA_LENGTH_BYTE_ARRAY, rows.len(), statistics);
            pages.push(self.data_page(header, descriptor.clone(), rows.len())?);
        }
        Ok(pages)
    }

    fn texts_by_key<'a>(
        &mut self,
        texts: &Texts<impl Get<'a>>,
        dictionary: &Dictionary<'_>,
        descriptor: &Descriptor,
    ) -> PolarsResult<Vec<CompressedPage>> {
        self.page.clear();
        let mut bounds = Bounds::default();
        for text in &dictionary.values {
            put_plain(&mut self.page, text);
            bounds.include(text);
        }
        let (buffer, len) = (CowBuffer::Owned(self.compress()?), self.page.len());
        let values = CompressedDictPage::new(buffer, Compression::Zstd, len, dictionary.values.len(), false);
        let mut pages = vec![CompressedPage::Dict(values)];

        let largest = dictionary.values.len().saturating_sub(1) as u32;
        let width = u32::BITS - largest.leading_zeros();
        let mut keys = dictionary.keys.as_slice();
        for start in (0..texts.len).step_by(PAGE_KEYS) {
            let rows = start..texts.len.min(start + PAGE_KEYS);
            let (of_page, rest) = keys.split_at(rows.len() - texts.nulls_in(&rows));
            keys = rest;
            self.page.clear();
            put_levels(&mut self.page, texts, rows.clone())?;
            self.page.push(width as u8);
            hybrid_rle::encode::<u32, _, _>(&mut self.page, of_page.iter().copied(), width)?;
            let statistics = bounds.statistics(texts.nulls_in(&rows), descriptor);
            let header = header(FormatEncoding::RLE_DICTIONARY, rows.len(), statistics);
            pages.push(self.data_page(header, descriptor.clone(), rows.len())?);
        }
        Ok(pages)
    }

    fn data_page(&mut self, header: DataPageHeader, of: Descriptor, rows: usize) -> PolarsResult<CompressedPage> {
        let buffer = CowBuffer::Owned(self.compress()?);
        let page = CompressedDataPage::new(header, buffer, Compression::Zstd, self.page.len(), of, rows);
        Ok(CompressedPage::Data(page))
    }

    fn compress(&mut self) -> PolarsResult<Vec<u8>> {
        self.compressed.clear();
        self.compressed.reserve(compress_bound(self.page.len()));
        self.zstd.compress_to_buffer(&self.page, &mut self.compressed)?;
        Ok(self.compressed.as_slice().to_vec())
    }
}

/// Gives the text of a row.
trait Get<'a>: Fn(usize) -> Option<&'a str> {}

impl<'a, F: Fn(usize) -> Option<&'a str>> Get<'a> for F {}

/// A column of texts, some of which may be null.
struct Texts<G> {
    len: usize,
    get: G,
    nulls: usize,
}

impl<'a, G: Get<'a>> Texts<G> {
    fn new(len: usize, get: G) -> Self {
        let nulls = (0..len).filter(|at| get(*at).is_none()).count();
        Self { len, get, nulls }
    }

    fn nulls_in(&self, rows: &Range<usize>) -> usize {
        if self.nulls == 0 { 0 } else { rows.clone().filter(|at| (self.get)(*at).is_none()).count() }
    }

    fn iter(&self) -> impl Iterator<Item = Option<&'a str>> {
        (0..self.len).map(&self.get)
    }
}

/// The rows that fill a page from `start` on, at least one.
fn full_page<'a>(texts: &Texts<impl Get<'a>>, start: usize) -> Range<usize> {
    let mut bytes = 0;
    let full = (start..texts.len).find(|row| {
        bytes += (texts.get)(*row).map_or(0, |text| size_of::<u32>() + text.len());
        bytes >= PAGE_BYTES
    });
    start..full.map_or(texts.len, |row| row + 1)
}

fn put_plain(page: &mut Vec<u8>, text: &str) {
    page.extend_from_slice(&(text.len() as u32).to_le_bytes());
    page.extend_from_slice(text.as_bytes());
}

/// Which rows are not null, behind the length of that.
fn put_levels<'a>(page: &mut Vec<u8>, texts: &Texts<impl Get<'a>>, rows: Range<usize>) -> PolarsResult<()> {
    if texts.nulls == 0 {
        return write_def_levels(page, true, None, rows.len(), Version::V1);
    }
    let start = page.len();
    page.extend_from_slice(&[0; 4]);
    hybrid_rle::encode::<bool, _, _>(page, rows.map(|row| (texts.get)(row).is_some()), 1)?;
    let len = (page.len() - start - 4) as u32;
    page[start..start + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

fn descriptor(type_: &ParquetType) -> PolarsResult<Descriptor> {
    match type_ {
        ParquetType::PrimitiveType(type_) => {
            Ok(Descriptor { primitive_type: type_.clone(), max_def_level: 0, max_rep_level: 0 })
        }
        ParquetType::GroupType { .. } => Err(polars_err!(ComputeError: "a column is not primitive")),
    }
}

fn header(encoding: FormatEncoding, rows: usize, statistics: ParquetStatistics) -> DataPageHeader {
    DataPageHeader::V1(DataPageHeaderV1 {
        num_values: rows as i32,
        encoding,
        definition_level_encoding: FormatEncoding::RLE,
        repetition_level_encoding: FormatEncoding::RLE,
        statistics: Some(statistics),
    })
}

/// The smallest and the largest of some texts.
#[derive(Default)]
struct Bounds<'a> {
    smallest: Option<&'a str>,
    largest: Option<&'a str>,
}

impl<'a> Bounds<'a> {
    fn include(&mut self, text: &'a str) {
        self.smallest = Some(self.smallest.map_or(text, |smallest| smallest.min(text)));
        self.largest = Some(self.largest.map_or(text, |largest| largest.max(text)));
    }

    fn statistics(&self, nulls: usize, of: &Descriptor) -> ParquetStatistics {
        let statistics = BinaryStatistics {
            primitive_type: of.primitive_type.clone(),
            null_count: Some(nulls as i64),
            distinct_count: None,
            max_value: self.largest.map(|text| cut_above(text).into_bytes()),
            min_value: self.smallest.map(|text| cut_below(text).as_bytes().to_vec()),
        };
        statistics.serialize()
    }
}

/// Not above `text`, and short.
fn cut_below(text: &str) -> &str {
    &text[..text.floor_char_boundary(STATISTICS_BYTES)]
}

/// Not below `text`, and short where there is anything short above it.
fn cut_above(text: &str) -> String {
    let start = cut_below(text);
    let above = |(at, last): (usize, char)| Some((at, char::from_u32(u32::from(last) + 1)?));
    match start.char_indices().rev().find_map(above) {
        Some((at, next)) if start.len() < text.len() => format!("{}{next}", &start[..at]),
        _ => text.to_owned(),
    }
}

/// Distinct texts in order of their first row, and the key of each row that is not null.
struct Dictionary<'a> {
    values: Vec<&'a str>,
    keys: Vec<u32>,
}

/// `None` where most texts stand only once.
fn dictionary<'a>(texts: &Texts<impl Get<'a>>) -> Option<Dictionary<'a>> {
    if !repeats(texts) {
        return None;
    }
    let most = most_distinct(texts.len - texts.nulls);
    let (mut values, mut bytes) = (Vec::new(), 0);
    let mut keys: Vec<u32> = Vec::with_capacity(texts.len - texts.nulls);
    let mut known: HashMap<&str, u32, RandomState> = HashMap::default();
    let mut before = None;
    for text in texts.iter().flatten() {
        let key = match before {
            // A sorted column repeats itself at once.
            Some((same, key)) if same == text => key,
            _ => match known.entry(text) {
                Entry::Occupied(found) => *found.get(),
                Entry::Vacant(place) => {
                    let key = values.len() as u32;
                    values.push(text);
                    bytes += size_of::<u32>() + text.len();
                    if values.len() > most || bytes > DICTIONARY_BYTES {
                        return None;
                    }
                    *place.insert(key)
                }
            },
        };
        keys.push(key);
        before = Some((text, key));
    }
    Some(Dictionary { values, keys })
}

/// Whether texts repeat, judged by some of them: a whole dictionary is costly to build in vain.
fn repeats<'a>(texts: &Texts<impl Get<'a>>) -> bool {
    const SAMPLE: usize = 4096;
    let step = texts.len.div_ceil(SAMPLE).max(1);
    let mut looked_at = 0;
    let mut distinct: HashSet<&str, RandomState> = HashSet::default();
    for text in texts.iter().step_by(step).flatten() {
        looked_at += 1;
        distinct.insert(text);
    }
    looked_at > 0 && distinct.len() <= most_distinct(looked_at)
}

/// Of so many texts, this many may be distinct for a dictionary to pay.
fn most_distinct(texts: usize) -> usize {
    texts - texts / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_cut_outwards() {
        let long = "é".repeat(40);
        assert_eq!(cut_below(&long), "é".repeat(32));
        assert_eq!(cut_above(&long), format!("{}ê", "é".repeat(31)));
        let top = "\u{10ffff}".repeat(20);
        assert_eq!(cut_above(&top), top, "nothing short stands above it");
        let nearly_top = format!("a{top}");
        assert_eq!(cut_above(&nearly_top), "b");
        for text in ["", "short", &long, &top, &nearly_top] {
            assert!(cut_below(text) <= text && text <= cut_above(text).as_str(), "{text}");
        }
    }

    #[test]
    fn a_dictionary_is_made_where_texts_repeat() {
        let values_and_keys = |texts: &[Option<String>]| {
            let found = dictionary(&Texts::new(texts.len(), |at| texts[at].as_deref()));
            found.map(|found| (found.values.len(), found.keys))
        };
        let numbers = |of: usize| (0..5_000).map(|n| Some((n % of).to_string())).collect::<Vec<_>>();
        assert_eq!(values_and_keys(&numbers(5_000)), None, "each stands once");
        let (values, keys) = values_and_keys(&numbers(10)).unwrap();
        assert_eq!((values, keys.len(), &keys[8..12]), (10, 5_000, &[8, 9, 0, 1][..]));
        assert_eq!(values_and_keys(&[None, None]), None, "there is nothing to hold");
        let large: Vec<_> = (0..2_000).map(|n| Some(format!("{:04000}", n % 1_000))).collect();
        assert_eq!(values_and_keys(&large), None, "it would be larger than a dictionary may be");
        let with_nulls = [Some("a"), None, Some("a"), Some("b"), Some("b")].map(|text| text.map(str::to_owned));
        assert_eq!(values_and_keys(&with_nulls), Some((2, vec![0, 0, 1, 1])));
    }
}
