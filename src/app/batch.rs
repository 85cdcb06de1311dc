//! `systole batch`: from the buffer into fragments.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::start::{Beside, look_at_buffer, open_dataset, stop_on_signals};
use super::{Done, Failure, Outcome, owner};
use crate::batcher::{self, Batcher};
use crate::buffer::redis::RedisBuffer;
use crate::cli::Batch;
use crate::config::relations;
use crate::dataset::Dataset;
use crate::heartbeat::BatcherId;
use crate::http::OpsServer;
use crate::http::auth::Keeper;
use crate::telemetry::health::{Affects, Health, Reporter};
use crate::telemetry::metrics;

/// Pause between two looks at a buffer that is not there or not this dataset's.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until a signal. Stops in order: the batcher gives its leases back, then health and metrics end.
pub async fn run(args: Batch) -> Outcome {
    relations::check_batch(&args.buffer, &args.batcher)?;
    let stop = stop_on_signals()?;
    let registry = metrics::registry()?;
    let health = Health::new();
    let dataset = open_dataset(&args.dataset, true).await?;
    let metrics = batcher::Metrics::register(&registry)?;
    let buffer = Arc::new(RedisBuffer::connect(&args.buffer, &args.redis)?);
    let (gate, keeper) = Keeper::start(args.listen, &args.auth, buffer.clone(), None, &health, &registry).await?;
    keeper.warn_without_tls(args.listen, args.tls.is_on());
    let ops = OpsServer::bind(args.listen, &args.tls, &gate, health.clone(), registry)?;
    info!(address = %ops.address(), "listening");
    let ops = Beside::start("ops server", &stop, |stop| async move { ops.run(stop).await });
    let keeper = Beside::start("tokens", &stop, |stop| async move { keeper.run(stop).await });

    look_at_buffer(&buffer).await?;
    buffer.expect_dataset(dataset.id());
    if belong_together(&buffer, &dataset, &health, &stop).await? {
        let batcher =
            Batcher::new(BatcherId::new(), buffer, dataset, args.batcher, *args.buffer.batcher_ttl, metrics, health);
        batcher.run(stop).await?;
    }

    ops.stop().await??;
    keeper.stop().await?;
    info!("stopped");
    Ok(Done::Well)
}

/// Waits until buffer and dataset belong together; registers a buffer for a dataset that never had one.
///
/// `false` when a signal came first. A buffer that lost its registration is an alarm, not a fresh start: it may have been
/// erased, or be the wrong one.
async fn belong_together(
    buffer: &RedisBuffer,
    dataset: &Dataset,
    health: &Health,
    stop: &CancellationToken,
) -> Result<bool, Failure> {
    let reporter = health.part("registration", Affects::Health, 10 * LOOK_EVERY);
    let mut said = None;
    loop {
        match look(buffer, dataset).await {
            Ok(()) => return Ok(true),
            Err(Failure::OutOfReach(problem) | Failure::Usage(problem)) => say(&reporter, &mut said, problem),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Reports a problem, and logs it when it is another than the last.
fn say(reporter: &Reporter, said: &mut Option<String>, problem: String) {
    if said.as_ref() != Some(&problem) {
        warn!(problem, "buffer and dataset do not belong together yet");
    }
    reporter.unwell(&problem);
    *said = Some(problem);
}

async fn look(buffer: &RedisBuffer, dataset: &Dataset) -> Result<(), Failure> {
    buffer.startup_check().await?;
    owner::settle(buffer, dataset, owner::REDIS).await
}
