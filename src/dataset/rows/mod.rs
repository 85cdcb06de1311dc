//! Rows as columns of a Parquet file, and back.
//!
//! Constraints: one fixed schema, never inferred; in memory one row group that is written, or one that is read,
//! compressed, and a page of each of its columns; the same rows make the same bytes in every run; and no row group is
//! decoded before its bytes were checked against its hash: pages have no checksum of their own, most flipped bits in them
//! read back as other rows, and some make the Parquet library ask for more memory than there is, which ends the process.
//! The footer has no such net but the hash of the whole file.
//!
//! Format: the columns `user_id` string, `device_id` string, `timestamp` timestamp[ms, UTC], `received_at` timestamp[ms,
//! UTC], `id` string or null, `attributes` string or null (JSON), in this order; each in the encoding that suits it, and
//! zstd at level 1 (`encode`); full statistics; a row group ends at 128 × 1024 rows or with the row that reaches 8 MiB of
//! raw data, a page at about 128 KiB. Key-value metadata: `systole.format_version`, `systole.content` (`fragment`,
//! `published`, or `export` for what a reader asked for), `systole.row_groups` (for each row group `<end>-<hash>`, separated by commas: where it ends in the file,
//! and the xxh3_64, as 16 hexadecimal digits, of all bytes since the end of the one before, or the start of the file), and
//! what [`super::PublishRecord`] adds. No embedded Arrow schema, so that every engine maps the plain Parquet types to its
//! own usual ones. A file of no rows has no row group.

mod batch;
mod columns;
mod delta_decoder;
mod delta_encoder;
mod encode;
mod group;
mod pages;
mod reader;
mod schema;
mod writer;

pub use batch::RowBatch;
pub use reader::RowReader;
pub(super) use writer::{GroupBounds, RowWriter, WriteError};

/// The metadata key of the format version.
pub(super) const VERSION_KEY: &str = "systole.format_version";
/// The metadata key that tells fragments from published files.
pub(super) const CONTENT_KEY: &str = "systole.content";

/// The metadata key of the ends and hashes of the row groups.
const GROUPS_KEY: &str = "systole.row_groups";

/// Runs a step of polars, whose panics on odd input are errors to us.
fn guarded<T, E: std::fmt::Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    // What the closure leaves half-done is thrown away by every caller.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("the Parquet library gave up: {}", message.as_deref().unwrap_or("for no stated reason")))
        }
    }
}

#[cfg(test)]
mod tests;
