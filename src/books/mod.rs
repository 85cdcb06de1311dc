//! The books: does every accepted heartbeat stand somewhere, and is every file what its name says?
//!
//! `audit` compares the buffer's ledger with what stands in the files; `verify` reads the files themselves. Both only
//! look; nothing is mended or moved.
//!
//! The equations, by partition and in heartbeats:
//!
//! - buffer: `accepted = pending + claimed + acked + dead + dropped`
//! - files: `merged = published + deduplicated`
//! - bridge: `acked + accepted surplus = staged + merged + quarantined`, each claim counted once in a bucket, and claims
//!   that still stand in the buffer left out on the right (they are `claimed` on the left).

pub mod audit;
mod count;
mod uniqueness;
pub mod verify;

/// Why the books could not be looked at. What they say when they could is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The buffer did not answer.
    #[error("buffer: {0}")]
    Buffer(#[from] crate::buffer::Error),
    /// The files could not be read.
    #[error("data: {0}")]
    Dataset(#[from] crate::dataset::Error),
    /// The buffer belongs to another dataset, or to none.
    #[error("the buffer does not belong to this dataset: {0}")]
    Mismatch(String),
    /// The task that read the files was cut off.
    #[error("reading the files was interrupted")]
    Interrupted,
}
