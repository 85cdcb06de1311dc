//! The batcher: turns what the buffer holds into fragments.
//!
//! Constraints:
//! - A claim is acknowledged only when all its fragments are safe on disk, and nothing else ever takes a heartbeat out of
//!   the buffer. The order stands in one function, `Job::finish` in `write`.
//! - The same claim makes the same fragments, whoever writes it and how often: rows sorted by the full sort order, what is
//!   condemned left out exactly. The batcher never deduplicates; publishing does.
//! - A fault of the world is retried for ever and named on `/health`; a fault of the data becomes a dead letter.
//! - Any number of batchers work beside each other. Ranks say who tries which partition, leases say who may, epochs make
//!   the steps of a zombie fail. What a zombie still stores is harmless: see `lease`.
//! - Time is tokio's clock throughout, so that a test can hold it and let a lease lapse between two steps.
//! - In memory are at most `claims_at_once` claims, each within the budget of a claim.
//!
//! The states of a claim, each step with what moves it on:
//!
//! ```text
//! pending ──claim──▶ standing ──encode──▶ encoded ──condemn──▶ settled ──store──▶ stored ──ack──▶ gone
//!                       ▲                    │                    │                  │
//!                       └────────────────────┴────────────────────┴──────────────────┘
//!                         a fault of the world, a stop, a lost lease, a death:
//!                         the buffer hands the claim back, whole, to whoever leases the partition next
//! ```
//!
//! What dies where: before *settled* nothing of the claim stands on disk, and the next owner may condemn anew. From then
//! on it makes fragments of the same names, over those that are there. A claim whose owners died with it three times is
//! tried one frame at a time, each on record before it is touched; the frame in hand at the third such death is condemned.
//! A worker leaves such a claim alone for its first seconds, so that nobody is blamed for kills that come from outside.
//!
//! Files: policy without I/O in `ownership`, `cadence`, `split` and `condemn`; one claim in `write`, one partition
//! in `worker`, the whole in `service`; what cuts a step short in `interrupt`, `lease` and `fault`; what the outside sees in
//! `health`, `lag` and `metrics`.

mod cadence;
mod condemn;
mod fault;
mod health;
mod interrupt;
mod lag;
mod lease;
mod metrics;
mod options;
mod ownership;
mod service;
mod split;
mod worker;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;

pub use metrics::Metrics;
pub use options::Options;
pub use service::Batcher;

use crate::buffer::Buffer;
use crate::dataset::Dataset;

/// Why a batcher did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its settings contradict each other.
    #[error("{0}")]
    Options(String),
}

/// What all workers of one batcher use.
#[derive(Debug)]
struct Shared {
    buffer: Arc<dyn Buffer>,
    dataset: Dataset,
    options: Options,
    metrics: Metrics,
    problems: Arc<health::Problems>,
    /// One for each claim that may be in hand at once.
    places: Arc<Semaphore>,
    /// Whether no other batcher lives.
    alone: Arc<AtomicBool>,
    stored: lag::Stored,
}
