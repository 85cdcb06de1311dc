//! What reading counts.

use prometheus::{Histogram, IntCounter, Registry};

use crate::telemetry::metrics::Register;

/// The metrics of live reads.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) pages: IntCounter,
    pub(super) page_seconds: Histogram,
    pub(super) looked_at: IntCounter,
    pub(super) given: IntCounter,
    pub(super) busy: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) skipped_frames: IntCounter,
}

impl Metrics {
    /// Adds them to `registry`.
    ///
    /// # Errors
    /// A name is taken: a mistake in the program.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        Ok(Self {
            pages: register.counter("read_pages_total", "Pages of heartbeats made for readers")?,
            page_seconds: register
                .seconds("read_page_seconds", "Time to make one page, with the wait for a turn, without its sending")?,
            looked_at: register
                .counter("read_rows_looked_at_total", "Rows that were decoded to make pages for readers")?,
            given: register.counter("read_rows_total", "Heartbeats given to readers")?,
            busy: register.counter("read_busy_total", "Reads that were given up because too many were under way")?,
            failures: register
                .counter("read_failures_total", "Reads that ended with an error of the buffer or the files")?,
            skipped_frames: register.counter(
                "read_frames_skipped_total",
                "Frames that were passed over because they cannot be decoded: they become dead letters",
            )?,
        })
    }
}
