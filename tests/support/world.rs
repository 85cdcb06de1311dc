//! One test's whole collector: a buffer, a folder, a ledger, and the processes started on them.
//!
//! A test that runs on every buffer asks for a [`Collector`]; one that speaks of Redis starts each role by itself.
//!
//! When it goes, it checks that nothing is left behind: no process, and nothing but published files where readers look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::address::Address;
use super::buffers::Buffer;
use super::client::{self, Client};
use super::collector::Collector;
use super::fleet::Fleet;
use super::holdings::Holdings;
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::oracle::{self, Snapshot};
use super::redis::RedisServer;
use super::systole::{Finished, Launch, Running, Systole};
use super::{SOON, wait};

/// Partitions of every dataset here, unless a test says otherwise.
const PARTITIONS: u64 = 4;
/// Limits off (one test turns them on).
const DOOR_FLAGS: &[&str] = &["--user-rate=0", "--address-rate=0", "--max-clock-skew=3days"];
/// Waits that are long for people and short for tests.
const BATCHER_FLAGS: &[&str] = &[
    "--max-delay=100ms",
    "--look-every=50ms",
    "--renew-every=300ms",
    "--announce-every=300ms",
    "--retry-first=50ms",
    "--retry-most=500ms",
    "--lock-deadline=2s",
    "--min-free=0B",
    "--partitions=4",
];
/// A port of the operating system's choice.
const LISTEN: &str = "--listen=127.0.0.1:0";
const COMPACTOR_FLAGS: &[&str] = &["--publish-after=100ms", "--publish-scan-every=50ms"];
/// A door to Redis answers within what a test can wait for.
const SERVE_FLAGS: &[&str] =
    &["--push-deadline=2s", "--step-deadline=2s", "--connect-timeout=500ms", "--monitor-every=200ms"];
/// The leases of the dead run out within what a test can wait for.
const BATCH_FLAGS: &[&str] =
    &["--push-deadline=1s", "--step-deadline=1s", "--connect-timeout=500ms", "--lease-ttl=2s", "--batcher-ttl=2s"];
/// The tests learn from its metrics what the buffer holds; a test's disk may have little room.
const UP_FLAGS: &[&str] = &["--monitor-every=50ms", "--buffer-min-free=1MiB"];
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

/// Where heartbeats wait.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a test")]
enum Place {
    Redis(RedisServer),
    /// In the dataset's folder.
    Embedded,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub ledger: Arc<Ledger>,
    pub(super) address: Address,
    place: Place,
    /// How the roles are told where the Redis is, if not by its address.
    reach: Option<Vec<String>>,
    home: TempDir,
    dataset: PathBuf,
    running: Running,
}

impl World {
    /// On a buffer of this kind; a Redis as [`RedisServer::start`] starts it.
    pub fn on(buffer: Buffer) -> Self {
        Self::at(match buffer {
            Buffer::Redis => Place::Redis(RedisServer::start()),
            Buffer::Embedded => Place::Embedded,
        })
    }

    /// On this Redis.
    pub fn on_redis(redis: RedisServer) -> Self {
        Self::at(Place::Redis(redis))
    }

    fn at(place: Place) -> Self {
        let home = tempfile::Builder::new().prefix("systole").tempdir().unwrap();
        let dataset = home.path().join("data");
        let (ledger, address) = (Arc::default(), Address::default());
        Self { ledger, address, place, reach: None, home, dataset, running: Running::default() }
    }

    /// The kind of its buffer.
    pub fn kind(&self) -> Buffer {
        match self.place {
            Place::Redis(_) => Buffer::Redis,
            Place::Embedded => Buffer::Embedded,
        }
    }

    /// Its Redis. For tests that speak of one.
    pub fn redis(&self) -> &RedisServer {
        match &self.place {
            Place::Redis(redis) => redis,
            Place::Embedded => panic!("there is no Redis in this world"),
        }
    }

    /// The same, to be killed and started.
    pub fn redis_mut(&mut self) -> &mut RedisServer {
        match &mut self.place {
            Place::Redis(redis) => redis,
            Place::Embedded => panic!("there is no Redis in this world"),
        }
    }

    /// With roles that are told these settings of where the Redis is, such as of a Sentinel or a proxy.
    pub fn reached_by<S: Into<String>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.reach = Some(flags.into_iter().map(Into::into).collect());
        self
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

    /// The collector, to be told what it is to do and started.
    pub fn collector(&self) -> Collector<'_> {
        Collector::new(self)
    }

    /// `systole up`.
    pub fn up(&self) -> Launch {
        let flags = [DOOR_FLAGS, BATCHER_FLAGS, COMPACTOR_FLAGS, UP_FLAGS].concat();
        self.launch("up").args(flags).args([LISTEN.to_owned(), self.data()])
    }

    /// `systole serve`.
    pub fn serve(&self) -> Launch {
        self.launch("serve").args([DOOR_FLAGS, SERVE_FLAGS].concat()).args([LISTEN.to_owned()]).args(self.buffer())
    }

    /// `systole batch`.
    pub fn batch(&self) -> Launch {
        let flags = [BATCHER_FLAGS, BATCH_FLAGS].concat();
        self.launch("batch").args(flags).args([LISTEN.to_owned(), self.data()]).args(self.buffer())
    }

    /// `systole compact --watch`.
    pub fn watch(&self) -> Launch {
        let own = ["--watch".to_owned(), LISTEN.to_owned(), self.data()];
        self.launch("compact").args(own).args(COMPACTOR_FLAGS.iter().copied())
    }

    /// `systole compact`: one pass.
    pub fn compact(&self) -> Launch {
        self.launch("compact").args([self.data()])
    }

    /// `systole audit`, `verify` or `dead-letters …`, with what it must be told.
    pub fn books(&self, words: &[&str]) -> Launch {
        let launch = self.launch(words[0]).args(words[1..].iter().copied());
        match (&self.place, words[0]) {
            (Place::Embedded, _) | (Place::Redis(_), "verify") => launch.args([self.data()]),
            (Place::Redis(_), "dead-letters" | "token") => launch.args(self.buffer()),
            (Place::Redis(_), _) => launch.args(self.buffer()).args([self.data()]),
        }
    }

    /// Any subcommand, bare.
    pub fn launch(&self, subcommand: &str) -> Launch {
        Launch::new(subcommand, self.home.path(), &self.running)
    }

    /// A client of this door that writes this world's ledger.
    pub fn client(&self, serve: &Systole) -> Client {
        Client::new(serve.url(), self.ledger.clone())
    }

    /// The door is in this process: for tests that start `up` by themselves.
    pub fn address_is(&self, door: &Systole) {
        self.address.set(Some(door.url()));
    }

    /// Starts `serve` with `batch` beside it, and waits until heartbeats are accepted.
    pub fn serve_and_batch(&self) -> (Systole, Systole) {
        let batch = self.batch().start();
        let serve = self.serve().start();
        serve.await_status("/health/ready", 200, super::SOON);
        (serve, batch)
    }

    /// Starts every role as a process of its own, two of them batchers, and waits until heartbeats are accepted.
    pub fn fleet(&self) -> Fleet {
        self.fleet_with(&[], &[])
    }

    /// The same with more settings for `serve` and for `batch`.
    pub fn fleet_with(&self, serve: &[&str], batch: &[&str]) -> Fleet {
        let batcher = || self.batch().args(batch.iter().copied()).start();
        let (first, watch) = (batcher(), self.watch().start());
        let serve = self.serve().args(serve.iter().copied()).start();
        serve.await_status("/health/ready", 200, super::SOON);
        Fleet { serve, batchers: vec![first, batcher()], watch }
    }

    /// Gives the buffer its dataset, by a batcher that goes again at once.
    pub fn register(&self) {
        let batch = self.batch().start();
        let serve = self.serve().start();
        serve.await_status("/health/ready", 200, super::SOON);
        serve.stop();
        batch.stop();
    }

    /// What the buffer holds: nothing that was answered 202 by now is missing in it.
    pub fn holdings(&self) -> Holdings {
        let redis = match &self.place {
            Place::Redis(redis) => redis,
            Place::Embedded => return self.holdings_of_door(),
        };
        Holdings::in_redis(redis, PARTITIONS)
    }

    /// The same, as the door last saw it: once it has looked since the last 202.
    fn holdings_of_door(&self) -> Holdings {
        let answered = self.ledger.answered();
        wait::value("a look at the buffer", SOON, || {
            let door = self.address.get().ok_or("there is no door")?;
            let scrape = client::get(&format!("{door}/metrics")).ok_or("no metrics")?;
            let holdings = Holdings::in_metrics(&Metrics::parse(&scrape.text))?;
            let accepted = holdings.sum("accepted");
            if accepted >= answered { Ok(holdings) } else { Err(format!("{accepted} of {answered} accepted")) }
        })
    }

    /// One column of the ledger of the buffer, summed over the partitions.
    pub fn held(&self, column: &str) -> u64 {
        self.holdings().sum(column)
    }

    /// Waits until nothing is left to write: neither pending nor claimed.
    pub fn await_drained(&self, deadline: Duration) {
        wait::value("an empty buffer", deadline, || {
            let holdings = self.holdings();
            match (holdings.sum("pending"), holdings.sum("claimed")) {
                (0, 0) => Ok(()),
                (pending, claimed) => Err(format!("{pending} pending, {claimed} claimed")),
            }
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

    /// Waits until nothing is on its way any more (a compactor must be watching), then judges.
    pub fn await_rest(&self, deadline: Duration) -> Snapshot {
        self.await_published(deadline);
        self.await_drained(deadline);
        wait::value("every fragment to be published", deadline, || match self.staged().len() {
            0 => Ok(()),
            left => Err(format!("{left} fragments")),
        });
        self.judge()
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

    fn buffer(&self) -> Vec<String> {
        self.reach.clone().unwrap_or_else(|| vec![format!("--buffer={}", self.redis().url())])
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
