//! `systole adopt`: give a dataset that had a buffer another one, on a person's word.
//!
//! Constraint: a dataset is not taken from one kind of buffer to another here, because what waits in the first would be left
//! behind; that is what `systole drain` is for.

use serde::Serialize;

use super::start::open_dataset;
use super::{Done, Failure, Outcome, output, owner, place};
use crate::buffer::embedded;
use crate::buffer::redis::RedisBuffer;
use crate::buffer::socket::SocketBuffer;
use crate::buffer::{Buffer, Reach, Registration};
use crate::cli::Adopt;
use crate::dataset::Dataset;

#[derive(Serialize)]
struct Adopted {
    registration: Registration,
    /// Whether the buffer carried this dataset's id before.
    known: bool,
}

/// Registers the buffer for the dataset. A buffer of another dataset is refused.
pub async fn run(args: Adopt) -> Outcome {
    let dataset = open_dataset(&args.dataset, false).await?;
    let (kind, known) = match owner::read(&dataset).await?.as_deref() {
        Some(owner::EMBEDDED) => (owner::EMBEDDED, adopt_embedded(&args, &dataset).await?),
        None | Some(owner::REDIS) => (owner::REDIS, adopt_redis(&args, &dataset).await?),
        Some(other) => return Err(Failure::Usage(owner::belongs_to(&dataset, other))),
    };
    owner::record(&dataset, kind).await?;
    let adopted = Adopted { registration: owner::registration(&dataset), known };
    if args.output.json {
        output::json(&adopted)?;
    } else if known {
        output::line("the buffer belongs to this dataset already; nothing changed")?;
    } else {
        output::line(
            "the buffer belongs to this dataset now; `systole audit` shows what the files hold beyond its books",
        )?;
    }
    Ok(Done::Well)
}

async fn adopt_redis(args: &Adopt, dataset: &Dataset) -> Result<bool, Failure> {
    // Not `reach_buffer`: its ping asks for the registration that is missing here.
    let buffer = RedisBuffer::connect(&args.buffer, &args.redis)?;
    buffer.startup_check().await?;
    let registration = owner::registration(dataset);
    // Asked before this process expects a dataset: to one that does, an unregistered buffer is an alarm, and here it is
    // what the command is for. A foreign one is refused by the registering itself.
    let known = buffer.registration().await? == Some(registration);
    buffer.expect_dataset(dataset.id());
    buffer.register(registration).await?;
    Ok(known)
}

async fn adopt_embedded(args: &Adopt, dataset: &Dataset) -> Result<bool, Failure> {
    let data = dataset.root().display();
    if args.redis.buffer.is_some() {
        return Err(Failure::Usage(format!(
            "the dataset in {data} belongs to its embedded buffer, and what waits there would be left behind: move it to \
             Redis with `systole drain`, or leave --buffer out"
        )));
    }
    // The lock of a folder that was erased under a running process would not tell.
    if SocketBuffer::new(&dataset.control_socket(), &args.buffer).is_served().await? {
        return Err(Failure::Usage(format!("a process has the buffer of {data}: stop `systole up` first")));
    }
    let buffer = place::open_embedded(dataset, &args.buffer, &embedded::Options::default()).await?;
    let registration = owner::registration(dataset);
    let known = buffer.registration().await? == Some(registration);
    buffer.expect_dataset(dataset.id());
    buffer.register(registration).await?;
    Ok(known)
}
