//! What the spill counts.

use prometheus::{IntCounter, IntGauge, Registry};

use super::super::Ledger;
use crate::telemetry::metrics::Register;

/// The spill's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) spilled: IntCounter,
    pub(super) injected: IntCounter,
    waiting: IntGauge,
    waiting_bytes: IntGauge,
    max_bytes: IntGauge,
    dead: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        Ok(Self {
            spilled: register.counter("spill_heartbeats_total", "Heartbeats that the spill took in")?,
            injected: register
                .counter("spill_injected_heartbeats_total", "Heartbeats that went from the spill into the buffer")?,
            waiting: register.gauge("spill_waiting_heartbeats", "Heartbeats in the spill that wait for the buffer")?,
            waiting_bytes: register.gauge("spill_waiting_bytes", "Bytes of frames in the spill")?,
            max_bytes: register.gauge("spill_bytes_max", "Bytes of frames that the spill may hold")?,
            dead: register.gauge(
                "spill_dead_letter_heartbeats",
                "Heartbeats in the spill that can never go in: the disk damaged them",
            )?,
        })
    }

    /// Says how much the spill may hold.
    pub(super) fn holds_at_most(&self, bytes: u64) {
        self.max_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn show(&self, books: &Ledger) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.waiting.set(number(books.pending + books.claimed));
        self.waiting_bytes.set(number(books.bytes));
        self.dead.set(number(books.dead));
    }
}
