//! The service: who may read now, and what all walks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::aside::Aside;
use super::options::{FIRST_TURN_WITHIN, NEXT_TURN_WITHIN};
use super::{Error, KEPT_BYTES, Metrics, Options, Position, Query, Scan};
use crate::buffer::Frames;
use crate::dataset::Awaited;

/// What is counted of what walks keep.
const KEPT_UNIT: usize = 1 << 10;

/// What an answer covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Buffer and files: all that was ever acknowledged.
    All,
    /// Only what still waits in the buffer: this process sees no files.
    BufferOnly,
}

/// Reads buffer and files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading {
    pub(super) shared: Arc<Shared>,
}

/// What all walks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) buffer: Arc<dyn Frames>,
    pub(super) dataset: Awaited,
    pub(super) metrics: Metrics,
    pub(super) aside: Aside,
    turns: Arc<Semaphore>,
    kept: Arc<Semaphore>,
    /// Whether the last read failed: so that the log names a fault once, not with each read.
    failing: AtomicBool,
}

/// The right to work, until the last clone is dropped: work goes on where nobody waits for it any more.
pub(super) type Turn = Arc<OwnedSemaphorePermit>;

impl Reading {
    /// Reads this buffer and, where they can be seen, the files of its dataset.
    pub fn new(buffer: Arc<dyn Frames>, dataset: impl Into<Awaited>, options: &Options, metrics: Metrics) -> Self {
        let dataset = dataset.into();
        let aside = Aside::new(options.reads_at_once);
        let turns = Arc::new(Semaphore::new(options.reads_at_once.into()));
        let kept = Arc::new(Semaphore::new(KEPT_BYTES / KEPT_UNIT));
        let failing = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { buffer, dataset, metrics, aside, turns, kept, failing }) }
    }

    /// What its answers cover.
    pub fn coverage(&self) -> Coverage {
        if self.shared.dataset.get().is_some() { Coverage::All } else { Coverage::BufferOnly }
    }

    /// Begins behind `after`, or at the first heartbeat. Nothing is read yet.
    pub fn scan(&self, query: Query, after: Option<Position>) -> Scan {
        Scan::new(self.shared.clone(), query, after)
    }
}

impl Shared {
    /// Waits for a turn, not for long.
    pub(super) async fn turn(&self, is_first: bool) -> Result<Turn, Error> {
        let after = if is_first { FIRST_TURN_WITHIN } else { NEXT_TURN_WITHIN };
        match tokio::time::timeout(after, self.turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Arc::new(permit)),
            Ok(Err(closed)) => Err(Error::CutOff { reason: closed.to_string() }),
            Err(_) => {
                self.metrics.busy.inc();
                Err(Error::Busy { after })
            }
        }
    }

    /// The right to keep so many bytes until the next page, if there is room for them.
    pub(super) fn keep(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(KEPT_UNIT)).ok()?;
        self.kept.clone().try_acquire_many_owned(units).ok()
    }

    /// Learns how a read ended.
    pub(super) fn note(&self, outcome: Result<(), &Error>) {
        let failed = match outcome {
            Ok(()) => false,
            // Neither tells anything of buffer or files.
            Err(Error::Busy { .. } | Error::CutOff { .. }) => return,
            Err(_) => true,
        };
        let before = self.failing.swap(failed, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.metrics.failures.inc();
            if !before {
                let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, source, "heartbeats cannot be read");
            }
        } else if before {
            tracing::info!("heartbeats can be read again");
        }
    }
}
