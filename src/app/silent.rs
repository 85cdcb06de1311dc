//! `systole silent`: which devices have stopped beating, for people and programs.
//!
//! Constraint: it writes them as it finds them, a page of each partition in memory. That some are silent is nothing wrong with
//! Systole, so the exit code is 0.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::text::harmless;
use super::{Done, Failure, Outcome, output, place};
use crate::buffer::{DEVICES_AT_ONCE, Devices, SeenDevice, Unseen};
use crate::cli::silent::{Form, Silent};
use crate::heartbeat::partition_of;

/// A silent device as people see it.
#[derive(Debug, Serialize)]
struct Shown {
    user_id: String,
    device_id: String,
    last_seen: String,
    silent_for_s: u64,
}

impl Shown {
    fn of(device: SeenDevice, now: Timestamp) -> Self {
        let last_seen = Timestamp::from_millisecond(device.last_seen).unwrap_or(Timestamp::UNIX_EPOCH);
        let silent = now.as_millisecond().saturating_sub(device.last_seen);
        Self {
            user_id: device.user_id,
            device_id: device.device_id,
            last_seen: format!("{last_seen:.3}"),
            silent_for_s: u64::try_from(silent / 1_000).unwrap_or(0),
        }
    }

    fn line(&self) -> String {
        let Self { user_id, device_id, last_seen, silent_for_s } = self;
        let silent_for = humantime::format_duration(Duration::from_secs(*silent_for_s));
        format!("{last_seen}  {}  {}  silent for {silent_for}", harmless(user_id), harmless(device_id))
    }
}

/// Lists them once.
pub async fn run(args: Silent) -> Outcome {
    let buffer = place::buffer_near(&args.dataset, &args.buffer, &args.redis).await?;
    let partitions = buffer.registration().await?.ok_or(crate::buffer::Error::NotRegistered)?.partitions;
    let devices: Arc<dyn Devices> = buffer;
    let now = Timestamp::now();
    let after = i64::try_from(args.after.as_millis()).unwrap_or(i64::MAX);
    let before = now.as_millisecond().saturating_sub(after);
    let of = match &args.user {
        Some(user) => {
            let own = partition_of(user, partitions);
            own..own.saturating_add(1)
        }
        None => 0..partitions,
    };
    let mut unseen = Unseen::new(devices, of, before, None, DEVICES_AT_ONCE);
    let mut list = List::begin(args.format)?;
    while let Some(device) = unseen.next().await? {
        if args.user.as_ref().is_none_or(|user| *user == device.user_id) {
            list.put(&Shown::of(device, now))?;
        }
    }
    list.end(args.after)?;
    Ok(Done::Well)
}

/// What is written, while it is written.
struct List {
    form: Form,
    count: u64,
}

impl List {
    fn begin(form: Form) -> Result<Self, Failure> {
        if form == Form::Json {
            output::line("[")?;
        }
        Ok(Self { form, count: 0 })
    }

    fn put(&mut self, device: &Shown) -> Result<(), Failure> {
        self.count += 1;
        match self.form {
            Form::Table => output::line(device.line()),
            Form::Json => {
                let text = serde_json::to_string(device)
                    .map_err(|error| Failure::OutOfReach(format!("cannot write JSON: {error}")))?;
                output::line(if self.count == 1 { format!("  {text}") } else { format!(", {text}") })
            }
        }
    }

    fn end(self, after: humantime::Duration) -> Result<(), Failure> {
        match self.form {
            Form::Json => output::line("]"),
            Form::Table if self.count == 1 => output::line(format!("1 device is silent for more than {after}")),
            Form::Table => output::line(format!("{} devices are silent for more than {after}", self.count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_device_is_called_steers_the_terminal() {
        let device = SeenDevice { user_id: "a\u{202e}da".into(), device_id: "lap\u{feff}top".into(), last_seen: 0 };
        let line = Shown::of(device, Timestamp::from_millisecond(61_000).unwrap()).line();
        assert_eq!(line, "1970-01-01T00:00:00.000Z  a\u{fffd}da  lap\u{fffd}top  silent for 1m 1s");
    }
}
