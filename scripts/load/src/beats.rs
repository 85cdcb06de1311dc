//! The heartbeats, as text.

use std::io::{self, Write};

use clap::ValueEnum;
use flate2::Compression;
use flate2::write::GzEncoder;

/// How a body of several heartbeats is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A JSON array.
    Array,
    /// One object a line.
    Ndjson,
}

impl Form {
    /// The media type that says so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Array => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// Where heartbeats come from.
#[derive(Debug)]
pub struct Beats {
    pub users: u64,
    pub devices: u64,
    pub from: u64,
    pub beat_ms: u64,
    /// The share of them that are an earlier one again, to the last byte.
    pub doubles: f64,
}

/// A double is of one of so many before it: clients that retry do so soon.
const DOUBLES_WITHIN: u64 = 20_000;

impl Beats {
    /// Replaces `body` by one with the heartbeats of these numbers. A single one is a bare object.
    pub fn write(&self, numbers: std::ops::Range<u64>, form: Form, body: &mut Vec<u8>) {
        body.clear();
        let (open, between, close) = match form {
            _ if numbers.end - numbers.start == 1 => ("", "", ""),
            Form::Array => ("[", ",", "]"),
            Form::Ndjson => ("", "\n", "\n"),
        };
        body.extend_from_slice(open.as_bytes());
        for number in numbers.clone() {
            if number != numbers.start {
                body.extend_from_slice(between.as_bytes());
            }
            // A vector takes whatever is written to it.
            let _ = self.write_one(self.original(number), body);
        }
        body.extend_from_slice(close.as_bytes());
    }

    /// The number of the heartbeat that this one repeats, or its own.
    fn original(&self, mut number: u64) -> u64 {
        while number > 0 && self.doubles > 0.0 {
            let dice = scramble(!number);
            if (dice >> 32) as f64 >= self.doubles * f64::from(u32::MAX) {
                break;
            }
            number -= 1 + dice % DOUBLES_WITHIN.min(number);
        }
        number
    }

    fn write_one(&self, number: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let device = number % self.devices;
        let timestamp = self.from + number / self.devices * self.beat_ms;
        let dice = scramble(number);
        let language = ["rust", "python", "typescript", "go"][dice as usize % 4];
        write!(
            body,
            r#"{{"user_id":"user-{:05}","device_id":"laptop-{device:06}","timestamp":{timestamp},"attributes":{{"project":"project-{}","language":"{language}","file":"src/module_{}/file_{:04x}.rs","line":{},"is_write":{}}}}}"#,
            device % self.users,
            dice >> 8 & 31,
            dice >> 16 & 63,
            dice >> 24 & 0xffff,
            dice >> 40 & 0xfff,
            dice >> 60 == 0,
        )
    }
}

/// Spreads numbers evenly (splitmix64).
fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Replaces `to` by `body`, compressed.
pub fn compress(body: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    to.clear();
    let mut encoder = GzEncoder::new(&mut *to, Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn distinct(doubles: f64, count: u64) -> usize {
        let beats = Beats { users: 10, devices: 50, from: 0, beat_ms: 10, doubles };
        let mut body = Vec::new();
        let mut text = |number| {
            beats.write(number..number + 1, Form::Array, &mut body);
            body.clone()
        };
        (0..count).map(&mut text).collect::<HashSet<_>>().len()
    }

    #[test]
    fn as_many_heartbeats_as_are_wanted_are_earlier_ones_again() {
        assert_eq!(distinct(0.0, 100_000), 100_000);
        let share = 1.0 - distinct(0.05, 100_000) as f64 / 100_000.0;
        assert!((share - 0.05).abs() < 0.005, "{share}");
    }
}
