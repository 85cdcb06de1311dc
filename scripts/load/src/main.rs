//! The load generator: posts heartbeats over some connections, as fast as they are answered or at a constant rate, and
//! prints one line of `name=value` pairs.
//!
//! Each heartbeat of a run is another one: heartbeat `k` is that of device `k % devices`, each device beats once in
//! `devices` heartbeats, and 200 bytes of JSON are made of it. Two runs with the same `--from` are kept apart by `--first`.
//! Making 1,000 of them costs a third of what parsing them costs; where that would be measured as the server's cost,
//! `--pool` has it done beforehand. A pool that is large enough for the run holds each heartbeat once.

mod beats;
mod connection;
mod pace;
mod request;
mod tally;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::runtime::Builder;

use crate::beats::{Beats, Form};
use crate::connection::Connection;
use crate::pace::Pace;
use crate::request::Requests;
use crate::tally::Tally;

/// Posts heartbeats to Systole as fast as it takes them, and prints what it took
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Options {
    /// Where Systole listens
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Threads to serve them
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop after so many seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Before that, post for so many seconds without counting
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Stop when so many heartbeats were taken
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    heartbeats: u64,
    /// Heartbeats a second, however long answers take [default: as many as are answered]
    #[arg(long)]
    rate: Option<f64>,
    /// Heartbeats in a request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    bulk: u64,
    /// Requests that are made before the clock starts, and sent over and over; 0 makes each as it is sent
    #[arg(long, default_value_t = 0, value_name = "REQUESTS")]
    pool: u64,
    /// How a request of several is written
    #[arg(long, value_enum, default_value_t = Form::Array)]
    form: Form,
    /// Compress bodies
    #[arg(long)]
    gzip: bool,
    /// Users that the devices belong to
    #[arg(long, default_value_t = 1_000)]
    users: u64,
    /// Devices that beat
    #[arg(long, default_value_t = 5_000)]
    devices: u64,
    /// The first timestamp, in milliseconds since the epoch [default: a minute ago]
    #[arg(long)]
    from: Option<u64>,
    /// Milliseconds between two beats of a device
    #[arg(long, default_value_t = 10)]
    beat_ms: u64,
    /// The share of heartbeats that are one of the 20,000 before it again
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    doubles: f64,
    /// The number of the first heartbeat
    #[arg(long, default_value_t = 0)]
    first: u64,
}

impl Options {
    /// The number behind the last heartbeat.
    fn end(&self) -> u64 {
        self.first.saturating_add(self.heartbeats)
    }

    /// The heartbeats of the request that begins with this one.
    fn numbers(&self, first: u64) -> Range<u64> {
        first..first.saturating_add(self.bulk).min(self.end())
    }
}

/// What the connections share.
struct Run {
    options: Options,
    requests: Requests,
    pace: Option<Pace>,
    next: AtomicU64,
    counts_from: Instant,
    until: Instant,
}

impl Run {
    /// Prepares everything; the clock starts with its end.
    fn begin(options: Options) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let from = options.from.unwrap_or((now - Duration::from_secs(60)).as_millis() as u64);
        let Options { users, devices, beat_ms, doubles, .. } = options;
        let requests = Requests::prepare(&options, Beats { users, devices, from, beat_ms, doubles })?;
        let began = Instant::now();
        let counts_from = began + Duration::from_secs_f64(options.warm_up);
        Ok(Self {
            requests,
            pace: options.rate.map(|rate| Pace::new(began, rate / options.bulk as f64)),
            next: options.first.into(),
            counts_from,
            until: counts_from + Duration::from_secs_f64(options.seconds),
            options,
        })
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits until a request is due; when that was. `None` when the run is over.
    async fn await_due(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        match &self.pace {
            Some(pace) => pace.next().await,
            None => Some(Instant::now()),
        }
    }

    /// The heartbeats of the next request, if there are to be more.
    fn next(&self) -> Option<Range<u64>> {
        let first = self.next.fetch_add(self.options.bulk, Ordering::Relaxed);
        (first < self.options.end()).then(|| self.options.numbers(first))
    }

    /// Posts with all connections; what came of it, on one line.
    fn post(self: &Arc<Self>) -> Result<String, String> {
        let connections = self.options.connections;
        let threads = self.options.threads.clamp(1, connections.max(1));
        let (tallies, took) = std::thread::scope(|scope| {
            if let Some(pace) = &self.pace {
                scope.spawn(|| pace.run(self.until));
            }
            let of_thread = |thread| (thread..connections).step_by(threads).count();
            let work: Vec<_> = (0..threads).map(|thread| scope.spawn(move || serve(self, of_thread(thread)))).collect();
            let tallies: Result<Vec<Tally>, String> = work
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread failed".into())))
                .collect();
            let took = self.counts_from.elapsed();
            if let Some(pace) = &self.pace {
                pace.stop();
            }
            (tallies, took)
        });
        let mut all = Tally::default();
        tallies?.into_iter().for_each(|tally| all.add(tally));
        let next = self.next.load(Ordering::Relaxed).min(self.options.end());
        Ok(all.line(took, next - self.options.first, next))
    }
}

fn main() -> ExitCode {
    let outcome = Run::begin(Options::parse()).map_err(|error| error.to_string());
    match outcome.and_then(|run| Arc::new(run).post()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves so many connections on this thread.
fn serve(run: &Arc<Run>, connections: usize) -> Result<Tally, String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let posting: Vec<_> = (0..connections).map(|_| tokio::spawn(Connection::post(run.clone()))).collect();
        let mut all = Tally::default();
        for one in posting {
            let outcome = one.await.map_err(|error| error.to_string())?;
            all.add(outcome.map_err(|error| format!("{}: {error}", run.options.address))?);
        }
        Ok(all)
    })
}
