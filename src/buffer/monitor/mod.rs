//! Watches the buffer, for `/health`, `/metrics` and whoever wants to know.
//!
//! Constraints: it only looks, so any number of processes may watch one buffer. What it says is true of the last look;
//! where a look fails, the parts of the board that it feeds are unwell until one succeeds. A look has a deadline of its
//! own (`LOOK_DEADLINE`), so that a hanging buffer is named within seconds.
//!
//! Operations: [`Monitor::new`] puts four parts on the board: "buffer" (heartbeats can be taken in), "batchers" (someone
//! is alive to take them out), "drain" (they are taken out in time) and "ledger" (it forgot nothing that it had accepted).
//! [`Monitor::run`] keeps them up to date.

mod judge;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use humantime::Duration as Span;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::judge::{alive, forgotten, lagging};
use super::{Batchers, Durability, Error, Inspect, Ledger, PartitionStatus, Result};
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
/// As [`Durability::level`] names them.
const DURABILITY_LEVELS: [&str; 4] = ["always", "everysec", "no", "volatile"];

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
    claim_deaths: IntGaugeVec,
    ledger: IntGaugeVec,
    devices: IntGaugeVec,
    devices_forgotten: IntCounterVec,
    gone_back: IntCounterVec,
    batchers_alive: IntGauge,
    reachable: IntGauge,
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
            durability: register.gauges(
                "buffer_durability",
                "1 for the level of durability that the buffer was last found to have, else 0",
                &["level"],
            )?,
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
    /// What an acknowledged push survives.
    pub durability: Durability,
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
    ledger: Reporter,
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
    /// Puts the parts "buffer", "batchers", "drain" and "ledger" on the board; [`Monitor::run`] keeps them up to date.
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
            ledger: health.part("ledger", Affects::Health, deadline),
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
            // First: whoever reads in the metrics what a look found reads beside it what was witnessed by then.
            self.publish_witness(memory.partitions.unwrap_or(0));
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
        let durability = match &memory.durability {
            Some(known) if memory.looks < LOOKS_PER_DURABILITY => known.clone(),
            _ => {
                memory.looks = 0;
                self.buffer.durability().await?
            }
        };
        memory.looks += 1;
        memory.durability = Some(durability.clone());
        let partitions = stream::iter(0..count)
            .map(|partition| self.buffer.status(partition))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let batchers = self.buffer.batchers().await?;
        Ok(Snapshot { at: Instant::now(), partitions, batchers, durability })
    }

    fn publish(&self, snapshot: Snapshot, memory: &mut Memory) {
        if memory.fault.take().is_some() {
            tracing::info!("the buffer can be looked at again");
        }
        self.parts.buffer.well(describe(&snapshot.durability));
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
        if let Some(durability) = &memory.durability {
            self.metrics.show_durability(durability.level);
        }
        for status in &snapshot.partitions {
            self.metrics.show(status);
        }
        self.snapshot.send_replace(Some(Arc::new(snapshot)));
    }

    fn publish_fault(&self, error: &Error, memory: &mut Memory) {
        let said = match (error, &*self.snapshot.borrow()) {
            (Error::NotRegistered, Some(last)) => format!("{error}; {}", self.held_at_most(last)),
            _ => error.to_string(),
        };
        if memory.fault.as_ref() != Some(&said) {
            tracing::warn!(error = %said, "the buffer cannot be looked at");
        }
        // Where it comes back, another Redis, or another configuration, may have come.
        memory.durability = None;
        self.metrics.reachable.set(0);
        self.parts.buffer.unwell(said.as_str());
        self.parts.batchers.unwell("unknown: the buffer cannot be looked at");
        self.parts.drain.unwell("unknown: the buffer cannot be looked at");
        memory.fault = Some(said);
    }

    /// What a buffer may have held when it was erased: what it held at the last look, and what it accepted since.
    fn held_at_most(&self, last: &Snapshot) -> String {
        let held = |status: &PartitionStatus| {
            let Ledger { pending, claimed, dead, accepted, .. } = status.ledger;
            let since = self.buffer.witness(status.partition).accepted.saturating_sub(accepted);
            pending + claimed + dead + since
        };
        let most: u64 = last.partitions.iter().map(held).sum();
        format!("it held at most {most} heartbeats: those that stand in no file are lost")
    }

    /// Tells what the buffer has forgotten, for as long as this process lives: somebody must have seen it.
    fn publish_witness(&self, partitions: Partition) {
        let witnessed = |partition| (partition, self.buffer.witness(partition));
        let gone_back: Vec<_> = (0..partitions).map(witnessed).filter(|(_, seen)| seen.gone_back > 0).collect();
        for (partition, seen) in &gone_back {
            let counter = self.metrics.gone_back.with_label_values(&[partition.to_string().as_str()]);
            counter.inc_by(seen.gone_back.saturating_sub(counter.get()));
        }
        match forgotten(&gone_back) {
            None => self.parts.ledger.well(""),
            Some(forgotten) => self.parts.ledger.unwell(forgotten),
        }
    }
}

fn describe(durability: &Durability) -> String {
    match durability.wait_replicas {
        0 => durability.window.clone(),
        replicas => format!("{}; {replicas} replicas confirm each push", durability.window),
    }
}

impl Metrics {
    fn show_durability(&self, found: &str) {
        for level in DURABILITY_LEVELS {
            self.durability.with_label_values(&[level]).set((level == found).into());
        }
    }

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
