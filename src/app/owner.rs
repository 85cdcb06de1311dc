//! Which kind of buffer a dataset belongs to, as `dataset.json` remembers it.
//!
//! Constraint: heartbeats that wait in one kind are unknown to the other, so a command that finds another owner than it
//! serves refuses and says which command is meant.

use super::Failure;
use crate::buffer::{self, Registration};
use crate::dataset::{self, Dataset};

/// The buffer is a Redis.
pub const REDIS: &str = "redis";
/// The buffer is the embedded one, in the dataset's folder.
pub const EMBEDDED: &str = "embedded";

/// What the buffer of this dataset must say that it is registered for.
pub fn registration(dataset: &Dataset) -> Registration {
    Registration { dataset: dataset.id(), partitions: dataset.partitions() }
}

/// The kind that the dataset belongs to; `None` before its first buffer.
pub async fn read(dataset: &Dataset) -> Result<Option<String>, Failure> {
    off_thread(dataset, "reading the dataset", Dataset::owning_buffer).await
}

/// Records the kind that the dataset belongs to from now on.
pub async fn record(dataset: &Dataset, kind: &'static str) -> Result<(), Failure> {
    off_thread(dataset, "recording the buffer", move |dataset| dataset.record_owning_buffer(kind)).await
}

/// Registers a buffer with a dataset that has none yet, or makes sure that the dataset is this one's.
///
/// # Errors
/// The dataset belongs to another kind, or its buffer of this kind was erased: that is an alarm, never a fresh start.
pub async fn settle(buffer: &dyn buffer::Buffer, dataset: &Dataset, kind: &'static str) -> Result<(), Failure> {
    match read(dataset).await? {
        Some(owner) if owner == kind => match buffer.registration().await? {
            Some(_) => Ok(()),
            None => Err(buffer::Error::NotRegistered.into()),
        },
        Some(owner) => Err(Failure::Usage(belongs_to(dataset, &owner))),
        None => {
            // In this order: a crash between the two leaves a registered buffer, and a dataset that registers it once more.
            buffer.register(registration(dataset)).await?;
            record(dataset, kind).await?;
            tracing::info!(kind, "registered the buffer for this dataset");
            Ok(())
        }
    }
}

/// What to do about a dataset that belongs to another kind of buffer.
pub fn belongs_to(dataset: &Dataset, owner: &str) -> String {
    let data = dataset.root().display();
    match owner {
        EMBEDDED => format!(
            "the dataset in {data} belongs to its embedded buffer: run `systole up --data {data}`, or stop that and move to Redis \
             with `systole drain --data {data} --buffer redis://host:6379`"
        ),
        REDIS => format!(
            "the dataset in {data} belongs to a buffer in Redis: run `systole serve`, `batch` and `compact --watch` with \
             --buffer, or choose another --data"
        ),
        other => {
            format!("the dataset in {data} belongs to a buffer of kind `{other}`, which this binary does not know")
        }
    }
}

async fn off_thread<T: Send + 'static>(
    dataset: &Dataset,
    what: &'static str,
    work: impl FnOnce(&Dataset) -> dataset::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let dataset = dataset.clone();
    let done = tokio::task::spawn_blocking(move || work(&dataset)).await;
    Ok(done.map_err(|_| Failure::OutOfReach(format!("{what} was cut off")))??)
}
