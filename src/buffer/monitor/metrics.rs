//! What the looks at the buffer count.

use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::super::PartitionStatus;
use super::Snapshot;
use crate::heartbeat::Partition;
use crate::telemetry::metrics::Register;

/// As [`Durability::level`](super::Durability::level) names them.
const DURABILITY_LEVELS: [&str; 4] = ["always", "everysec", "no", "volatile"];

/// The metrics of the buffer.
#[derive(Debug, Clone)]
pub struct Metrics {
    held: IntGaugeVec,
    held_bytes: IntGaugeVec,
    max: IntGaugeVec,
    max_bytes: IntGaugeVec,
    oldest_pending: GaugeVec,
    claim_age: GaugeVec,
    claim_deaths: IntGaugeVec,
    ledger: IntGaugeVec,
    devices: IntGaugeVec,
    devices_forgotten: IntCounterVec,
    gone_back: IntCounterVec,
    batchers_alive: IntGauge,
    reachable: IntGauge,
    accepts: IntGauge,
    durability: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let by_partition = |name, help| register.gauges(name, help, &["partition"]);
        let seconds = |name, help| register.seconds_gauges(name, help, &["partition"]);
        Ok(Self {
            held: by_partition(
                "buffer_heartbeats",
                "Heartbeats that the buffer holds: pending, claimed and dead letters",
            )?,
            held_bytes: by_partition("buffer_bytes", "Bytes of frames that the buffer holds")?,
            max: by_partition("buffer_heartbeats_max", "Heartbeats that the buffer may hold")?,
            max_bytes: by_partition("buffer_bytes_max", "Bytes of frames that the buffer may hold")?,
            oldest_pending: seconds(
                "buffer_oldest_pending_age_seconds",
                "How long the oldest pending heartbeat has waited; 0 when none waits",
            )?,
            claim_age: seconds(
                "buffer_claim_age_seconds",
                "How long the standing claim has stood; 0 when none stands",
            )?,
            claim_deaths: by_partition(
                "buffer_claim_deaths",
                "How often an owner of the standing claim died with it; 0 when none stands",
            )?,
            ledger: register.gauges(
                "buffer_ledger_heartbeats",
                "The books: accepted = pending + claimed + acked + dead + dropped",
                &["partition", "column"],
            )?,
            devices: by_partition("devices_remembered", "Devices that are remembered, by when they were last seen")?,
            devices_forgotten: register.counters(
                "devices_forgotten_total",
                "Devices that were forgotten for want of room, before remember-devices had passed",
                &["partition"],
            )?,
            gone_back: register.counters(
                "buffer_gone_back_heartbeats_total",
                "Heartbeats that the buffer had accepted before this process's eyes and then forgot, by coming back older",
                &["partition"],
            )?,
            batchers_alive: register.gauge("batchers_alive", "Batchers that gave a sign of life in time")?,
            reachable: register.gauge("buffer_reachable", "1 when the buffer answered the last look at it, else 0")?,
            accepts: register
                .gauge("buffer_accepts", "1 when the buffer would have taken a push at the last look at it, else 0")?,
            durability: register.gauges(
                "buffer_durability",
                "1 for the level of durability that the buffer was last found to have, else 0",
                &["level"],
            )?,
        })
    }

    /// What a look found.
    pub(super) fn show(&self, snapshot: &Snapshot, alive: usize) {
        self.reachable.set(1);
        self.accepts.set(snapshot.refuses.is_none().into());
        self.batchers_alive.set(alive as i64);
        self.show_durability(snapshot.durability.level);
        for status in &snapshot.partitions {
            self.show_partition(status);
        }
    }

    /// A look failed: what the last one found stands, but for this.
    pub(super) fn show_fault(&self) {
        self.reachable.set(0);
        self.accepts.set(0);
    }

    /// What the buffer has forgotten of a partition, in all.
    pub(super) fn show_forgotten(&self, partition: Partition, gone_back: u64) {
        let counter = self.gone_back.with_label_values(&[partition.to_string().as_str()]);
        counter.inc_by(gone_back.saturating_sub(counter.get()));
    }

    fn show_durability(&self, found: &str) {
        for level in DURABILITY_LEVELS {
            self.durability.with_label_values(&[level]).set((level == found).into());
        }
    }

    fn show_partition(&self, status: &PartitionStatus) {
        let partition = status.partition.to_string();
        let label = &[partition.as_str()];
        // A gauge of the crate is signed; no count of heartbeats comes near its bound.
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let ledger = &status.ledger;
        self.held.with_label_values(label).set(number(ledger.pending + ledger.claimed + ledger.dead));
        self.held_bytes.with_label_values(label).set(number(ledger.bytes));
        self.max.with_label_values(label).set(number(status.cap_rows));
        self.max_bytes.with_label_values(label).set(number(status.cap_bytes));
        self.devices.with_label_values(label).set(number(status.devices));
        let forgotten = self.devices_forgotten.with_label_values(label);
        forgotten.inc_by(status.devices_forgotten.saturating_sub(forgotten.get()));
        let waited = status.oldest_pending.unwrap_or_default();
        self.oldest_pending.with_label_values(label).set(waited.as_secs_f64());
        let age = status.claim.map(|claim| claim.age).unwrap_or_default();
        self.claim_age.with_label_values(label).set(age.as_secs_f64());
        // It exists from the start, so that a scraper knows it before it moves.
        self.gone_back.with_label_values(label);
        self.claim_deaths.with_label_values(label).set(status.claim.map_or(0, |claim| claim.deaths.into()));
        for (column, count) in [
            ("accepted", ledger.accepted),
            ("pending", ledger.pending),
            ("claimed", ledger.claimed),
            ("acked", ledger.acked),
            ("dead", ledger.dead),
            ("dropped", ledger.dropped),
        ] {
            self.ledger.with_label_values(&[partition.as_str(), column]).set(number(count));
        }
    }
}
