//! What several commands do at their start and at their end: signals, the buffer's start-up check, opening the dataset.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Failure;
use crate::buffer::Reach;
use crate::buffer::redis::RedisBuffer;
use crate::buffer::{self, options, redis};
use crate::dataset::{self, Dataset, RealFs};

/// How long a blocking task may go on after everything else has ended.
pub const BLOCKING_GRACE: Duration = Duration::from_secs(5);

/// A token that SIGTERM and SIGINT cancel. A second signal ends the process at once.
pub fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let cannot = |error: std::io::Error| Failure::OutOfReach(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let signal = first_of(&mut terminate, &mut interrupt).await;
        info!(signal, "stopping");
        stop.cancel();
        let signal = first_of(&mut terminate, &mut interrupt).await;
        warn!(signal, "stopping at once");
        // 128 + 15: the shell's word for a process that a signal ended. Nothing acknowledged is lost by ending here.
        std::process::exit(143);
    });
    Ok(token)
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Connects to the buffer and looks whether it is fit. One that is out of reach is no error for a service: it waits.
pub async fn open_buffer(options: &options::Options, redis: &redis::Options) -> Result<Arc<RedisBuffer>, Failure> {
    let buffer = Arc::new(RedisBuffer::connect(options, redis)?);
    look_at_buffer(&buffer).await?;
    Ok(buffer)
}

/// Looks whether the buffer is fit. One that is out of reach is no error for a service: it waits.
pub async fn look_at_buffer(buffer: &RedisBuffer) -> Result<(), Failure> {
    match buffer.startup_check().await {
        Ok(durability) => info!(durability = durability.level, window = durability.window, "the buffer is fit"),
        Err(error) if error.is_transient() => warn!(%error, "the buffer is not there yet; waiting for it"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Connects to the buffer for a command that looks once: out of reach is an error.
pub async fn reach_buffer(options: &options::Options, redis: &redis::Options) -> Result<Arc<RedisBuffer>, Failure> {
    let buffer = Arc::new(RedisBuffer::connect(options, redis)?);
    buffer.ping().await?;
    Ok(buffer)
}

/// Opens the dataset off the async threads. `born` makes it when there is none.
pub async fn open_dataset(options: &dataset::Options, born: bool) -> Result<Dataset, dataset::Error> {
    let options = options.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let fs = Arc::new(RealFs);
        if born { Dataset::open_or_create(&options, fs) } else { Dataset::open(&options, fs) }
    });
    opened
        .await
        .unwrap_or_else(|_| Err(dataset::Error::Unsupported { advice: "opening the dataset was cut off".into() }))
}

/// Opens the dataset, which must be there, without writing to it.
pub async fn open_dataset_to_read(options: &dataset::Options) -> Result<Dataset, dataset::Error> {
    let options = options.clone();
    let opened = tokio::task::spawn_blocking(move || Dataset::open_to_read(&options, Arc::new(RealFs)));
    opened
        .await
        .unwrap_or_else(|_| Err(dataset::Error::Unsupported { advice: "opening the dataset was cut off".into() }))
}

/// A buffer and files of different datasets make no sense together.
pub async fn expect_dataset(buffer: &(impl Reach + ?Sized), dataset: &Dataset) -> Result<(), buffer::Error> {
    match buffer.registration().await? {
        None => Err(buffer::Error::NotRegistered),
        Some(found) if found.dataset == dataset.id() => Ok(()),
        Some(found) => Err(buffer::Error::ForeignDataset { expected: dataset.id(), found: found.dataset.to_string() }),
    }
}

/// A part of the process that runs beside its main work.
pub struct Beside<T> {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<T, JoinError>>,
}

impl<T: Send + 'static> Beside<T> {
    /// Runs it, until the token that it is given. One that panics stops the whole `process`, at once, so that its supervisor starts
    /// a sound one: without it the others would go on as if all were well.
    pub fn start<F>(name: &'static str, process: &CancellationToken, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (stop, process) = (CancellationToken::new(), process.clone());
        let running = tokio::spawn(run(stop.clone()));
        let task = tokio::spawn(async move {
            running.await.inspect_err(|failed| {
                error!(part = name, %failed, "a part of the process failed; the process ends");
                process.cancel();
            })
        });
        Self { name, stop, task }
    }

    /// Tells it to end, and waits for it.
    pub async fn stop(self) -> Result<T, Failure> {
        self.stop.cancel();
        let ended = self.task.await.and_then(|ended| ended);
        ended.map_err(|failed| Failure::OutOfReach(format!("{} failed: {failed}", self.name)))
    }
}
