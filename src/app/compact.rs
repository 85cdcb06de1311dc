//! `systole compact`: from fragments into published files, once or continuously.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::start::{Beside, open_dataset, stop_on_signals};
use super::{Done, Failure, Outcome, output};
use crate::cli::Compact;
use crate::compactor::{self, Bar, Compactor};
use crate::config::relations;
use crate::dataset::{self, Dataset};
use crate::http::OpsServer;
use crate::http::auth::Gate;
use crate::telemetry::health::{Affects, Health};
use crate::telemetry::metrics;

/// Pause between two looks for a dataset that no batcher has made yet.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One pass, or passes until a signal.
pub async fn run(args: Compact) -> Outcome {
    relations::check_compact(&args.dataset)?;
    let stop = stop_on_signals()?;
    if args.watch { watch(args, stop).await } else { pass(args, stop).await }
}

async fn pass(args: Compact, stop: CancellationToken) -> Outcome {
    let dataset = open_dataset(&args.dataset, false).await?;
    let registry = metrics::registry()?;
    let compactor = Compactor::new(dataset, args.compactor.for_single_pass(), compactor::Metrics::register(&registry)?);
    let pass = tokio::task::spawn_blocking(move || compactor.pass(&Bar::new(), &stop));
    let summary = pass.await.map_err(|failed| Failure::OutOfReach(format!("the pass failed: {failed}")))??;
    if args.output.json {
        output::json(&summary)?;
    } else {
        output::line(summary.to_string())?;
    }
    if summary.failed.is_empty() {
        return Ok(if summary.is_clean() { Done::Well } else { Done::FoundSomething });
    }
    Err(Failure::OutOfReach(format!("{} buckets could not be finished; the next pass goes on", summary.failed.len())))
}

async fn watch(args: Compact, stop: CancellationToken) -> Outcome {
    let registry = metrics::registry()?;
    let health = Health::new();
    let metrics = compactor::Metrics::register(&registry)?;
    let gate = Gate::open(&args.exposure, args.listen)?;
    let ops = OpsServer::bind(args.listen, &args.tls, &gate, health.clone(), registry)?;
    info!(address = %ops.address(), "listening");
    let ops = Beside::start("ops server", &stop, |stop| async move { ops.run(stop).await });
    if let Some(dataset) = wait_for_dataset(&args.dataset, &health, &stop).await? {
        Compactor::new(dataset, args.compactor, metrics).watch(&health, stop).await?;
    }
    ops.stop().await??;
    info!("stopped");
    Ok(Done::Well)
}

/// Roles start in any order: the dataset is born with the first batcher. `None` when a signal came first.
async fn wait_for_dataset(
    options: &dataset::Options,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<Dataset>, Failure> {
    let reporter = health.part("dataset", Affects::Health, 10 * LOOK_EVERY);
    let mut waiting = false;
    loop {
        match open_dataset(options, false).await {
            Ok(dataset) => return Ok(Some(dataset)),
            Err(error @ dataset::Error::NoDataset { .. }) => {
                if !waiting {
                    info!("waiting for the first batcher to make the dataset");
                    waiting = true;
                }
                reporter.unwell(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
