//! What can be set about the edge.

use std::net::SocketAddr;

use bytesize::ByteSize;

use super::Error;
use super::connection::Deadlines;
use super::digest::{largest_request, size};
use super::tls;

use crate::settings;

/// The edge's settings.
///
/// How the timeouts relate: `head_deadline` and `body_deadline` bound one request's arrival, `answer_deadline` the leave of
/// its answer (of one that is made while it leaves: of each 32 KiB), `keep_alive` the silence between two. A body still arriving when `shutdown_grace` ends is cut off, which
/// loses nothing: it has no answer yet.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "HTTP")]
#[group(skip)]
pub struct Options {
    /// Address and port to listen on
    #[arg(long, env = "SYSTOLE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Threads that serve requests; 0 means one a core
    #[arg(long, env = "SYSTOLE_HTTP_WORKERS", default_value_t = 0, value_name = "COUNT")]
    pub http_workers: usize,
    /// Connections open at once; more wait in the listen queue
    #[arg(long, env = "SYSTOLE_HTTP_MAX_CONNECTIONS", default_value_t = 10_000, value_name = "COUNT")]
    pub http_max_connections: usize,
    /// Largest body as it comes over the wire
    #[arg(long, env = "SYSTOLE_MAX_BODY", default_value = "8MiB", value_name = "SIZE")]
    pub max_body: ByteSize,
    /// Largest body after gzip or zstd is undone
    #[arg(long, env = "SYSTOLE_MAX_INFLATED_BODY", default_value = "8MiB", value_name = "SIZE")]
    pub max_inflated_body: ByteSize,
    /// Most heartbeats in one request
    #[arg(long, env = "SYSTOLE_MAX_BULK", default_value_t = 10_000, value_name = "COUNT")]
    pub max_bulk: u32,
    /// Memory that bodies and what is made of them may take, all requests together; beyond it the answer is 503
    #[arg(long, env = "SYSTOLE_BYTE_BUDGET", default_value = "32MiB", value_name = "SIZE")]
    pub byte_budget: ByteSize,
    /// Time for the head of a request to arrive, from its first byte
    #[arg(long, env = "SYSTOLE_HEAD_DEADLINE", default_value = "5s", value_name = "DURATION")]
    pub head_deadline: humantime::Duration,
    /// Time for a whole body to arrive
    #[arg(long, env = "SYSTOLE_BODY_DEADLINE", default_value = "30s", value_name = "DURATION")]
    pub body_deadline: humantime::Duration,
    /// Time for a client to take an answer
    #[arg(long, env = "SYSTOLE_ANSWER_DEADLINE", default_value = "30s", value_name = "DURATION")]
    pub answer_deadline: humantime::Duration,
    /// Time that a connection may stay open between two requests
    #[arg(long, env = "SYSTOLE_KEEP_ALIVE", default_value = "75s", value_name = "DURATION")]
    pub keep_alive: humantime::Duration,
    /// Time that requests in flight have to end when the process stops
    #[arg(long, env = "SYSTOLE_SHUTDOWN_GRACE", default_value = "8s", value_name = "DURATION")]
    pub shutdown_grace: humantime::Duration,
    /// Answers of heartbeats that may be read at once; beyond it the answer is 503
    #[arg(long, env = "SYSTOLE_READ_STREAMS", default_value_t = 8, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub read_streams: u32,
    /// How far a timestamp may lie in the future
    #[arg(long, env = "SYSTOLE_MAX_CLOCK_SKEW", default_value = "5m", value_name = "DURATION")]
    pub max_clock_skew: humantime::Duration,
    /// How old a heartbeat may be when it arrives
    #[arg(long, env = "SYSTOLE_MAX_AGE", default_value = "30days", value_name = "DURATION")]
    pub max_age: humantime::Duration,
    /// See there.
    #[command(flatten)]
    pub tls: tls::Options,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

/// The most workers that the framework runs.
const MAX_WORKERS: usize = 512;

impl Options {
    /// Refuses settings that cannot work, each by name.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse =
            |setting, value: String, allowed: &str| Err(Error::Setting { setting, value, allowed: allowed.to_owned() });
        if self.http_workers > MAX_WORKERS {
            return refuse("http-workers", self.http_workers.to_string(), "0 to 512");
        }
        if self.http_max_connections == 0 {
            return refuse("http-max-connections", "0".into(), "at least 1");
        }
        if self.max_bulk == 0 {
            return refuse("max-bulk", "0".into(), "at least 1");
        }
        for (setting, deadline) in [
            ("head-deadline", self.head_deadline),
            ("body-deadline", self.body_deadline),
            ("answer-deadline", self.answer_deadline),
        ] {
            if deadline.is_zero() {
                return refuse(setting, deadline.to_string(), "more than nothing, such as 30s");
            }
        }
        let (have, need) = (size(self.byte_budget), largest_request(self));
        if have < need {
            let allowed = format!("at least {need} bytes, so that one request of max-body and max-inflated-body fits");
            return refuse("byte-budget", self.byte_budget.to_string(), &allowed);
        }
        Ok(())
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        Deadlines { head: self.head_deadline.into(), answer: self.answer_deadline.into() }
    }

    pub(super) fn workers(&self) -> usize {
        match self.http_workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
            given => given,
        }
    }

    /// In whole seconds, rounded up: what the framework takes.
    pub(super) fn shutdown_grace_s(&self) -> u64 {
        self.shutdown_grace.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let options = Options { byte_budget: ByteSize::mib(8), ..Options::default() };
        let message = options.check().unwrap_err().to_string();
        assert!(message.starts_with("byte-budget: 8.0 MiB cannot work: at least "), "{message}");
        for options in [
            Options { max_bulk: 0, ..Options::default() },
            Options { http_max_connections: 0, ..Options::default() },
            Options { http_workers: 513, ..Options::default() },
            Options { head_deadline: Duration::ZERO.into(), ..Options::default() },
            Options { body_deadline: Duration::ZERO.into(), ..Options::default() },
            Options { answer_deadline: Duration::ZERO.into(), ..Options::default() },
        ] {
            assert!(options.check().is_err(), "{options:?}");
        }
        Options::default().check().unwrap();
    }
}
