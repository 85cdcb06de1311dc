//! A row group as compressed pages.

use polars::prelude::{PolarsError, PolarsResult};
use polars_parquet::read::ParquetError;
use polars_parquet::write::{
    CompressedPage, CompressionOptions, Compressor, DynIter, DynStreamingIterator, FallibleStreamingIterator,
    ParquetType, RowGroupIterColumns, StatisticsOptions, Version, WriteOptions, ZstdLevel, array_to_columns,
};

use super::columns::Columns;

/// Raw bytes of a page: small against what a reader takes of a row group at once.
pub(super) const PAGE_BYTES: usize = 128 << 10;
/// The fastest level is also the best one short of 6 for texts of a hundred bytes that differ in some numbers and names:
/// the matches that the levels between find on top are too short to pay.
const ZSTD_LEVEL: i32 = 1;

pub(super) fn options() -> PolarsResult<WriteOptions> {
    Ok(WriteOptions {
        statistics: StatisticsOptions::full(),
        version: Version::V1,
        compression: CompressionOptions::Zstd(Some(ZstdLevel::try_new(ZSTD_LEVEL)?)),
        data_page_size: Some(PAGE_BYTES),
    })
}

/// The pages of each column, encoded and compressed as they are taken.
pub(super) fn compressed_pages(
    columns: Columns,
    types: &[ParquetType],
) -> PolarsResult<RowGroupIterColumns<'static, PolarsError>> {
    let options = options()?;
    let mut compressed = Vec::with_capacity(types.len());
    for ((array, encoding), parquet_type) in columns.finish().into_iter().zip(types) {
        for pages in array_to_columns(array, parquet_type.clone(), options, &[encoding])? {
            let pages = pages.map(|page| page.map_err(|error| ParquetError::FeatureNotSupported(error.to_string())));
            let pages = Compressor::new(pages, options.compression, Vec::new()).map_err(PolarsError::from);
            compressed.push(Ok::<_, PolarsError>(DynStreamingIterator::<CompressedPage, PolarsError>::new(pages)));
        }
    }
    Ok(DynIter::new(compressed.into_iter()))
}
