//! `systole drain`: move what the embedded buffer holds into Redis, for a dataset that has outgrown its machine.
//!
//! Constraints:
//! - The dataset names its new buffer last; until then `batch` waits, and `up` cannot go on.
//! - It may be killed anywhere and is then run again, so it handles no signal (`buffer/drain/` says what then stands).
//! - Run once more after its end it says so and exits with 0: whoever repeats it until it succeeds must come to an end, also
//!   when it died between its last step and its last word.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::info;

use super::start::open_dataset;
use super::{Done, Failure, Outcome, output, owner, place};
use crate::buffer;
use crate::buffer::drain::{self, Progress};
use crate::buffer::embedded::{self, EmbeddedBuffer};
use crate::buffer::redis::RedisBuffer;
use crate::cli::Drain;
use crate::dataset::Dataset;
use crate::failpoint;
use crate::heartbeat::DatasetId;

/// Pause between two log lines that say how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Drained {
    dataset: DatasetId,
    /// Whether the dataset belonged to Redis before, so that nothing was done.
    already: bool,
    #[serde(flatten)]
    moved: Progress,
    /// What is no longer used.
    folder: PathBuf,
}

/// Moves everything, then gives the dataset to Redis.
pub async fn run(args: Drain) -> Outcome {
    let Some(url) = &args.redis.buffer else {
        return Err(Failure::Usage("drain: say where to with --buffer redis://host:6379".into()));
    };
    let to = RedisBuffer::connect(&args.buffer, &args.redis)?;
    let dataset = open_dataset(&args.dataset, false).await?;
    let folder = dataset.buffer_folder();
    let moved = match owner::read(&dataset).await?.as_deref() {
        Some(owner::EMBEDDED) => Some(move_all(&args, &dataset, &to).await?),
        Some(owner::REDIS) => None,
        Some(other) => return Err(Failure::Usage(owner::belongs_to(&dataset, other))),
        None => {
            let data = dataset.root().display();
            return Err(Failure::Usage(format!("the dataset in {data} never had a buffer: there is nothing to move")));
        }
    };
    let drained = Drained { dataset: dataset.id(), already: moved.is_none(), moved: moved.unwrap_or_default(), folder };
    if args.output.json {
        output::json(&drained)?;
    } else {
        print(&drained, &dataset, &url.redacted())?;
    }
    Ok(Done::Well)
}

async fn move_all(args: &Drain, dataset: &Dataset, to: &RedisBuffer) -> Result<Progress, Failure> {
    let from = open(args, dataset).await?;
    let mut told = Instant::now();
    let tell = |progress: Progress| {
        if told.elapsed() >= TELL_EVERY || progress.partitions == u32::from(dataset.partitions()) {
            told = Instant::now();
            let (done, of) = (progress.partitions, dataset.partitions());
            info!(partitions = done, of, heartbeats = progress.heartbeats, bytes = progress.bytes, "moved");
        }
    };
    let moved = drain::drain(&from, to, args.abandon_other, tell).await.map_err(again)?;
    owner::record(dataset, owner::REDIS).await?;
    failpoint::reached_by_task("drain.recorded").await.map_err(|error| Failure::OutOfReach(error.to_string()))?;
    // Its last handle waits for the disk. A panic there has been logged, and the process ends anyway.
    let _ = tokio::task::spawn_blocking(move || drop(from)).await;
    Ok(moved)
}

/// Opens the embedded buffer, which no `up` may have open.
async fn open(args: &Drain, dataset: &Dataset) -> Result<EmbeddedBuffer, Failure> {
    place::expect_embedded(dataset)?;
    let (folder, options) = (dataset.buffer_folder(), args.buffer.clone());
    let opened = tokio::task::spawn_blocking(move || {
        EmbeddedBuffer::open_to_move(&folder, &options, &embedded::Options::default())
    });
    let buffer = opened.await.map_err(|_| Failure::OutOfReach("opening the buffer was cut off".into()))??;
    buffer.expect_dataset(dataset.id());
    Ok(buffer)
}

/// What passes by itself, or with more room in Redis, is worth another try.
fn again(error: buffer::Error) -> Failure {
    if error.is_transient() {
        return Failure::OutOfReach(format!("{error}; run `systole drain` again, and it goes on where it stopped"));
    }
    error.into()
}

fn print(drained: &Drained, dataset: &Dataset, url: &str) -> Result<(), Failure> {
    let (data, folder) = (dataset.root().display(), drained.folder.display());
    let Progress { partitions, heartbeats, bytes, claims, dead_letters } = drained.moved;
    if drained.already {
        output::line(format!("the dataset in {data} belongs to Redis already; nothing is left to move"))?;
    } else {
        output::line(format!(
            "moved {heartbeats} heartbeats in {partitions} partitions ({bytes} bytes, {claims} standing claims, \
             {dead_letters} dead letters); the dataset in {data} belongs to Redis now"
        ))?;
        output::line(format!(
            "go on with: systole serve --buffer {url}; systole batch --buffer {url} --data {data}; systole compact --watch \
             --data {data}"
        ))?;
    }
    output::line(format!("{folder} is no longer used; it can be deleted"))
}
