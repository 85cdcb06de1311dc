//! `systole serve`: the door. HTTP in, frames into the buffer.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::start::{finish, open_buffer, stop_on_signals};
use super::{Done, Outcome};
use crate::buffer::committer::{self, Committer};
use crate::buffer::monitor::{self, Monitor};
use crate::buffer::{Inlet, spill};
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

    let spill_metrics = spill::Metrics::register(&registry)?;
    let spill = spill::start(&buffer, &args.buffer, &args.spill, &health, spill_metrics).await?;
    // With a spill the door stays open while Redis is away, and the spill says how it stands.
    let buffer_affects = if spill.is_some() { Affects::Health } else { Affects::Readiness };
    let (inlet, spill) = match spill {
        Some((inlet, service)) => (Arc::new(inlet) as Arc<dyn Inlet>, Some(service)),
        None => (buffer.clone() as Arc<dyn Inlet>, None),
    };
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
