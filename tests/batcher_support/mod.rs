//! A batcher in this process, on a real buffer of either kind and a real dataset whose file system can be made to fail or
//! hang.

#![allow(dead_code, reason = "each test crate uses its own part of the harness")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a harness that cannot go on must stop")]

#[path = "../support/redis.rs"]
pub mod redis;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use systole::batcher::{self, Batcher, Metrics};
use systole::buffer::embedded::{self, EmbeddedBuffer};
use systole::buffer::redis::RedisBuffer;
use systole::buffer::{self, Buffer, Frames, Lease, LeaseAnswer, PartitionStatus, Registration};
use systole::dataset::{self, Bucket, Dataset, FileSystem, FragmentName, RealFs};
use systole::heartbeat::{BatcherId, Frame, Heartbeat, Partition, partition_of};
use systole::telemetry::health::Health;
use systole::telemetry::metrics::registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::redis::RedisServer;

pub const PARTITIONS: Partition = 4;
/// Noon of 2026-11-22, UTC.
pub const NOON: i64 = 1_795_348_800_000;
pub const DAY_MS: i64 = 86_400_000;
/// No condition that a test waits for takes longer, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system that a test can break.
#[derive(Debug, Default)]
pub struct FragileFs {
    mood: Mutex<Mood>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Fine,
    /// Every fsync of a file fails with ENOSPC.
    Full,
    /// Every fsync of a file waits until the mood changes.
    Hanging,
    /// Every fsync of a file takes [`SLOW_SYNC`].
    Slow,
}

/// How long a slow disk takes to sync a file.
pub const SLOW_SYNC: Duration = Duration::from_millis(40);

impl FragileFs {
    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }
}

impl FileSystem for FragileFs {
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        let mood = *self.changed.wait_while(self.mood.lock().unwrap(), |mood| *mood == Mood::Hanging).unwrap();
        match mood {
            Mood::Full => Err(io::ErrorKind::StorageFull.into()),
            Mood::Slow => {
                std::thread::sleep(SLOW_SYNC);
                RealFs.sync_file(file, path)
            }
            Mood::Fine | Mood::Hanging => RealFs.sync_file(file, path),
        }
    }
    fn create_new(&self, path: &Path) -> io::Result<File> {
        RealFs.create_new(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<File> {
        RealFs.open_lock(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename_noreplace(from, to)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        RealFs.exchange(a, b)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }
}

/// The kind of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Embedded,
}

/// Runs each of these as a test of its own, in a world on every kind of buffer.
macro_rules! on_every_buffer {
    ($($test:ident),+ $(,)?) => {
        $crate::batcher_support::on_buffer! { redis, Redis; $($test),+ }
        $crate::batcher_support::on_buffer! { embedded, Embedded; $($test),+ }
    };
}

macro_rules! on_buffer {
    ($name:ident, $kind:ident; $($test:ident),+) => {
        mod $name {
            use $crate::batcher_support::{Kind, World};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(World::on(Kind::$kind).await).await;
                }
            )+
        }
    };
}

#[allow(unused_imports, reason = "each test crate uses its own part of the harness")]
pub(crate) use {on_buffer, on_every_buffer};

/// Buffer and dataset, registered for each other.
pub struct World {
    redis: Option<RedisServer>,
    pub buffer: Arc<dyn Buffer>,
    pub frames: Arc<dyn Frames>,
    pub dataset: Dataset,
    pub options: batcher::Options,
    fragile: Mutex<Vec<Arc<FragileFs>>>,
    folder: tempfile::TempDir,
}

impl Drop for World {
    /// A step that hangs would keep the test's runtime, and with it the test, from ending.
    fn drop(&mut self) {
        self.fragile.lock().unwrap().iter().for_each(|fs| fs.set(Mood::Fine));
    }
}

impl World {
    pub async fn on(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dataset = open(folder.path(), Arc::new(RealFs), ByteSize(0));
        let redis = (kind == Kind::Redis).then(RedisServer::start);
        let (buffer, frames) = redis.as_ref().map_or_else(|| embedded(folder.path()), connected);
        buffer.register(Registration { dataset: dataset.id(), partitions: PARTITIONS }).await.unwrap();
        Self { redis, buffer, frames, dataset, options: hasty(), fragile: Mutex::default(), folder }
    }

    /// Its Redis. For tests that speak of one.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("a world on Redis")
    }

    /// Another handle on the same dataset, on a file system that can be broken.
    pub fn fragile(&self) -> (Arc<FragileFs>, Dataset) {
        let fs = Arc::new(FragileFs::default());
        self.fragile.lock().unwrap().push(fs.clone());
        (fs.clone(), open(self.folder.path(), fs, ByteSize(0)))
    }

    pub fn dataset_keeping_free(&self, min_free: ByteSize) -> Dataset {
        open(self.folder.path(), Arc::new(RealFs), min_free)
    }

    pub fn batcher(&self) -> RunningBatcher {
        self.batcher_on(self.dataset.clone())
    }

    pub fn batcher_on(&self, dataset: Dataset) -> RunningBatcher {
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let metrics = Metrics::register(&registry().unwrap()).unwrap();
        let ttl = Duration::from_secs(2);
        let batcher = Batcher::new(
            BatcherId::new(),
            self.buffer.clone(),
            dataset,
            self.options.clone(),
            ttl,
            metrics.clone(),
            health.clone(),
        );
        let id = batcher.id();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { batcher.run(stop).await.unwrap() });
        RunningBatcher { id, health, metrics, shutdown, task }
    }

    pub async fn push(&self, partition: Partition, frames: &[Vec<Heartbeat>]) {
        for rows in frames {
            let frame = Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap();
            self.buffer.push(&[(partition, frame)]).await.remove(0).unwrap();
        }
    }

    pub async fn status(&self, partition: Partition) -> PartitionStatus {
        self.buffer.status(partition).await.unwrap()
    }

    /// Waits until nothing is pending or claimed any more, and checks the books.
    pub async fn drained(&self, partition: Partition) -> PartitionStatus {
        let status = until("the partition is drained", async || {
            let status = self.status(partition).await;
            (status.oldest_pending.is_none() && status.claim.is_none()).then_some(status)
        });
        let status = status.await;
        assert!(status.ledger.balances(), "{:?}", status.ledger);
        status
    }

    /// Takes a lease as a batcher that then dies without giving it back.
    pub async fn lease_of_one_who_dies(&self, partition: Partition) -> Lease {
        let batcher = BatcherId::new();
        until("the lease of the dead expires", async || {
            match self.buffer.lease(partition, batcher, Duration::from_millis(1)).await.unwrap() {
                LeaseAnswer::Taken(lease) => Some(lease),
                LeaseAnswer::Held { .. } => None,
            }
        })
        .await
    }

    pub fn fragments(&self, partition: Partition) -> Vec<(Bucket, FragmentName)> {
        let buckets = self.dataset.buckets().unwrap().into_iter().filter(|bucket| bucket.partition == partition);
        buckets.flat_map(|b| self.dataset.list_fragments(b).unwrap().into_iter().map(move |name| (b, name))).collect()
    }

    /// How often each (user, timestamp) stands in the fragments of a partition.
    pub fn rows(&self, partition: Partition) -> BTreeMap<(String, i64), u32> {
        let mut rows = BTreeMap::new();
        for (bucket, name) in self.fragments(partition) {
            let mut reader = self.dataset.open_fragment(bucket, &name).unwrap();
            while let Some(batch) = reader.next_batch().unwrap() {
                for at in 0..batch.len() {
                    let row = batch.row(at);
                    *rows.entry((row.user_id.to_owned(), row.timestamp)).or_default() += 1;
                }
            }
        }
        rows
    }
}

fn connected(server: &RedisServer) -> (Arc<dyn Buffer>, Arc<dyn Frames>) {
    let at = buffer::redis::Options { buffer: Some(server.url().parse().unwrap()), ..Default::default() };
    let buffer = Arc::new(RedisBuffer::connect(&buffer::options::Options::default(), &at).unwrap());
    (buffer.clone(), buffer)
}

fn embedded(folder: &Path) -> (Arc<dyn Buffer>, Arc<dyn Frames>) {
    // A test's disk may have little room.
    let own = embedded::Options { buffer_min_free: ByteSize(0) };
    let opened = EmbeddedBuffer::open(&folder.join("buffer"), &buffer::options::Options::default(), &own);
    let buffer = Arc::new(opened.unwrap());
    (buffer.clone(), buffer)
}

fn open(folder: &Path, fs: Arc<dyn FileSystem>, min_free: ByteSize) -> Dataset {
    let options = dataset::Options {
        data: folder.join("data"),
        partitions: Some(PARTITIONS),
        min_free,
        ..dataset::Options::default()
    };
    Dataset::open_or_create(&options, fs).unwrap()
}

/// Everything soon.
fn hasty() -> batcher::Options {
    let ms = |ms| Duration::from_millis(ms).into();
    batcher::Options {
        max_delay: ms(200),
        look_every: ms(20),
        lease_ttl: ms(2000),
        renew_every: ms(200),
        announce_every: ms(100),
        retry_first: ms(10),
        retry_most: ms(100),
        ..batcher::Options::default()
    }
}

pub struct RunningBatcher {
    pub id: BatcherId,
    pub health: Health,
    pub metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningBatcher {
    /// Stops it as SIGTERM does; answers how long that took.
    pub async fn stop(self) -> Duration {
        let began = Instant::now();
        self.shutdown.cancel();
        self.task.await.unwrap();
        began.elapsed()
    }

    /// What part `name` of the health board says, when it is unwell.
    pub fn unwell(&self, name: &str) -> Option<String> {
        let part = self.health.snapshot().into_iter().find(|part| part.name == name)?;
        (!part.ok).then_some(part.detail)
    }

    /// Waits until part `name` is unwell for a reason that holds `why`.
    pub async fn until_unwell(&self, name: &str, why: &str) {
        until(&format!("{name}: {why}"), async || self.unwell(name).filter(|detail| detail.contains(why))).await;
    }

    pub async fn until_well(&self, name: &str) {
        until(&format!("{name} is well"), async || self.unwell(name).is_none().then_some(())).await;
    }
}

/// Waits for a condition.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A user of this partition; another one for each `n`.
pub fn user_of(partition: Partition, n: usize) -> String {
    (0..).map(|i| format!("user{i}")).filter(|user| partition_of(user, PARTITIONS) == partition).nth(n).unwrap()
}

/// One heartbeat of a user of `partition`.
pub fn beat(partition: Partition, user: usize, timestamp: i64) -> Heartbeat {
    Heartbeat {
        user_id: user_of(partition, user),
        device_id: "phone".into(),
        timestamp,
        id: None,
        received_at: NOON,
        attributes: None,
    }
}

/// How [`World::rows`] counts these heartbeats when each is kept once.
pub fn each_once<'a>(rows: impl IntoIterator<Item = &'a Heartbeat>) -> BTreeMap<(String, i64), u32> {
    rows.into_iter().map(|row| ((row.user_id.clone(), row.timestamp), 1)).collect()
}
