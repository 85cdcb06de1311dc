//! The files that the answers of `serve` cover.
//!
//! Roles start in any order: where the first batcher has not made the dataset yet, the door opens all the same, its answers say
//! that they cover the buffer only, and the dataset is looked for until it is there.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Failure;
use super::start::{expect_dataset, open_dataset_to_read};
use crate::buffer;
use crate::buffer::redis::RedisBuffer;
use crate::cli::Serve;
use crate::dataset::{self, Awaited, Dataset};
use crate::telemetry::health::{Affects, Health, Reporter};

/// How often a dataset that is not there yet is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The dataset that `--data` names, if it does: of the one that the buffer belongs to, and no other, from now on.
///
/// # Errors
/// It cannot be read, or belongs to another buffer.
pub async fn open(
    args: &Serve,
    buffer: &Arc<RedisBuffer>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Awaited, Failure> {
    let Some(data) = args.data.clone() else { return Ok(Awaited::default()) };
    let options = dataset::Options { data, ..dataset::Options::default() };
    let missing = match open_dataset_to_read(&options).await {
        Ok(dataset) => {
            belongs_together(buffer, &dataset).await?;
            return Ok(Some(dataset).into());
        }
        Err(missing @ dataset::Error::NoDataset { .. }) => missing,
        Err(error) => return Err(error.into()),
    };
    info!("waiting for the first batcher to make the dataset; until then answers cover the buffer only");
    // It is looked for until the process ends, so silence means that the looking has died.
    let reporter = health.part("dataset", Affects::Health, 10 * LOOK_EVERY);
    reporter.unwell(missing.to_string());
    let (awaited, stop) = (Awaited::default(), stop.clone());
    let search = Search { options, buffer: buffer.clone(), awaited: awaited.clone(), reporter };
    tokio::spawn(async move { stop.run_until_cancelled(search.run()).await });
    Ok(awaited)
}

struct Search {
    options: dataset::Options,
    buffer: Arc<RedisBuffer>,
    awaited: Awaited,
    reporter: Reporter,
}

impl Search {
    async fn run(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.look().await {
                Ok(dataset) => {
                    info!("the dataset is there; answers cover the files from now on");
                    self.awaited.arrived(dataset);
                    break;
                }
                Err(why) => self.reporter.unwell(why),
            }
        }
        loop {
            self.reporter.well("its files are read");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<Dataset, String> {
        let dataset = open_dataset_to_read(&self.options).await.map_err(|error| error.to_string())?;
        belongs_together(&self.buffer, &dataset).await.map_err(|error| error.to_string())?;
        Ok(dataset)
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
