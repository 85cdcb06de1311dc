//! What a user's devices have reported: every heartbeat that was acknowledged, wherever it lies by now, each identity once
//! and in order.
//!
//! Constraints:
//! - Heartbeats move along the flow: spill, pending, claimed, staging, published. They are looked for along it, each stage
//!   listed only after the one before it was read. So one that moves meanwhile is met in the next stage, and none that was
//!   acknowledged before the walk began is missed: what was not in the buffer any more when that was read stood in a
//!   fragment; what was in no fragment any more when those were read stood in a published file.
//! - Nothing is locked, and nobody who writes waits for a reader. A file that has gone between listing and opening was merged
//!   or consolidated: its rows are in a file that is listed later (`files.rs`).
//! - A heartbeat that stands twice (a retry; or in two stages, between a step and the deletion that follows it) is given once:
//!   what is published stands, else the lowest in the sort order. So a later publish changes no answer, but where a retry
//!   arrived before the one that it repeats.
//! - Memory of a walk does not depend on how much there is: see below.
//! - An answer that silently lacks rows would be a lie: a damaged file is an error, until `systole compact` has laid it in
//!   quarantine or a person has mended it. Row groups are checked by their hashes before they are decoded. The footer is not,
//!   for which the whole file would have to be read: `systole verify` and every merge do. Frames that cannot be decoded become
//!   dead letters at the batcher; they are passed over and counted.
//! - CPU is what a walk takes from the door. At most `reads-at-once` work at a time, on threads that give way to all others
//!   (`aside.rs`), in slices: one page of frames, or one date.
//!
//! # A walk
//!
//! ```text
//! round:  waiting = the least rows of the buffer that match, up to WAITING_BYTES          (`waiting.rs`)
//!         dates   = those of both trees
//!         date by date, ascending:
//!             the least rows of staging, then of published, up to COLLECT_BYTES           (`files.rs`)
//!             and those of waiting that stand among them  ─▶ ready ─▶ pages
//!         where one of the bounds was met, what is behind it is looked for again: of the files in the same round, of the
//!         buffer in a new one, with new lists of files
//! ```
//!
//! Failpoints, in the order of its looks: `read.buffered`, and for each date `read.staging_listed`, `read.staging_read`,
//! `read.published_listed`.
//!
//! # Memory
//!
//! While it works a walk takes 4 MiB for `waiting` and what is ready, and either a page of frames (1 MiB, and one frame
//! opened) or one file (a row group compressed, and a page of each column). That is some 8 MiB, for each of `reads-at-once`
//! (1). Between two pages a walk keeps what it has only while all walks together keep less than [`KEPT_BYTES`] (8 MiB);
//! others begin a new round behind their last row, which is slower and gives the same. A page has some 256 KiB at most, which
//! is its holder's.

mod aside;
mod collect;
pub mod cursor;
mod error;
mod files;
mod metrics;
mod options;
pub mod output;
mod place;
mod reading;
mod scan;
mod waiting;

pub use error::Error;
pub use metrics::Metrics;
pub use options::Options;
pub use place::Position;
pub use reading::{Coverage, Reading};
pub use scan::{Page, Scan};

use self::place::Cut;
use crate::failpoint;
use crate::heartbeat::HeartbeatRef;

/// Bytes that all walks together keep between their pages.
pub const KEPT_BYTES: usize = 8 << 20;

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

/// Marks a place between two looks, where a test can make what was seen change.
fn reached(name: &str) -> Result<(), Error> {
    failpoint::reached(name).map_err(|error| Error::CutOff { reason: error.to_string() })
}

impl Query {
    /// Whether a row of its user is one of its device.
    fn wants(&self, row: &HeartbeatRef<'_>) -> bool {
        self.device_id.as_ref().is_none_or(|device_id| device_id == row.device_id)
    }

    fn begins(&self) -> Cut {
        self.from.map_or(Cut::Start, Cut::before)
    }

    fn ends(&self) -> Cut {
        self.to.map_or(Cut::End, Cut::before)
    }
}
