//! Watches the buffer, for `/health`, `/metrics` and whoever wants to know.
//!
//! Constraints: it only looks, so any number of processes may watch one buffer. What it says is true of the last look;
//! where a look fails, the parts of the board that it feeds are unwell until one succeeds. A buffer that refuses pushes (full
//! memory or disk, too few replicas) can be looked at all the same: then only "buffer" is unwell. A look has a deadline of
//! its own (`LOOK_DEADLINE`), so that a hanging buffer is named within seconds.
//!
//! Operations: [`Monitor::new`] puts four parts on the board: "buffer" (heartbeats can be taken in), "batchers" (someone
//! is alive to take them out), "drain" (they are taken out in time) and "ledger" (it forgot nothing that it had accepted).
//! [`Monitor::run`] keeps them up to date.

mod judge;
mod metrics;

use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use humantime::Duration as Span;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use self::metrics::Metrics;

use self::judge::{alive, forgotten, lagging, refusal};
use super::{Batchers, Durability, Error, Inspect, Ledger, PartitionStatus, Result};
use crate::heartbeat::Partition;
use crate::settings;
use crate::telemetry::health::{Affects, Health, Reporter};

/// How long one look at the whole buffer may take. With `monitor_every` it bounds how late a hanging buffer is named.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// A monitor that has not reported for longer hangs, or is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// The second look comes so soon after the first: a batcher of the same process, or of the same start of all, has announced itself
/// by then, and nobody is told for long that none is alive.
const SECOND_LOOK: Duration = Duration::from_millis(250);
/// Partitions that are asked about at the same time: fewer than the connections of a process.
const AT_ONCE: usize = 4;
/// After so many looks the durability is looked up again: an operator may change it while Redis runs.
const LOOKS_PER_DURABILITY: u32 = 15;
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
    /// Why it would have taken no push, although it could be looked at; `None` when it would have.
    pub refuses: Option<Error>,
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
    fault: watch::Sender<Option<Error>>,
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
    wrong: Option<Error>,
}

impl Memory {
    /// Logs what is wrong where it is of another kind than last time: a message may hold a figure that changes with each look.
    fn note(&mut self, wrong: Option<Error>, said: &str) {
        if wrong.as_ref().map(discriminant) != self.wrong.as_ref().map(discriminant) {
            match wrong {
                Some(_) => tracing::warn!(error = %said, "the buffer is not well"),
                None => tracing::info!("the buffer is well again"),
            }
        }
        self.wrong = wrong;
    }
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
        let (options, snapshot, fault) = (options.clone(), watch::Sender::new(None), watch::Sender::new(None));
        Self { buffer, options, batcher_ttl, metrics, parts, snapshot, fault }
    }

    /// What the last successful look found; `None` before the first.
    pub fn snapshot(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshot.subscribe()
    }

    /// Why the last look failed; `None` when it did not, and before the first.
    pub fn fault(&self) -> watch::Receiver<Option<Error>> {
        self.fault.subscribe()
    }

    /// Looks at the buffer every now and then until `shutdown`. It may be called again should it have failed.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut memory = Memory::default();
        let mut ticks = tokio::time::interval((*self.options.monitor_every).max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut second = Some(SECOND_LOOK.min(ticks.period()));
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
                Err(error) => self.publish_fault(error, &mut memory),
            }
            if let Some(soon) = second.take() {
                ticks.reset_after(soon);
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
        let refused = match self.buffer.ping().await {
            Ok(()) => None,
            // It is there all the same: what it holds can be seen, and as a rule be drained.
            Err(error @ Error::Refused { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        let durability = match &memory.durability {
            Some(known) if memory.looks < LOOKS_PER_DURABILITY => known.clone(),
            _ => {
                memory.looks = 0;
                self.buffer.durability().await?
            }
        };
        memory.looks += 1;
        memory.durability = Some(durability.clone());
        let refuses = match refused {
            Some(error) => Some(error),
            None => too_few(self.buffer.replicas_online().await?, durability.wait_replicas),
        };
        let partitions = stream::iter(0..count)
            .map(|partition| self.buffer.status(partition))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let batchers = self.buffer.batchers().await?;
        Ok(Snapshot { at: Instant::now(), partitions, batchers, durability, refuses })
    }

    fn publish(&self, snapshot: Snapshot, memory: &mut Memory) {
        match &snapshot.refuses {
            None => {
                memory.note(None, "");
                self.parts.buffer.well(describe(&snapshot.durability));
            }
            Some(error) => {
                let said = refusal(error);
                memory.note(Some(error.clone()), &said);
                self.parts.buffer.unwell(said);
            }
        }
        let alive = alive(&snapshot.batchers, self.batcher_ttl);
        match alive {
            0 => self.parts.batchers.unwell("no batcher is alive: heartbeats wait in the buffer"),
            1 => self.parts.batchers.well("1 batcher is alive"),
            alive => self.parts.batchers.well(format!("{alive} batchers are alive")),
        }
        match lagging(&snapshot.partitions, *self.options.drain_lag) {
            None => self.parts.drain.well(""),
            Some(lagging) => self.parts.drain.unwell(lagging),
        }
        self.metrics.show(&snapshot, alive);
        self.snapshot.send_replace(Some(Arc::new(snapshot)));
        self.fault.send_replace(None);
    }

    fn publish_fault(&self, error: Error, memory: &mut Memory) {
        let said = match (&error, &*self.snapshot.borrow()) {
            (Error::NotRegistered, Some(last)) => format!("{error}; {}", self.held_at_most(last)),
            _ => error.to_string(),
        };
        memory.note(Some(error.clone()), &said);
        // Where it comes back, another Redis, or another configuration, may have come.
        memory.durability = None;
        self.metrics.show_fault();
        self.parts.buffer.unwell(said);
        self.parts.batchers.unwell("unknown: the buffer cannot be looked at");
        self.parts.drain.unwell("unknown: the buffer cannot be looked at");
        self.fault.send_replace(Some(error));
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
            self.metrics.show_forgotten(*partition, seen.gone_back);
        }
        match forgotten(&gone_back) {
            None => self.parts.ledger.well(""),
            Some(forgotten) => self.parts.ledger.unwell(forgotten),
        }
    }
}

/// Pushes fail where fewer replicas hear of them than must confirm each.
fn too_few(online: Option<u32>, want: u32) -> Option<Error> {
    online.filter(|have| *have < want).map(|have| Error::TooFewReplicas { have, want })
}

fn describe(durability: &Durability) -> String {
    match durability.wait_replicas {
        0 => durability.window.clone(),
        1 => format!("{}; 1 replica confirms each push", durability.window),
        replicas => format!("{}; {replicas} replicas confirm each push", durability.window),
    }
}
