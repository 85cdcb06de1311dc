//! One test's whole collector: a Redis, a folder, a ledger, and the processes started on them.
//!
//! When it goes, it checks that nothing is left behind: no process, and nothing but published files where readers look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::ledger::Ledger;
use super::oracle::{self, Snapshot};
use super::redis::RedisServer;
use super::systole::{Finished, Launch, Running, Systole};
use super::wait;

/// Partitions of every dataset here, unless a test says otherwise.
const PARTITIONS: u64 = 4;
/// Limits off (one test turns them on), and answers within what a test can wait for.
const SERVE_FLAGS: &[&str] = &[
    "--user-rate=0",
    "--address-rate=0",
    "--max-clock-skew=3days",
    "--push-deadline=2s",
    "--step-deadline=2s",
    "--connect-timeout=500ms",
    "--monitor-every=200ms",
];
/// Waits that are long for people and short for tests.
const BATCH_FLAGS: &[&str] = &[
    "--max-delay=100ms",
    "--look-every=50ms",
    "--push-deadline=1s",
    "--step-deadline=1s",
    "--connect-timeout=500ms",
    "--lease-ttl=2s",
    "--renew-every=300ms",
    "--announce-every=300ms",
    "--batcher-ttl=2s",
    "--retry-first=50ms",
    "--retry-most=500ms",
    "--lock-deadline=2s",
    "--min-free=0B",
    "--partitions=4",
];
/// More of the same, for tests that wait for the leases of the dead to run out. A machine that is very busy may lose such a
/// lease by itself.
pub const QUICK_LEASE: [&str; 7] = [
    "--lease-ttl=800ms",
    "--renew-every=150ms",
    "--announce-every=150ms",
    "--batcher-ttl=800ms",
    "--step-deadline=600ms",
    "--push-deadline=600ms",
    "--connect-timeout=300ms",
];
/// Of one of the lists above what only Redis has: `up` does not know it.
const REDIS_FLAG: &str = "--connect-timeout=";
const COMPACT_FLAGS: &[&str] = &["--publish-after=100ms", "--publish-scan-every=50ms"];

/// See the module.
#[derive(Debug)]
pub struct World {
    pub redis: RedisServer,
    pub ledger: Arc<Ledger>,
    home: TempDir,
    dataset: PathBuf,
    running: Running,
}

impl World {
    /// On a Redis as [`RedisServer::start`] starts it.
    pub fn new() -> Self {
        Self::on(RedisServer::start())
    }

    /// On this Redis.
    pub fn on(redis: RedisServer) -> Self {
        let home = tempfile::Builder::new().prefix("systole").tempdir().unwrap();
        let dataset = home.path().join("data");
        Self { redis, ledger: Arc::default(), home, dataset, running: Running::default() }
    }

    /// With its dataset in `folder` instead.
    pub fn dataset_in(mut self, folder: &Path) -> Self {
        self.dataset = folder.join("data");
        self
    }

    /// The dataset's folder.
    pub fn dataset(&self) -> &Path {
        &self.dataset
    }

    /// `systole serve`.
    pub fn serve(&self) -> Launch {
        self.launch("serve")
            .args(SERVE_FLAGS.iter().copied())
            .args(["--listen=127.0.0.1:0".to_owned(), format!("--buffer={}", self.redis.url())])
    }

    /// `systole batch`.
    pub fn batch(&self) -> Launch {
        self.launch("batch").args(BATCH_FLAGS.iter().copied()).args([
            "--listen=127.0.0.1:0".to_owned(),
            format!("--buffer={}", self.redis.url()),
            self.data(),
        ])
    }

    /// `systole compact --watch`.
    pub fn watch(&self) -> Launch {
        self.launch("compact")
            .args(["--watch".to_owned(), "--listen=127.0.0.1:0".to_owned(), self.data()])
            .args(COMPACT_FLAGS.iter().copied())
    }

    /// `systole up`: all of that in one process, on the buffer in the dataset's folder.
    pub fn up(&self) -> Launch {
        let flags = [SERVE_FLAGS, BATCH_FLAGS, COMPACT_FLAGS].concat();
        self.launch("up").args(flags.into_iter().filter(|flag| !flag.starts_with(REDIS_FLAG))).args([
            "--listen=127.0.0.1:0".to_owned(),
            "--buffer-min-free=0B".to_owned(),
            self.data(),
        ])
    }

    /// `systole compact`: one pass.
    pub fn compact(&self) -> Launch {
        self.launch("compact").args([self.data()])
    }

    /// `systole audit`, `verify` or `dead-letters …`, with what it must be told.
    pub fn books(&self, words: &[&str]) -> Launch {
        let launch = self.launch(words[0]).args(words[1..].iter().copied());
        let buffer = format!("--buffer={}", self.redis.url());
        match words[0] {
            "verify" => launch.args([self.data()]),
            "dead-letters" => launch.args([buffer]),
            _ => launch.args([buffer, self.data()]),
        }
    }

    /// Any subcommand, bare.
    pub fn launch(&self, subcommand: &str) -> Launch {
        Launch::new(subcommand, self.home.path(), &self.running)
    }

    /// A client of `serve` that writes this world's ledger.
    pub fn client(&self, serve: &Systole) -> Client {
        Client::new(serve.url(), self.ledger.clone())
    }

    /// Starts `serve` with `batch` beside it, and waits until heartbeats are accepted.
    pub fn serve_and_batch(&self) -> (Systole, Systole) {
        let batch = self.batch().start();
        let serve = self.serve().start();
        serve.await_status("/health/ready", 200, super::SOON);
        (serve, batch)
    }

    /// Gives the buffer its dataset, by a batcher that goes again at once.
    pub fn register(&self) {
        let batch = self.batch().start();
        let serve = self.serve().start();
        serve.await_status("/health/ready", 200, super::SOON);
        serve.stop();
        batch.stop();
    }

    /// One field of the hash that each partition has in Redis, summed over the partitions.
    pub fn in_redis(&self, field: &str) -> u64 {
        self.by_partition(field).into_iter().sum()
    }

    /// The same of the partition that has the most.
    pub fn most_in_redis(&self, field: &str) -> u64 {
        self.by_partition(field).into_iter().max().unwrap_or(0)
    }

    fn by_partition(&self, field: &str) -> Vec<u64> {
        let key = |partition| format!("systole:{{p{partition}}}:state");
        (0..PARTITIONS).map(|n| self.redis.cli(&["HGET", &key(n), field]).parse().unwrap_or(0)).collect()
    }

    /// Waits until nothing is left to write: neither pending nor claimed.
    pub fn await_drained(&self, deadline: Duration) {
        wait::value("an empty buffer", deadline, || match (self.in_redis("pending"), self.in_redis("claimed")) {
            (0, 0) => Ok(()),
            (pending, claimed) => Err(format!("{pending} pending, {claimed} claimed")),
        });
    }

    /// Waits until every heartbeat that was answered 202 is published (a compactor must be watching), then judges.
    pub fn await_published(&self, deadline: Duration) -> Snapshot {
        let wanted = self.ledger.kept();
        let snapshot = wait::value("every kept heartbeat to be published", deadline, || {
            let counted = oracle::count_rows(&self.dataset);
            if counted < wanted {
                return Err(format!("{counted} of {wanted} rows"));
            }
            let snapshot = Snapshot::read(&self.dataset)?;
            match snapshot.disagreements(&self.ledger).into_iter().find(|fault| fault.starts_with("lost")) {
                None => Ok(snapshot),
                Some(fault) => Err(fault),
            }
        });
        snapshot.judge(&self.ledger);
        snapshot
    }

    /// Publishes what is staged by one pass of the compactor, then judges.
    pub fn publish(&self) -> Snapshot {
        self.compact().run().expect_code(0);
        self.judge()
    }

    /// Reads what is published and judges it against the ledger.
    pub fn judge(&self) -> Snapshot {
        let snapshot = Snapshot::read(&self.dataset).unwrap_or_else(|error| panic!("cannot be read: {error}"));
        snapshot.judge(&self.ledger);
        snapshot
    }

    /// `systole audit` finds the books in order.
    pub fn audit(&self) -> Value {
        self.books(&["audit", "--json"]).run().expect_code(0).json()
    }

    /// `systole verify` finds every file whole.
    pub fn verify(&self) -> Finished {
        self.books(&["verify"]).run().expect_code(0)
    }

    /// The fragments that wait to be published.
    pub fn staged(&self) -> Vec<PathBuf> {
        let mut files = oracle::every_file(&self.dataset.join("staging"));
        files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(".part_"));
        files
    }

    fn data(&self) -> String {
        format!("--data={}", self.dataset.display())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let running = self.running.lock().unwrap().clone();
        assert!(running.is_empty(), "processes are left: {running:?}");
        let strangers: Vec<PathBuf> = oracle::every_file(&self.dataset.join("heartbeats"))
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                !(name.starts_with("heartbeats-") && name.ends_with(".parquet"))
            })
            .collect();
        assert!(strangers.is_empty(), "readers would meet {strangers:?}");
    }
}
