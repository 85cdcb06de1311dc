//! Watching over silence, where rules ask for it.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::start::Beside;
use crate::buffer::options::Options as BufferOptions;
use crate::buffer::{Alarms, Intake};
use crate::silence::{Door, Leftovers, Metrics, Options, Rule, Rules, Watcher, patience};
use crate::telemetry::health::Health;

/// Whether heartbeats go a way on which their devices are not seen at once.
pub type Detour = Box<dyn Fn() -> bool + Send + Sync>;

/// Reads what the rules name. `None` without rules.
pub async fn open(rules: Vec<Rule>, options: &Options, buffer: &BufferOptions) -> Result<Option<Rules>, Failure> {
    if rules.is_empty() {
        return Ok(None);
    }
    let (options, buffer) = (options.clone(), buffer.clone());
    let opened = tokio::task::spawn_blocking(move || Rules::open(rules, &options, &buffer)).await;
    let opened = opened.map_err(|error| Failure::OutOfReach(format!("silence: {error}")))?;
    Ok(Some(opened?))
}

/// A watcher that is not run yet, and the door that it asks. `None` without rules.
pub fn watcher(
    rules: Option<Rules>,
    alarms: Arc<dyn Alarms>,
    detour: Option<Detour>,
    health: &Health,
    registry: &Registry,
) -> Result<Option<(Watcher, Door)>, Failure> {
    let Some(rules) = rules else { return Ok(None) };
    let door = detour.map_or_else(Door::default, Door::with_detour);
    let watcher = Watcher::new(alarms, rules, door.clone(), health, Metrics::register(registry)?);
    Ok(Some((watcher, door)))
}

/// Takes back what rules left behind, in a process without any. `patience`: how long no other must have watched.
pub fn take_back(alarms: Arc<dyn Alarms>, patience: Duration, process: &CancellationToken) -> Beside<()> {
    Beside::start("silence", process, move |stop| Leftovers::new(alarms, patience).run(stop))
}

/// A watcher at work, or what is done without rules.
pub struct Watching {
    door: Option<Door>,
    task: Beside<()>,
}

/// Runs a watcher beside a door that is one of several.
pub fn start(
    rules: Option<Rules>,
    options: &Options,
    alarms: Arc<dyn Alarms>,
    detour: Option<Detour>,
    health: &Health,
    registry: &Registry,
    process: &CancellationToken,
) -> Result<Watching, Failure> {
    let Some((watcher, door)) = watcher(rules, alarms.clone(), detour, health, registry)? else {
        return Ok(Watching { door: None, task: take_back(alarms, patience(options), process) });
    };
    let task = Beside::start("silence", process, |stop| async move { watcher.run(stop).await });
    Ok(Watching { door: Some(door), task })
}

impl Watching {
    /// The intake, such that the watcher learns of its refusals.
    pub fn attend(&self, intake: Arc<dyn Intake>) -> Arc<dyn Intake> {
        attend(self.door.as_ref(), intake)
    }

    /// Tells it to end, and waits for it.
    pub async fn stop(self) -> Result<(), Failure> {
        self.task.stop().await
    }
}

/// The intake, such that the door learns of its refusals.
pub fn attend(door: Option<&Door>, intake: Arc<dyn Intake>) -> Arc<dyn Intake> {
    match door {
        Some(door) => Arc::new(door.attend(intake)),
        None => intake,
    }
}
