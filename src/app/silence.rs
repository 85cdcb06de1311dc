//! Watching over silence, where rules ask for it.

use std::sync::Arc;

use prometheus::Registry;

use super::Failure;
use super::start::Beside;
use crate::buffer::options::Options as BufferOptions;
use crate::buffer::{Alarms, Intake};
use crate::silence::{Door, Metrics, Options, Rule, Rules, Watcher};
use crate::telemetry::health::Health;

/// Whether heartbeats go a way on which their devices are not seen at once.
pub type Detour = Box<dyn Fn() -> bool + Send + Sync>;

/// Reads what the rules name. `None` without rules.
pub async fn open(rules: Vec<Rule>, options: &Options, buffer: &BufferOptions) -> Result<Option<Rules>, Failure> {
    if rules.is_empty() {
        return Ok(None);
    }
    let (options, remember) = (options.clone(), *buffer.remember_devices);
    let opened = tokio::task::spawn_blocking(move || Rules::open(rules, &options, remember)).await;
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

/// A watcher at work, or none.
pub struct Watching(Option<(Door, Beside<()>)>);

/// Runs a watcher beside a door.
pub fn start(
    rules: Option<Rules>,
    alarms: Arc<dyn Alarms>,
    detour: Option<Detour>,
    health: &Health,
    registry: &Registry,
) -> Result<Watching, Failure> {
    let Some((watcher, door)) = watcher(rules, alarms, detour, health, registry)? else { return Ok(Watching(None)) };
    let task = Beside::start("silence", |stop| async move { watcher.run(stop).await });
    Ok(Watching(Some((door, task))))
}

impl Watching {
    /// The intake, such that the watcher learns of its refusals.
    pub fn attend(&self, intake: Arc<dyn Intake>) -> Arc<dyn Intake> {
        attend(self.0.as_ref().map(|(door, ..)| door), intake)
    }

    /// Tells it to end, and waits for it.
    pub async fn stop(self) -> Result<(), Failure> {
        let Some((_, task)) = self.0 else { return Ok(()) };
        task.stop().await
    }
}

/// The intake, such that the door learns of its refusals.
pub fn attend(door: Option<&Door>, intake: Arc<dyn Intake>) -> Arc<dyn Intake> {
    match door {
        Some(door) => Arc::new(door.attend(intake)),
        None => intake,
    }
}
