//! The files that the answers of `serve` cover.
//!
//! Roles start in any order: where the first batcher has not made the dataset yet, the door opens all the same, its answers say
//! that they cover the buffer only, and the dataset is looked for until it is there. From then on its folder is looked at, since
//! it may be moved away or its disk unmounted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Failure;
use super::start::{expect_dataset, open_dataset_to_read};
use crate::buffer;
use crate::buffer::redis::RedisBuffer;
use crate::cli::Serve;
use crate::dataset::{self, Awaited, Dataset};
use crate::telemetry::health::{Affects, Health, Reporter};

/// How often the dataset is looked at, or for while it is not there yet.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The dataset that `--data` names: of the one that the buffer belongs to, and no other, from now on. `None` without `--data`.
///
/// # Errors
/// It cannot be read, or belongs to another buffer.
pub async fn open(
    args: &Serve,
    buffer: &Arc<RedisBuffer>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<Awaited>, Failure> {
    let Some(data) = args.data.clone() else { return Ok(None) };
    let options = dataset::Options { data, ..dataset::Options::default() };
    // It is looked at until the process ends, so silence means that the looking has died, or hangs with the disk.
    let reporter = health.part("dataset", Affects::Health, 10 * LOOK_EVERY);
    let awaited = match open_dataset_to_read(&options).await {
        Ok(dataset) => {
            belongs_together(buffer, &dataset).await?;
            reporter.well(WELL);
            Awaited::from(Some(dataset))
        }
        Err(missing @ dataset::Error::NoDataset { .. }) => {
            info!("waiting for the first batcher to make the dataset; until then answers cover the buffer only");
            reporter.unwell(missing.to_string());
            Awaited::default()
        }
        Err(error) => return Err(error.into()),
    };
    let (watch, stop) = (Watch { options, buffer: buffer.clone(), awaited: awaited.clone(), reporter }, stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(watch.run()).await });
    Ok(Some(awaited))
}

/// What the board says while it is.
const WELL: &str = "its files are read";

struct Watch {
    options: dataset::Options,
    buffer: Arc<RedisBuffer>,
    awaited: Awaited,
    reporter: Reporter,
}

impl Watch {
    async fn run(self) {
        let mut was_there = self.awaited.get().is_some();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looked = self.look().await;
            match (&looked, was_there) {
                (Ok(()), false) => info!("the dataset is there; answers cover the files from now on"),
                (Err(why), true) => warn!(%why, "the files of the dataset cannot be read"),
                _ => {}
            }
            was_there = looked.is_ok();
            match looked {
                Ok(()) => self.reporter.well(WELL),
                Err(why) => self.reporter.unwell(why),
            }
        }
    }

    async fn look(&self) -> Result<(), String> {
        let Some(dataset) = self.awaited.get().cloned() else { return self.search().await };
        match tokio::task::spawn_blocking(move || dataset.confirm_home()).await {
            Ok(confirmed) => confirmed.map_err(|error| error.to_string()),
            Err(_) => Err("looking at the folder of the dataset was cut off; see the log".into()),
        }
    }

    async fn search(&self) -> Result<(), String> {
        let dataset = open_dataset_to_read(&self.options).await.map_err(|error| error.to_string())?;
        belongs_together(&self.buffer, &dataset).await.map_err(|error| error.to_string())?;
        self.awaited.arrived(dataset);
        Ok(())
    }
}

/// The buffer may be registered, or come back, while this runs; another dataset's is refused then as well.
async fn belongs_together(buffer: &RedisBuffer, dataset: &Dataset) -> Result<(), buffer::Error> {
    match expect_dataset(buffer, dataset).await {
        Err(buffer::Error::NotRegistered) => {}
        Err(error) if error.is_transient() => {}
        judged => judged?,
    }
    buffer.expect_dataset(dataset.id());
    Ok(())
}
