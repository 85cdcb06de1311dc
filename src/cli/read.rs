//! `systole read`: parsing.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::{Timestamp, civil, tz::TimeZone};

use super::Common;
use crate::heartbeat::{check_device_id, check_user_id, time_ms};
use crate::{buffer, dataset};

/// `systole read`
#[derive(Debug, Args)]
pub struct Read {
    /// Whose heartbeats
    #[arg(long, value_name = "USER", value_parser = user)]
    pub user: String,
    /// Those of this device only
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub device: Option<String>,
    /// From this time on: 2026-11-22T08:30:00Z, 2026-11-22 (UTC), or an age such as 2h
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub from: Option<i64>,
    /// Before this time, given likewise
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub to: Option<i64>,
    /// How to write them; by the name of FILE unless given, else as a table
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Form>,
    /// Write into this file instead of standard output; it appears once it is whole
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// How heartbeats are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// One JSON array
    Json,
    /// A JSON object a line
    Ndjson,
    /// Comma-separated values, with a header
    Csv,
    /// A Parquet file
    Parquet,
}

pub(super) fn user(text: &str) -> Result<String, String> {
    check_user_id(text).map(|()| text.to_owned()).map_err(|wrong| wrong.detail)
}

fn device(text: &str) -> Result<String, String> {
    check_device_id(text).map(|()| text.to_owned()).map_err(|wrong| wrong.detail)
}

fn time(text: &str) -> Result<i64, String> {
    time_at(text, Timestamp::now())
}

/// Reads a time as people give it, in milliseconds since the Unix epoch.
fn time_at(text: &str, now: Timestamp) -> Result<i64, String> {
    if let Ok(date) = text.parse::<civil::Date>()
        && text.len() == "2026-11-22".len()
    {
        let midnight = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(midnight.timestamp().as_millisecond());
    }
    // The library takes `0` for an age without a unit, and a reading from the begin would be one from now.
    if text != "0"
        && let Ok(age) = humantime::parse_duration(text)
    {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        return Ok(now.as_millisecond().saturating_sub(age));
    }
    time_ms("time", text).map_err(|wrong| format!("{}, a date, or an age such as 2h", wrong.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_as_people_give_it() {
        let now: Timestamp = "2026-11-22T08:30:00Z".parse().unwrap();
        let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        for (text, expected) in [
            ("2026-11-22T09:30:00+01:00", "2026-11-22T08:30:00Z"),
            ("1795336200001", "2026-11-22T08:30:00.001Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2h", "2026-11-22T06:30:00Z"),
            ("1day 30m", "2026-11-21T08:00:00Z"),
            ("0s", "2026-11-22T08:30:00Z"),
        ] {
            assert_eq!(time_at(text, now), Ok(ms(expected)), "{text}");
        }
        for text in ["", "0", "yesterday", "1795336200", "2026-13-01", "20261122", "2026-11-22T08:30:00"] {
            assert!(time_at(text, now).is_err(), "{text}");
        }
    }
}
