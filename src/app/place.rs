//! Where the buffer is that a command looks into: the embedded one of a dataset, through the socket of the process that
//! has it or opened directly where none has it, or a Redis.
//!
//! Constraints: a dataset that belongs to its embedded buffer is never held against a Redis, nor the reverse; looking
//! makes no buffer where there is none.

use std::sync::Arc;

use super::start::{open_dataset, reach_buffer};
use super::{Failure, owner};
use crate::buffer::embedded::{self, EmbeddedBuffer};
use crate::buffer::redis::RedisBuffer;
use crate::buffer::socket::SocketBuffer;
use crate::buffer::{Administer, Tokens, options, redis};
use crate::dataset::{self, Dataset};

/// Looks whether the embedded buffer of a dataset that has one is there: opening makes what is not, and an empty buffer in
/// the place of a lost one would hide the loss.
///
/// # Errors
/// It is gone.
pub fn expect_embedded(dataset: &Dataset) -> Result<(), Failure> {
    let (folder, data) = (dataset.buffer_folder(), dataset.root().display());
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the embedded buffer of this dataset, {}, is gone: put it back, or begin with an empty one by `systole adopt --data \
         {data}` (what waited in the old one is lost)",
        folder.display()
    )))
}

/// Opens the embedded buffer of a dataset, making it where there is none.
pub async fn open_embedded(
    dataset: &Dataset,
    options: &options::Options,
    own: &embedded::Options,
) -> Result<EmbeddedBuffer, Failure> {
    let (folder, options, own) = (dataset.buffer_folder(), options.clone(), own.clone());
    let opened = tokio::task::spawn_blocking(move || EmbeddedBuffer::open(&folder, &options, &own)).await;
    Ok(opened.map_err(|_| Failure::OutOfReach("opening the buffer was cut off".into()))??)
}

/// The buffer of this dataset.
///
/// # Errors
/// It is out of reach, or a Redis is named for a dataset that belongs to its embedded buffer.
pub async fn buffer_of(
    dataset: &Dataset,
    options: &options::Options,
    redis: &redis::Options,
) -> Result<Arc<dyn Administer>, Failure> {
    match owner::read(dataset).await?.as_deref() {
        Some(owner::EMBEDDED) if redis.buffer.is_some() => Err(Failure::Usage(format!(
            "the dataset in {} belongs to its embedded buffer: leave --buffer out (SYSTOLE_BUFFER and `buffer` in the file, \
             too), or move it to Redis with `systole drain`",
            dataset.root().display()
        ))),
        Some(owner::EMBEDDED) => embedded_of(dataset, options).await,
        None | Some(owner::REDIS) => Ok(reach_buffer(options, redis).await?),
        Some(other) => Err(Failure::Usage(owner::belongs_to(dataset, other))),
    }
}

/// The buffer for a command that needs no dataset: the Redis that is named, else that of the dataset if there is one.
///
/// # Errors
/// Those of [`buffer_of`], and the dataset cannot be opened.
pub async fn buffer_near(
    dataset: &dataset::Options,
    options: &options::Options,
    redis: &redis::Options,
) -> Result<Arc<dyn Administer>, Failure> {
    if redis.buffer.is_some() {
        return Ok(reach_buffer(options, redis).await?);
    }
    match open_dataset(dataset, false).await {
        Ok(dataset) => Ok(buffer_of(&dataset, options, redis).await?),
        Err(dataset::Error::NoDataset { .. }) => Ok(reach_buffer(options, redis).await?),
        Err(error) => Err(error.into()),
    }
}

/// The tokens for a command that looks at them or revokes some: as [`buffer_near`], but of a Redis also before any dataset
/// has registered it.
///
/// # Errors
/// Those of [`buffer_near`].
pub async fn tokens_near(
    dataset: &dataset::Options,
    options: &options::Options,
    redis: &redis::Options,
) -> Result<Arc<dyn Tokens>, Failure> {
    if redis.buffer.is_some() {
        return Ok(Arc::new(RedisBuffer::connect(options, redis)?));
    }
    match open_dataset(dataset, false).await {
        Ok(dataset) => match owner::read(&dataset).await?.as_deref() {
            None | Some(owner::REDIS) => Ok(Arc::new(RedisBuffer::connect(options, redis)?)),
            _ => Ok(buffer_of(&dataset, options, redis).await?),
        },
        Err(dataset::Error::NoDataset { .. }) => Ok(Arc::new(RedisBuffer::connect(options, redis)?)),
        Err(error) => Err(error.into()),
    }
}

/// The same for a command that makes one: a Redis must be fit to keep it, and where there is neither Redis nor dataset the
/// dataset is made, as `systole up` would, so that its door need not stand open first.
///
/// # Errors
/// Those of [`tokens_near`], and of a buffer that would not keep what it is given.
pub async fn tokens_to_make(
    dataset: &dataset::Options,
    options: &options::Options,
    redis: &redis::Options,
) -> Result<Arc<dyn Tokens>, Failure> {
    if redis.buffer.is_some() {
        let buffer = RedisBuffer::connect(options, redis)?;
        buffer.startup_check().await?;
        return Ok(Arc::new(buffer));
    }
    let dataset = match open_dataset(dataset, false).await {
        Err(dataset::Error::NoDataset { .. }) => {
            let dataset = open_dataset(dataset, true).await?;
            let buffer = open_embedded(&dataset, options, &embedded::Options::default()).await?;
            buffer.expect_dataset(dataset.id());
            owner::settle(&buffer, &dataset, owner::EMBEDDED).await?;
            return Ok(Arc::new(buffer));
        }
        opened => opened?,
    };
    if owner::read(&dataset).await?.is_none() {
        // A `batch` that waits for its Redis may have made it: it is not taken from that.
        return Err(Failure::Usage(format!(
            "the dataset in {} has no buffer yet: name the Redis with --buffer, or start `systole up` once",
            dataset.root().display()
        )));
    }
    Ok(buffer_of(&dataset, options, redis).await?)
}

async fn embedded_of(dataset: &Dataset, options: &options::Options) -> Result<Arc<dyn Administer>, Failure> {
    let far = SocketBuffer::new(&dataset.control_socket(), options);
    if far.is_served().await? {
        return Ok(Arc::new(far));
    }
    expect_embedded(dataset)?;
    // Nothing is pushed, so what only pushing needs is as good as any.
    let near = open_embedded(dataset, options, &embedded::Options::default()).await?;
    near.expect_dataset(dataset.id());
    Ok(Arc::new(near))
}
