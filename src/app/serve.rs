//! `systole serve`: the door. HTTP in, frames into the buffer, or with `--spill-dir` into the spill while Redis is away.

use std::sync::Arc;

use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::silence::{self, Detour};
use super::start::{Beside, open_buffer, stop_on_signals};
use super::{Done, Failure, Outcome, files};
use crate::batcher;
use crate::buffer::committer::{self, Committer};
use crate::buffer::monitor::{self, Monitor};
use crate::buffer::redis::RedisBuffer;
use crate::buffer::spill::{self, TokenCopy};
use crate::buffer::{Frames, Inlet};
use crate::cli::Serve;
use crate::config::relations;
use crate::dataset::Dataset;
use crate::http;
use crate::http::Services;
use crate::http::auth::Keeper;
use crate::overview::report::Role;
use crate::overview::{Overview, Sources};
use crate::query::{self, Reading};
use crate::telemetry::health::{Affects, Health};
use crate::telemetry::metrics;

/// Runs until a signal. Stops in order: no new connections, answers to what is in flight, the last frames, the spill, the
/// monitor.
pub async fn run(args: Serve) -> Outcome {
    relations::check_serve(&args.buffer, &args.monitor)?;
    relations::check_spill(&args.buffer, &args.redis, &args.spill)?;
    let stop = stop_on_signals()?;
    let registry = metrics::registry()?;
    let health = Health::new();
    let buffer = open_buffer(&args.buffer, &args.redis).await?;
    let rules = silence::open(args.rules.clone(), &args.silence, &args.buffer).await?;
    let dataset = files::open(&args, &buffer, &health, &stop).await?;
    let Door { inlet, frames, buffer_affects, spill } = open_door(&buffer, &args, &health, &registry, &stop).await?;

    let committer_metrics = committer::Metrics::register(&registry)?;
    let (intake, mut committer) = Committer::start(inlet, &args.buffer, committer_metrics);
    let committer = Beside::start("committer", &stop, |stop| async move { committer.run(stop).await });

    let monitor_metrics = monitor::Metrics::register(&registry)?;
    let ttl = *args.buffer.batcher_ttl;
    let monitor = Monitor::new(buffer.clone(), &args.monitor, ttl, buffer_affects, &health, monitor_metrics);
    let overview = Overview::new(
        Sources {
            role: Role::Serve,
            buffer: buffer.clone(),
            devices: buffer.clone(),
            dataset: dataset.clone(),
            // Set where fragments are written; here it is what `batch` takes unless told otherwise.
            publish_lag: *batcher::Options::default().publish_lag,
            snapshot: monitor.snapshot(),
            fault: monitor.fault(),
            batcher_ttl: ttl,
            health: health.clone(),
        },
        &registry,
    )?;
    let monitor = Beside::start("monitor", &stop, |stop| {
        let overview = overview.clone();
        async move { tokio::join!(monitor.run(stop.clone()), overview.run(stop)) }
    });

    let listen = args.http.listen;
    let copy = args.spill.spill_dir.as_deref().map(TokenCopy::beside);
    let detour = spill.as_ref().map(Spilling::detour);
    let watching = silence::start(rules, &args.silence, buffer.clone(), detour, &health, &registry, &stop)?;
    let read_metrics = query::Metrics::register(&registry)?;
    let reading = Reading::new(frames, dataset.unwrap_or_default(), &args.reading, read_metrics);
    let services =
        Services { reading, devices: buffer.clone(), remember_devices: *args.buffer.remember_devices, overview };
    let (gate, keeper) = Keeper::start(listen, &args.auth, buffer, copy, &health, &registry).await?;
    keeper.warn_without_tls(listen, args.http.tls.is_on());
    let server = http::Server::bind(
        &args.http,
        &args.limits,
        &gate,
        watching.attend(Arc::new(intake)),
        &services,
        health,
        registry,
    )?;
    let keeper = Beside::start("tokens", &stop, |stop| async move { keeper.run(stop).await });
    info!(address = %server.address(), scheme = server.scheme(), "listening");
    let served = server.run(stop).await;

    watching.stop().await?;
    committer.stop().await?;
    if let Some(spill) = spill {
        spill.stop().await?;
    }
    keeper.stop().await?;
    monitor.stop().await?;
    served?;
    info!("stopped");
    Ok(Done::Well)
}

/// Where heartbeats go.
struct Door {
    inlet: Arc<dyn Inlet>,
    /// What lies there: for readers.
    frames: Arc<dyn Frames>,
    /// What it means that the buffer is out of reach.
    buffer_affects: Affects,
    spill: Option<Spilling>,
}

async fn open_door(
    buffer: &Arc<RedisBuffer>,
    args: &Serve,
    health: &Health,
    registry: &Registry,
    stop: &CancellationToken,
) -> Result<Door, Failure> {
    let Some(dir) = args.spill.spill_dir.clone() else {
        let (inlet, frames) = (buffer.clone(), buffer.clone());
        return Ok(Door { inlet, frames, buffer_affects: Affects::Readiness, spill: None });
    };
    if let Some(data) = Dataset::around(&dir) {
        // The embedded buffer of that dataset would go into Redis without its books: moving it is what `drain` is for.
        return Err(Failure::Usage(format!(
            "spill-dir: {} lies in the dataset in {}; give a folder of its own",
            dir.display(),
            data.display()
        )));
    }
    let metrics = spill::Metrics::register(registry)?;
    let (inlet, frames, service) = spill::start(dir, buffer, &args.buffer, &args.spill, health, metrics).await?;
    // The door stays open while Redis is away; the spill says whether it is.
    let spill = Some(Spilling::run(service, stop));
    Ok(Door { inlet: Arc::new(inlet), frames: Arc::new(frames), buffer_affects: Affects::Health, spill })
}

/// The spill at work.
struct Spilling {
    service: Arc<spill::SpillService>,
    task: Beside<()>,
}

impl Spilling {
    fn run(service: spill::SpillService, process: &CancellationToken) -> Self {
        let service = Arc::new(service);
        let task = Beside::start("spill", process, |stop| {
            let service = service.clone();
            async move { service.run(stop).await }
        });
        Self { service, task }
    }

    /// Whether heartbeats go into the spill now.
    fn detour(&self) -> Detour {
        let service = self.service.clone();
        Box::new(move || !service.is_direct())
    }

    async fn stop(self) -> Result<(), Failure> {
        self.task.stop().await?;
        // The last handle on the store waits for the disk. A panic there has been logged, and the process ends anyway.
        let _ = tokio::task::spawn_blocking(move || drop(self.service)).await;
        Ok(())
    }
}
