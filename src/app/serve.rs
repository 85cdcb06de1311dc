//! `systole serve`: the door. HTTP in, frames into the buffer.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::start::{finish, open_buffer, stop_on_signals};
use super::{Done, Outcome};
use crate::buffer::committer::{self, Committer};
use crate::buffer::monitor::{self, Monitor};
use crate::cli::Serve;
use crate::config::relations;
use crate::http;
use crate::telemetry::{health::Health, metrics};

/// Runs until a signal. Stops in order: no new connections, answers to what is in flight, the last frames, the monitor.
pub async fn run(args: Serve) -> Outcome {
    relations::check_serve(&args.buffer, &args.monitor)?;
    let stop = stop_on_signals()?;
    let registry = metrics::registry()?;
    let health = Health::new();
    let buffer = open_buffer(&args.buffer, &args.redis).await?;

    let stop_committer = CancellationToken::new();
    let committer_metrics = committer::Metrics::register(&registry)?;
    let (intake, mut committer) = Committer::start(buffer.clone(), &args.buffer, committer_metrics);
    let committer = tokio::spawn({
        let stop = stop_committer.clone();
        async move { committer.run(stop).await }
    });

    let stop_monitor = CancellationToken::new();
    let monitor_metrics = monitor::Metrics::register(&registry)?;
    let monitor = Monitor::new(buffer, &args.monitor, *args.buffer.batcher_ttl, &health, monitor_metrics);
    let monitor = tokio::spawn({
        let stop = stop_monitor.clone();
        async move { monitor.run(stop).await }
    });

    let server = http::Server::bind(&args.http, &args.limits, Arc::new(intake), health, registry)?;
    info!(address = %server.address(), "listening");
    let served = server.run(stop).await;

    stop_committer.cancel();
    finish("committer", committer).await?;
    stop_monitor.cancel();
    finish("monitor", monitor).await?;
    served?;
    info!("stopped");
    Ok(Done::Well)
}
