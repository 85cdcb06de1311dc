//! What the compactor counts.

use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use crate::telemetry::metrics::Register;

/// The compactor's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) publishes: IntCounter,
    pub(super) publish_seconds: Histogram,
    pub(super) rows_published: IntCounter,
    pub(super) rows_deduplicated: IntCounter,
    pub(super) fragments_merged: IntCounter,
    pub(super) fragments_known: IntCounter,
    pub(super) fragments_quarantined: IntCounter,
    pub(super) consolidations: IntCounter,
    pub(super) consolidation_seconds: Histogram,
    pub(super) rows_consolidated: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) staged_fragments: IntGauge,
    pub(super) staged_rows: IntGauge,
    pub(super) staged_oldest_age: IntGauge,
    pub(super) quarantined: IntGauge,
    pub(super) held_back: IntGauge,
    pub(super) published_files: IntGauge,
}

impl Metrics {
    /// Adds them to `registry`.
    ///
    /// # Errors
    /// A name is taken: a mistake in the program.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        Ok(Self {
            publishes: register
                .counter("compactor_publishes_total", "Files published, without the results of consolidations")?,
            publish_seconds: register
                .seconds("compactor_publish_seconds", "Time to publish one file, from listing to deleting")?,
            rows_published: register
                .counter("compactor_rows_published_total", "Rows that became visible to readers")?,
            rows_deduplicated: register
                .counter("compactor_rows_deduplicated_total", "Rows dropped because their identity stands")?,
            fragments_merged: register
                .counter("compactor_fragments_merged_total", "Fragments merged into published files")?,
            fragments_known: register
                .counter("compactor_fragments_known_total", "Fragments deleted because they had been merged before")?,
            fragments_quarantined: register
                .counter("compactor_fragments_quarantined_total", "Damaged fragments laid aside")?,
            consolidations: register.counter("compactor_consolidations_total", "Consolidations of a bucket")?,
            consolidation_seconds: register
                .seconds("compactor_consolidation_seconds", "Time to consolidate one bucket")?,
            rows_consolidated: register
                .counter("compactor_rows_consolidated_total", "Rows rewritten by consolidations")?,
            failures: register.counter("compactor_failures_total", "Visits to a bucket that ended with an error")?,
            staged_fragments: register.gauge("compactor_staged_fragments", "Fragments that wait to be published")?,
            staged_rows: register.gauge("compactor_staged_rows", "Rows that wait to be published")?,
            staged_oldest_age: register
                .gauge("compactor_staged_oldest_age_seconds", "Age of the oldest staged fragment")?,
            quarantined: register.gauge("compactor_quarantined_fragments", "Damaged fragments in quarantine")?,
            held_back: register.gauge("compactor_held_back_buckets", "Buckets held back until a person has looked")?,
            published_files: register.gauge("compactor_published_files", "Published files that readers see")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn every_metric_carries_the_prefix_and_registers_once() {
        let registry = registry().unwrap();
        Metrics::register(&registry).unwrap().publishes.inc();
        let text = String::from_utf8(render(&registry).unwrap()).unwrap();
        assert!(text.contains("systole_compactor_publishes_total 1"), "{text}");
        assert!(Metrics::register(&registry).is_err());
    }
}
