//! `systole serve`: the door. HTTP in, frames into the buffer.

use std::sync::Arc;

use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::start::{finish, open_buffer, stop_on_signals};
use super::{Done, Failure, Outcome};
use crate::buffer::Inlet;
use crate::buffer::committer::{self, Committer};
use crate::buffer::monitor::{self, Monitor};
use crate::buffer::redis::RedisBuffer;
use crate::buffer::spill::{self, SpillService};
use crate::cli::Serve;
use crate::config::relations;
use crate::http;
use crate::telemetry::health::{Affects, Health};
use crate::telemetry::metrics;

/// Runs until a signal. Stops in order: no new connections, answers to what is in flight, the last frames, the spill, the
/// monitor.
pub async fn run(args: Serve) -> Outcome {
    relations::check_serve(&args.buffer, &args.redis, &args.monitor, &args.spill)?;
    let stop = stop_on_signals()?;
    let registry = metrics::registry()?;
    let health = Health::new();
    let buffer = open_buffer(&args.buffer, &args.redis).await?;

    let (inlet, spill) = open_inlet(&buffer, &args, &health, &registry).await?;
    // With a spill the door stays open while Redis is away, and the spill says how it stands.
    let buffer_affects = if spill.is_some() { Affects::Health } else { Affects::Readiness };
    let stop_spill = CancellationToken::new();
    let spill = spill.map(|service| tokio::spawn(service.run(stop_spill.clone())));

    let stop_committer = CancellationToken::new();
    let committer_metrics = committer::Metrics::register(&registry)?;
    let (intake, committer) = Committer::start(inlet, &args.buffer, committer_metrics);
    let committer = tokio::spawn(committer.run(stop_committer.clone()));

    let stop_monitor = CancellationToken::new();
    let monitor_metrics = monitor::Metrics::register(&registry)?;
    let ttl = *args.buffer.batcher_ttl;
    let monitor = Monitor::new(buffer, &args.monitor, ttl, buffer_affects, &health, monitor_metrics);
    let monitor = tokio::spawn(monitor.run(stop_monitor.clone()));

    let server = http::Server::bind(&args.http, &args.limits, Arc::new(intake), health, registry)?;
    info!(address = %server.address(), "listening");
    let served = server.run(stop).await;

    stop_committer.cancel();
    finish("committer", committer).await?;
    stop_spill.cancel();
    if let Some(spill) = spill {
        finish("spill", spill).await?;
    }
    stop_monitor.cancel();
    finish("monitor", monitor).await?;
    served?;
    info!("stopped");
    Ok(Done::Well)
}

/// Where heartbeats go: into the buffer, or with `--spill-dir` into the spill while the buffer is away.
async fn open_inlet(
    buffer: &Arc<RedisBuffer>,
    args: &Serve,
    health: &Health,
    registry: &Registry,
) -> Result<(Arc<dyn Inlet>, Option<SpillService>), Failure> {
    let Some(dir) = args.spill.spill_dir.clone() else { return Ok((buffer.clone(), None)) };
    let metrics = spill::Metrics::register(registry)?;
    let (inlet, service) = spill::start(dir, buffer, &args.buffer, &args.spill, health, metrics).await?;
    Ok((Arc::new(inlet), Some(service)))
}
