//! What the batcher counts.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::telemetry::metrics::Register;

/// The batcher's metrics. A cheap handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Batches: claims written and acknowledged.
    pub batches: IntCounter,
    /// Fragments stored.
    pub fragments: IntCounter,
    /// Heartbeats in them.
    pub rows: IntCounter,
    /// Bytes of them.
    pub bytes: IntCounter,
    /// Heartbeats that became dead letters.
    pub condemned_rows: IntCounter,
    /// From a claim to its acknowledgement.
    pub claim_seconds: Histogram,
    /// From the bytes of a fragment to its being safe on disk.
    pub fragment_write_seconds: Histogram,
    /// Partitions held.
    pub partitions_owned: IntGauge,
    /// Failed steps that are tried again, by kind of fault.
    pub retries: IntCounterVec,
    /// Partitions left to other batchers because their claim was not finished in time.
    pub yields: IntCounter,
    /// Age of the oldest fragment that was met, in seconds; 0 when none waits.
    pub oldest_fragment_age: IntGauge,
    /// Bytes free on the disk of the dataset.
    pub disk_free: IntGauge,
    /// Free bytes below which nothing is claimed.
    pub disk_min_free: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken: a mistake in the program.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let metrics = Self {
            batches: register.counter("batcher_batches_total", "Claims written and acknowledged")?,
            fragments: register.counter("batcher_fragments_total", "Fragments stored")?,
            rows: register.counter("batcher_rows_total", "Heartbeats in fragments stored")?,
            bytes: register.counter("batcher_fragment_bytes_total", "Bytes of fragments stored")?,
            condemned_rows: register.counter("batcher_condemned_rows_total", "Heartbeats that became dead letters")?,
            claim_seconds: register.seconds("batcher_claim_seconds", "Time from a claim to its acknowledgement")?,
            fragment_write_seconds: register
                .seconds("batcher_fragment_write_seconds", "Time to make a fragment safe on disk")?,
            partitions_owned: register.gauge("batcher_partitions_owned", "Partitions that this batcher holds")?,
            retries: register.counters(
                "batcher_retries_total",
                "Failed steps that are tried again, by kind of fault",
                &["fault"],
            )?,
            yields: register
                .counter("batcher_yields_total", "Partitions left to other batchers for want of progress")?,
            oldest_fragment_age: register.gauge(
                "batcher_oldest_fragment_age_seconds",
                "Age of the oldest unpublished fragment that this batcher met; 0 when none waits",
            )?,
            disk_free: register.gauge("batcher_disk_free_bytes", "Bytes free on the disk of the dataset")?,
            disk_min_free: register
                .gauge("batcher_disk_min_free_bytes", "Free bytes below which no new data is claimed")?,
        };
        for fault in ["disk", "buffer", "format", "panic"] {
            metrics.retries.with_label_values(&[fault]);
        }
        Ok(metrics)
    }
}
