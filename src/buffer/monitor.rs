//! Watches the buffer, for `/health`, `/metrics` and whoever wants to know.
//!
//! Constraints: it only looks, so any number of processes may watch one buffer. What it says is true of the last look;
//! where a look fails, the parts of the board that it feeds are unwell until one succeeds. A look has a deadline of its
//! own (`LOOK_DEADLINE`), so that a hanging buffer is named within seconds.
//!
//! Operations: [`Monitor::new`] puts three parts on the board: "buffer" (heartbeats can be taken in), "batchers" (someone
//! is alive to take them out) and "drain" (they are taken out in time). [`Monitor::run`] keeps them up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use humantime::Duration as Span;
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Registry};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Batchers, Durability, Error, Inspect, PartitionStatus, Result};
use crate::heartbeat::Partition;
use crate::settings;
use crate::telemetry::health::{Affects, Health, Reporter};
use crate::telemetry::metrics::Register;

/// How long one look at the whole buffer may take. With `monitor_every` it bounds how late a hanging buffer is named.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// A monitor that has not reported for longer hangs, or is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Partitions that are asked about at the same time: fewer than the connections of a process.
const AT_ONCE: usize = 4;
/// After so many looks the durability is looked up again: an operator may change it while Redis runs.
const LOOKS_PER_DURABILITY: u32 = 15;
/// Partitions that a message names before it only counts.
const NAMED: usize = 5;

/// How the buffer is watched.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Watching the buffer")]
#[group(skip)]
pub struct Options {
    /// How often the buffer is looked at for /health and /metrics
    #[arg(long, env = "SYSTOLE_MONITOR_EVERY", default_value = "2s", value_name = "DURATION")]
    pub monitor_every: Span,
    /// /health turns 503 when a heartbeat has waited for longer; more than the batchers' max-delay
    #[arg(long, env = "SYSTOLE_DRAIN_LAG", default_value = "10s", value_name = "DURATION")]
    pub drain_lag: Span,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

/// The metrics of the buffer.
#[derive(Debug, Clone)]
pub struct Metrics {
    held: IntGaugeVec,
    held_bytes: IntGaugeVec,
    max: IntGaugeVec,
    max_bytes: IntGaugeVec,
    oldest_pending: GaugeVec,
    claim_age: GaugeVec,
    ledger: IntGaugeVec,
    batchers_alive: IntGauge,
    reachable: IntGauge,
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
            ledger: register.gauges(
                "buffer_ledger_heartbeats",
                "The books: accepted = pending + claimed + acked + dead + dropped",
                &["partition", "column"],
            )?,
            batchers_alive: register.gauge("batchers_alive", "Batchers that gave a sign of life in time")?,
            reachable: register.gauge("buffer_reachable", "1 when the buffer answered the last look at it, else 0")?,
        })
    }
}

/// What the last look at the buffer found.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the look ended.
    pub at: Instant,
    /// Every partition, in order.
    pub partitions: Vec<PartitionStatus>,
    /// Everyone on the list of batchers, with the time since the last sign of life.
    pub batchers: Batchers,
}

/// Watches the buffer until told to stop.
#[derive(Debug)]
pub struct Monitor {
    buffer: Arc<dyn Inspect>,
    options: Options,
    batcher_ttl: Duration,
    metrics: Metrics,
    parts: Parts,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
}

#[derive(Debug)]
struct Parts {
    buffer: Reporter,
    batchers: Reporter,
    drain: Reporter,
}

/// What is kept from look to look.
#[derive(Debug, Default)]
struct Memory {
    partitions: Option<Partition>,
    durability: Option<Durability>,
    looks: u32,
    /// What was wrong last time, to log changes only.
    fault: Option<String>,
}

impl Monitor {
    /// A batcher without a sign of life for `batcher_ttl` counts as dead. What a buffer out of reach `affects` depends on
    /// whether heartbeats can go anywhere else.
    ///
    /// Puts the parts "buffer", "batchers" and "drain" on the board; [`Monitor::run`] keeps them up to date.
    pub fn new(
        buffer: Arc<dyn Inspect>,
        options: &Options,
        batcher_ttl: Duration,
        affects: Affects,
        health: &Health,
        metrics: Metrics,
    ) -> Self {
        let deadline = SILENCE.max(*options.monitor_every * 3 + LOOK_DEADLINE);
        let parts = Parts {
            buffer: health.part("buffer", affects, deadline),
            batchers: health.part("batchers", Affects::Health, deadline),
            drain: health.part("drain", Affects::Health, deadline),
        };
        Self { buffer, options: options.clone(), batcher_ttl, metrics, parts, snapshot: watch::Sender::new(None) }
    }

    /// What the last successful look found; `None` before the first.
    pub fn snapshot(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshot.subscribe()
    }

    /// Looks at the buffer every now and then until `shutdown`. It may be called again should it have failed.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut memory = Memory::default();
        let mut ticks = tokio::time::interval((*self.options.monitor_every).max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let look = tokio::time::timeout(LOOK_DEADLINE, self.look(&mut memory));
            let found = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                found = look => found.unwrap_or(Err(Error::TimedOut { after: LOOK_DEADLINE })),
            };
            match found {
                Ok(snapshot) => self.publish(snapshot, &mut memory),
                Err(error) => self.publish_fault(&error, &mut memory),
            }
        }
    }

    async fn look(&self, memory: &mut Memory) -> Result<Snapshot> {
        // Fixed for a dataset's life; every later step is refused by itself should the buffer lose its dataset.
        let count = match memory.partitions {
            Some(count) => count,
            None => self.buffer.registration().await?.ok_or(Error::NotRegistered)?.partitions,
        };
        memory.partitions = Some(count);
        self.buffer.ping().await?;
        if memory.durability.is_none() || memory.looks >= LOOKS_PER_DURABILITY {
            memory.durability = Some(self.buffer.durability().await?);
            memory.looks = 0;
        }
        memory.looks += 1;
        let partitions = stream::iter(0..count)
            .map(|partition| self.buffer.status(partition))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let batchers = self.buffer.batchers().await?;
        Ok(Snapshot { at: Instant::now(), partitions, batchers })
    }

    fn publish(&self, snapshot: Snapshot, memory: &mut Memory) {
        if memory.fault.take().is_some() {
            tracing::info!("the buffer can be looked at again");
        }
        self.parts.buffer.well(memory.durability.as_ref().map(describe).unwrap_or_default());
        let alive = alive(&snapshot.batchers, self.batcher_ttl);
        match alive {
            0 => {
                self.parts.batchers.unwell("no batcher is alive: heartbeats wait in the buffer; start `systole batch`")
            }
            1 => self.parts.batchers.well("1 batcher is alive"),
            alive => self.parts.batchers.well(format!("{alive} batchers are alive")),
        }
        match lagging(&snapshot.partitions, *self.options.drain_lag) {
            None => self.parts.drain.well(""),
            Some(lagging) => self.parts.drain.unwell(lagging),
        }
        self.metrics.reachable.set(1);
        self.metrics.batchers_alive.set(alive as i64);
        for status in &snapshot.partitions {
            self.metrics.show(status);
        }
        self.snapshot.send_replace(Some(Arc::new(snapshot)));
    }

    fn publish_fault(&self, error: &Error, memory: &mut Memory) {
        let said = error.to_string();
        if memory.fault.as_ref() != Some(&said) {
            tracing::warn!(%error, "the buffer cannot be looked at");
        }
        // Where it comes back, another Redis, or another configuration, may have come.
        memory.durability = None;
        self.metrics.reachable.set(0);
        self.parts.buffer.unwell(said.as_str());
        self.parts.batchers.unwell("unknown: the buffer cannot be looked at");
        self.parts.drain.unwell("unknown: the buffer cannot be looked at");
        memory.fault = Some(said);
    }
}

fn describe(durability: &Durability) -> String {
    match durability.wait_replicas {
        0 => durability.window.clone(),
        replicas => format!("{}; {replicas} replicas confirm each push", durability.window),
    }
}

fn alive(batchers: &Batchers, ttl: Duration) -> usize {
    batchers.iter().filter(|(_, silent)| *silent <= ttl).count()
}

/// Which partitions are not drained in time, or full; `None` when all is well.
fn lagging(partitions: &[PartitionStatus], lag: Duration) -> Option<String> {
    let mut faults: Vec<String> = partitions.iter().filter_map(|status| fault_of(status, lag)).collect();
    let more = faults.len().saturating_sub(NAMED);
    faults.truncate(NAMED);
    if more > 0 {
        faults.push(format!("{more} more partitions likewise"));
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn fault_of(status: &PartitionStatus, lag: Duration) -> Option<String> {
    let partition = status.partition;
    let ledger = &status.ledger;
    if let Some(claim) = status.claim.filter(|claim| claim.age > lag) {
        let age = claim.age.as_secs();
        return Some(format!(
            "partition {partition}: {} heartbeats claimed {age} s ago are not written yet",
            claim.rows
        ));
    }
    if let Some(waited) = status.oldest_pending.filter(|waited| *waited > lag) {
        return Some(format!("partition {partition}: the oldest heartbeat has waited for {} s", waited.as_secs()));
    }
    let held = ledger.pending + ledger.claimed + ledger.dead;
    let full = held >= status.cap_rows || ledger.bytes >= status.cap_bytes;
    full.then(|| format!("partition {partition}: full ({held} heartbeats, {} of them dead letters)", ledger.dead))
}

impl Metrics {
    fn show(&self, status: &PartitionStatus) {
        let partition = status.partition.to_string();
        let label = &[partition.as_str()];
        // A gauge of the crate is signed; no count of heartbeats comes near its bound.
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let ledger = &status.ledger;
        self.held.with_label_values(label).set(number(ledger.pending + ledger.claimed + ledger.dead));
        self.held_bytes.with_label_values(label).set(number(ledger.bytes));
        self.max.with_label_values(label).set(number(status.cap_rows));
        self.max_bytes.with_label_values(label).set(number(status.cap_bytes));
        let waited = status.oldest_pending.unwrap_or_default();
        self.oldest_pending.with_label_values(label).set(waited.as_secs_f64());
        let age = status.claim.map(|claim| claim.age).unwrap_or_default();
        self.claim_age.with_label_values(label).set(age.as_secs_f64());
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

#[cfg(test)]
mod tests {
    use super::super::{Ledger, StandingClaim};
    use super::*;
    use crate::heartbeat::{BatcherId, ClaimId};

    const LAG: Duration = Duration::from_secs(10);

    fn idle(partition: u16) -> PartitionStatus {
        let ledger = Ledger::default();
        PartitionStatus { partition, ledger, oldest_pending: None, owner: None, claim: None, cap_rows: 9, cap_bytes: 9 }
    }

    #[test]
    fn a_partition_that_lags_or_is_full_is_named() {
        assert_eq!(lagging(&[idle(0), idle(1)], LAG), None);
        let young = PartitionStatus { oldest_pending: Some(LAG), ..idle(3) };
        assert_eq!(lagging(&[young], LAG), None);
        let waits = PartitionStatus { oldest_pending: Some(LAG * 2), ..idle(3) };
        assert!(
            lagging(&[idle(0), waits], LAG).unwrap().contains("partition 3: the oldest heartbeat has waited for 20 s")
        );
        let claim = StandingClaim { id: ClaimId::new(), rows: 5, age: LAG * 3, deaths: 0 };
        let stuck = PartitionStatus { claim: Some(claim), ..idle(4) };
        assert!(
            lagging(std::slice::from_ref(&stuck), LAG).unwrap().contains("partition 4: 5 heartbeats claimed 30 s ago")
        );
        let full = PartitionStatus { ledger: Ledger { dead: 9, ..Ledger::default() }, ..idle(5) };
        assert!(lagging(&[full], LAG).unwrap().contains("partition 5: full (9 heartbeats, 9 of them dead letters)"));
        let all: Vec<_> = (0..9).map(|partition| PartitionStatus { partition, ..stuck.clone() }).collect();
        assert!(lagging(&all, LAG).unwrap().ends_with("; 4 more partitions likewise"));
    }

    #[test]
    fn the_silent_do_not_count_as_alive() {
        let batchers = vec![(BatcherId::new(), LAG), (BatcherId::new(), LAG + Duration::from_millis(1))];
        assert_eq!(alive(&batchers, LAG), 1);
    }
}
