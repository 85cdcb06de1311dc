//! The load generator: posts heartbeats over some connections, as fast as they are answered, and prints one line of
//! `name=value` pairs.
//!
//! Each heartbeat of a run is another one: heartbeat `k` is that of device `k % devices`, each device beats once in
//! `devices` heartbeats, and 200 bytes of JSON are made of it. Two runs with the same `--from` are kept apart by `--first`.

mod beats;
mod connection;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::runtime::Builder;

use crate::beats::{Beats, Form};
use crate::connection::{Connection, Tally};

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
    /// Stop when so many heartbeats were accepted
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    heartbeats: u64,
    /// Heartbeats in a request
    #[arg(long, default_value_t = 1)]
    bulk: u64,
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
    /// The number of the first heartbeat
    #[arg(long, default_value_t = 0)]
    first: u64,
}

/// What the connections share.
struct Run {
    options: Options,
    beats: Beats,
    next: AtomicU64,
    accepted: AtomicU64,
    until: Instant,
}

impl Run {
    fn is_over(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) >= self.options.heartbeats || Instant::now() >= self.until
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let from = options.from.unwrap_or((now - Duration::from_secs(60)).as_millis() as u64);
    let began = Instant::now();
    let run = Arc::new(Run {
        beats: Beats { users: options.users, devices: options.devices, from, beat_ms: options.beat_ms },
        next: options.first.into(),
        accepted: 0.into(),
        until: began + Duration::from_secs_f64(options.seconds),
        options,
    });
    let threads = run.options.threads.clamp(1, run.options.connections.max(1));
    let outcome: Result<Vec<Tally>, String> = std::thread::scope(|scope| {
        let of_thread = |thread| (thread..run.options.connections).step_by(threads).count();
        let shares: Vec<_> = (0..threads).map(of_thread).collect();
        let run = &run;
        let work: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || serve(run, share))).collect();
        work.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread failed".into()))).collect()
    });
    match outcome {
        Ok(tallies) => {
            let mut all = Tally::default();
            tallies.into_iter().for_each(|tally| all.add(tally));
            println!("{}", all.line(began.elapsed(), run.next.load(Ordering::Relaxed)));
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
