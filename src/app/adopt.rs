//! `systole adopt`: give a dataset that had a buffer another one, on a person's word.

use serde::Serialize;

use super::start::open_dataset;
use super::{Done, Outcome, output, owner};
use crate::buffer::redis::RedisBuffer;
use crate::buffer::{Buffer, Reach, Registration};
use crate::cli::Adopt;

#[derive(Serialize)]
struct Adopted {
    registration: Registration,
    /// Whether the buffer carried this dataset's id before.
    known: bool,
}

/// Registers the buffer for the dataset. A buffer of another dataset is refused.
pub async fn run(args: Adopt) -> Outcome {
    let dataset = open_dataset(&args.dataset, false).await?;
    // Not `reach_buffer`: its ping asks for the registration that is missing here.
    let buffer = RedisBuffer::connect(&args.buffer, &args.redis)?;
    buffer.startup_check().await?;
    let registration = owner::registration(&dataset);
    // Asked before this process expects a dataset: to one that does, an unregistered buffer is an alarm, and here it is
    // what the command is for. A foreign one is refused by the registering itself.
    let known = buffer.registration().await? == Some(registration);
    buffer.expect_dataset(dataset.id());
    buffer.register(registration).await?;
    owner::record(&dataset, owner::REDIS).await?;
    let adopted = Adopted { registration, known };
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
