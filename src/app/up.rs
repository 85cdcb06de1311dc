//! `systole up`: the whole collector in one process, on the embedded buffer. Nothing else to install.
//!
//! Constraints:
//! - The buffer's directory lock makes it the only process on its data folder.
//! - Every part is kept running by the supervisor; what a part may lose by failing (the queue of requests, the buffer, the
//!   dataset's handle) stands outside of it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex as Slot, PoisonError};
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::start::{open_dataset, stop_on_signals};
use super::supervisor::{Part, Supervisor};
use super::{Done, Failure, Outcome, output, owner, place, silence};
use crate::batcher::{self, Batcher};
use crate::buffer::committer::{self, Committer, CommitterService};
use crate::buffer::embedded::EmbeddedBuffer;
use crate::buffer::monitor::{self, Monitor};
use crate::buffer::socket::ControlSocket;
use crate::buffer::{Intake, Reach};
use crate::cli::Up;
use crate::compactor::{self, Compactor};
use crate::config::relations;
use crate::dataset::Dataset;
use crate::heartbeat::BatcherId;
use crate::http::auth::Keeper;
use crate::http::{Server, Services};
use crate::overview::report::Role;
use crate::overview::{Overview, Sources};
use crate::query::{self, Reading};
use crate::silence::Watcher;
use crate::telemetry::health::{Affects, Health};
use crate::telemetry::metrics;

/// Runs until a signal. Stops in order: no new connections, answers to what is in flight, the last frames; then all that
/// works behind the door; the buffer last.
pub async fn run(args: Up) -> Outcome {
    relations::check_serve(&args.buffer, &args.monitor)?;
    relations::check_batch(&args.buffer, &args.batcher)?;
    relations::check_compact(&args.dataset)?;
    relations::check_up(&args.monitor, &args.batcher, &args.embedded, &args.dataset)?;
    let rules = silence::open(args.rules.clone(), &args.silence, &args.buffer).await?;
    let stop = stop_on_signals()?;
    let (registry, health) = (metrics::registry()?, Health::new());
    let dataset = open_dataset(&args.dataset, true).await?;
    let buffer = open(&args, &dataset).await?;

    let supervisor = Supervisor::new(&health, &registry)?;
    let source = Arc::new(buffer.clone());
    let (gate, keeper) = Keeper::start(args.http.listen, &args.auth, source, None, &health, &registry).await?;
    keeper.warn_without_tls(args.http.listen, args.http.tls.is_on());
    let committer_metrics = committer::Metrics::register(&registry)?;
    let (intake, committing) = Committer::start(Arc::new(buffer.clone()), &args.buffer, committer_metrics);
    let intake: Arc<dyn Intake> = Arc::new(intake);
    // A handle of its own: a queue whose last sender goes with the server would end the committer before it is told to.
    let shared = Arc::new(buffer.clone());
    let watching = silence::watcher(rules, shared.clone(), None, &health, &registry)?;
    let attended = silence::attend(watching.as_ref().map(|(_, door)| door), intake.clone());
    let monitor = monitor(&args, &buffer, &health, &registry)?;
    let overview = Overview::new(
        Sources {
            role: Role::Up,
            buffer: shared.clone(),
            devices: shared.clone(),
            dataset: Some(Some(dataset.clone()).into()),
            publish_lag: *args.batcher.publish_lag,
            snapshot: monitor.snapshot(),
            fault: monitor.fault(),
            batcher_ttl: *args.buffer.batcher_ttl,
            health: health.clone(),
        },
        &registry,
    )?;
    let read_metrics = query::Metrics::register(&registry)?;
    let reading = Reading::new(shared.clone(), Some(dataset.clone()), &args.reading, read_metrics);
    let remember_devices = *args.buffer.remember_devices;
    let services = Services { reading, devices: shared.clone(), remember_devices, overview: overview.clone() };
    let (health_of_server, registry_of_server) = (health.clone(), registry.clone());
    let server =
        Server::bind(&args.http, &args.limits, &gate, attended, &services, health_of_server, registry_of_server)?;
    let (scheme, address) = (server.scheme(), server.address());
    // No part begins before the address is had: without it there is nothing that could end one in order.
    let committer = keep_committing(&supervisor, committing);
    let mut behind = vec![
        keep_watching(&supervisor, monitor),
        keep_history(&supervisor, overview),
        keep_batching(&supervisor, &args, &buffer, &dataset, &health, &registry)?,
        keep_compacting(&supervisor, &args, &dataset, &health, &registry)?,
        keep_answering(&supervisor, &buffer, &dataset),
        keep_tokens(&supervisor, keeper),
    ];
    // No other process has this buffer, so none has rules.
    // Should taking back fail, nothing else need end for it.
    let alone = stop.child_token();
    let leftovers = watching.is_none().then(|| silence::take_back(shared, Duration::ZERO, &alone));
    behind.extend(watching.map(|(watcher, _)| keep_watching_over_silence(&supervisor, watcher)));
    let door = keep_serving(&supervisor, server);
    info!(%address, scheme, "listening");
    if output::line(welcome(scheme, address, &dataset)).is_err() {
        // A full disk behind standard output must not keep the door shut.
        warn!("standard output takes no text; going on without the welcome");
    }

    stop.cancelled().await;
    door.stop().await;
    committer.stop().await;
    drop(intake);
    futures::future::join_all(behind.into_iter().map(Part::stop)).await;
    if let Some(leftovers) = leftovers {
        leftovers.stop().await?;
    }
    close(buffer).await;
    info!("stopped");
    Ok(Done::Well)
}

/// Opens the buffer, and makes sure that it and the dataset belong together.
async fn open(args: &Up, dataset: &Dataset) -> Result<EmbeddedBuffer, Failure> {
    match owner::read(dataset).await?.as_deref() {
        None => {}
        Some(owner::EMBEDDED) => place::expect_embedded(dataset)?,
        Some(other) => return Err(Failure::Usage(owner::belongs_to(dataset, other))),
    }
    let buffer = place::open_embedded(dataset, &args.buffer, &args.embedded).await?;
    buffer.expect_dataset(dataset.id());
    owner::settle(&buffer, dataset, owner::EMBEDDED).await?;
    let durability = buffer.durability().await?;
    info!(durability = durability.level, window = durability.window, "the buffer is open");
    Ok(buffer)
}

/// Lets go of the buffer off the async threads: its last handle waits for the disk.
async fn close(buffer: EmbeddedBuffer) {
    // A panic there has been logged, and the process ends anyway.
    let _ = tokio::task::spawn_blocking(move || drop(buffer)).await;
}

fn keep_committing(supervisor: &Supervisor, service: CommitterService) -> Part {
    // The requests that wait are in the service: it outlives its own failure.
    let service = Arc::new(Mutex::new(service));
    supervisor.keep("committer", move |stop| {
        let service = service.clone();
        async move {
            service.lock().await.run(stop).await;
            Ok::<_, Infallible>(())
        }
    })
}

fn monitor(args: &Up, buffer: &EmbeddedBuffer, health: &Health, registry: &Registry) -> Result<Monitor, Failure> {
    let metrics = monitor::Metrics::register(registry)?;
    let (buffer, ttl) = (Arc::new(buffer.clone()), *args.buffer.batcher_ttl);
    Ok(Monitor::new(buffer, &args.monitor, ttl, Affects::Readiness, health, metrics))
}

fn keep_watching(supervisor: &Supervisor, monitor: Monitor) -> Part {
    let monitor = Arc::new(monitor);
    supervisor.keep("monitor", move |stop| {
        let monitor = monitor.clone();
        async move {
            monitor.run(stop).await;
            Ok::<_, Infallible>(())
        }
    })
}

fn keep_history(supervisor: &Supervisor, overview: Overview) -> Part {
    supervisor.keep("overview", move |stop| {
        let overview = overview.clone();
        async move {
            overview.run(stop).await;
            Ok::<_, Infallible>(())
        }
    })
}

fn keep_batching(
    supervisor: &Supervisor,
    args: &Up,
    buffer: &EmbeddedBuffer,
    dataset: &Dataset,
    health: &Health,
    registry: &Registry,
) -> Result<Part, Failure> {
    let metrics = batcher::Metrics::register(registry)?;
    let (id, ttl, options) = (BatcherId::new(), *args.buffer.batcher_ttl, args.batcher.clone());
    let (buffer, dataset, health) = (Arc::new(buffer.clone()), dataset.clone(), health.clone());
    Ok(supervisor.keep("batcher", move |stop| {
        let (buffer, dataset, options) = (buffer.clone(), dataset.clone(), options.clone());
        Batcher::new(id, buffer, dataset, options, ttl, metrics.clone(), health.clone()).run(stop)
    }))
}

fn keep_compacting(
    supervisor: &Supervisor,
    args: &Up,
    dataset: &Dataset,
    health: &Health,
    registry: &Registry,
) -> Result<Part, Failure> {
    let metrics = compactor::Metrics::register(registry)?;
    let (dataset, options, health) = (dataset.clone(), args.compactor.clone(), health.clone());
    Ok(supervisor.keep("compactor", move |stop| {
        let compactor = Compactor::new(dataset.clone(), options.clone(), metrics.clone());
        let health = health.clone();
        async move { compactor.watch(&health, stop).await }
    }))
}

/// Lets `systole audit` and the like look at the buffer, from before anybody is told that this process listens.
fn keep_answering(supervisor: &Supervisor, buffer: &EmbeddedBuffer, dataset: &Dataset) -> Part {
    let (buffer, path) = (Arc::new(buffer.clone()), dataset.control_socket());
    // Where it cannot be bound heartbeats are taken in all the same: the part tries again, and says why.
    let first = Slot::new(ControlSocket::bind(&path).ok());
    supervisor.keep("socket", move |stop| {
        let bound = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (buffer, path) = (buffer.clone(), path.clone());
        async move {
            let socket = bound.map_or_else(|| ControlSocket::bind(&path), Ok)?;
            socket.run(buffer, stop).await
        }
    })
}

/// Reads the tokens again and again, so that who is revoked is soon turned away.
fn keep_tokens(supervisor: &Supervisor, keeper: Keeper) -> Part {
    let keeper = Arc::new(keeper);
    supervisor.keep("tokens", move |stop| {
        let keeper = keeper.clone();
        async move {
            keeper.run(stop).await;
            Ok::<_, Infallible>(())
        }
    })
}

fn keep_watching_over_silence(supervisor: &Supervisor, watcher: Watcher) -> Part {
    let watcher = Arc::new(watcher);
    supervisor.keep("silence", move |stop| {
        let watcher = watcher.clone();
        async move {
            watcher.run(stop).await;
            Ok::<_, Infallible>(())
        }
    })
}

fn keep_serving(supervisor: &Supervisor, server: Server) -> Part {
    let server = Arc::new(server);
    supervisor.keep("http", move |stop| {
        let server = server.clone();
        async move { server.run(stop).await }
    })
}

/// What a newcomer needs to know.
fn welcome(scheme: &str, address: SocketAddr, dataset: &Dataset) -> String {
    // What listens everywhere answers here as well.
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let address = SocketAddr::new(ip, address.port());
    let data = dataset.root().join("heartbeats");
    format!(
        r#"
Systole listens on {scheme}://{address}. Try it:

  curl -i {scheme}://{address}/v1/heartbeats -H 'content-type: application/json' -d '{{"user_id":"ada","device_id":"laptop","timestamp":"'"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'"}}'

The first rows appear within seconds under {data}/, later ones within a minute:

  duckdb -c "FROM '{data}/**/*.parquet'"

Health: {scheme}://{address}/health   Stop: Ctrl-C
"#,
        data = data.display()
    )
}
