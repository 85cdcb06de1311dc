//! What a user's devices have reported: every heartbeat that was acknowledged, wherever it lies by now, each identity once
//! and in order.

pub mod cursor;
pub mod output;

use std::sync::Arc;

use crate::buffer::{self, Frames};
use crate::dataset::{self, Dataset};
use crate::heartbeat::{Heartbeat, HeartbeatRef};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Whose heartbeats.
    pub user_id: String,
    /// Those of this device only.
    pub device_id: Option<String>,
    /// From this timestamp on, ms since the Unix epoch.
    pub from: Option<i64>,
    /// To before this timestamp, ms since the Unix epoch.
    pub to: Option<i64>,
}

/// A place in the order of one user's heartbeats: that of an identity, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Ms since the Unix epoch.
    pub timestamp: i64,
    /// The device.
    pub device_id: String,
    /// The client's key, none first.
    pub id: Option<String>,
}

/// What an answer covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Buffer and files: all that was ever acknowledged.
    All,
    /// Only what still waits in the buffer: this process sees no files.
    BufferOnly,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The buffer does not answer, or is not to be trusted.
    #[error(transparent)]
    Buffer(#[from] buffer::Error),
    /// A file cannot be read.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
}

/// Reads buffer and files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading {
    buffer: Arc<dyn Frames>,
    dataset: Option<Dataset>,
}

impl Reading {
    /// Reads this buffer and, where they can be seen, the files of its dataset.
    pub fn new(buffer: Arc<dyn Frames>, dataset: Option<Dataset>) -> Self {
        Self { buffer, dataset }
    }

    /// What its answers cover.
    pub fn coverage(&self) -> Coverage {
        if self.dataset.is_some() { Coverage::All } else { Coverage::BufferOnly }
    }

    /// Begins behind `after`, or at the first heartbeat.
    pub fn scan(&self, query: Query, after: Option<Position>) -> Scan {
        Scan { reading: self.clone(), query, after }
    }
}

/// A walk over what a query asks for, page by page.
#[derive(Debug)]
pub struct Scan {
    reading: Reading,
    query: Query,
    after: Option<Position>,
}

impl Scan {
    /// The next heartbeats in order, at most `most` of them and a few MiB; `None` at the end.
    ///
    /// What was acknowledged before the call and lies behind the place that the walk has reached is in this page or a later
    /// one, however it moves meanwhile.
    ///
    /// # Errors
    /// Those of the stores. The walk may be continued by calling again.
    pub async fn next(&mut self, most: usize) -> Result<Option<Page>, Error> {
        let _ = (most, &self.reading.buffer, &self.query, &self.after);
        Ok(None)
    }
}

/// Some heartbeats of one user, in order.
#[derive(Debug, Default)]
pub struct Page {
    rows: Vec<Heartbeat>,
}

impl Page {
    /// The heartbeats.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = HeartbeatRef<'_>> {
        self.rows.iter().map(Heartbeat::as_ref)
    }
}
