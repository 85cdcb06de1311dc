//! One simulated machine: a buffer, a dataset, batchers, compactors, clients and a reader.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytesize::ByteSize;
use systole::batcher::{self, Batcher};
use systole::buffer::Registration;
use systole::compactor::{self, Compactor, Silent, Summary};
use systole::dataset::{self, Dataset, FileSystem};
use systole::heartbeat::{BatcherId, Partition};
use systole::telemetry::health::Health;
use systole::telemetry::metrics::registry;
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::beats::{Beat, Identity};
use crate::disk::{Disk, Manner};
use crate::ground::Ground;
use crate::ledger::Ledger;
use crate::life::Life;
use crate::line::Line;
use crate::oracle::Snapshot;
use crate::place::Place;
use crate::schedule::SLOTS;

pub const PARTITIONS: Partition = 2;
/// Real time, unlike all others: a lock is waited for by a thread.
const LOCK_DEADLINE: Duration = Duration::from_millis(3);
/// How long batchers believe in each other's signs of life: the default.
const BATCHER_TTL: Duration = Duration::from_secs(10);
/// The slot of the compactor, and the number of the batcher, that go ahead while others stand still.
pub const RIVAL: usize = SLOTS;

#[derive(Debug)]
pub struct World {
    pub ground: Arc<Ground>,
    pub place: Arc<Place>,
    pub data: PathBuf,
    pub ledger: Arc<Ledger>,
    /// What clients have sent so far.
    pub sent: Mutex<Vec<Beat>>,
    batchers: Mutex<[Option<Running>; SLOTS]>,
    compactors: Mutex<[Option<(Life, Compactor)>; SLOTS + 1]>,
    /// Identities that a reader has seen since the power was last cut.
    seen: Mutex<BTreeSet<Identity>>,
    violations: Mutex<Vec<String>>,
    /// Dropped last.
    _folder: TempDir,
}

/// A batcher at work.
#[derive(Debug)]
pub struct Running {
    pub life: Life,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops it as SIGTERM does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let _ = self.task.await;
    }
}

impl World {
    pub fn new(manner: Manner, seed: u64) -> Arc<Self> {
        let memory = Path::new("/dev/shm");
        let place_for = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("systole-sim-").tempdir_in(place_for).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        Arc::new(Self {
            ground: Ground::new(Disk::new(&data, manner), seed),
            place: Place::new(&folder.path().join("buffer")),
            data,
            ledger: Arc::default(),
            sent: Mutex::default(),
            batchers: Mutex::default(),
            compactors: Mutex::default(),
            seen: Mutex::default(),
            violations: Mutex::default(),
            _folder: folder,
        })
    }

    pub fn violation(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// The dataset through the eyes of one process.
    pub fn open(&self, fs: Arc<dyn FileSystem>) -> dataset::Result<Dataset> {
        let options = dataset::Options {
            data: self.data.clone(),
            partitions: Some(PARTITIONS),
            min_free: ByteSize(0),
            lock_deadline: LOCK_DEADLINE.into(),
        };
        Dataset::open_or_create(&options, fs)
    }

    /// Makes dataset and buffer, in fair weather.
    pub async fn bear(self: &Arc<Self>) {
        let world = self.clone();
        let dataset = spawn_blocking(move || world.open(world.ground.process().1).unwrap()).await.unwrap();
        let registration = Registration { dataset: dataset.id(), partitions: PARTITIONS };
        self.place.buffer().unwrap().register(registration).await.unwrap();
    }

    /// Starts a batcher where none is up; a start can fail like all else.
    pub async fn start_batcher(self: &Arc<Self>, slot: usize) {
        let up = |running: &Running| !running.life.is_dead() && !running.task.is_finished();
        if self.batchers.lock().unwrap()[slot].as_ref().is_some_and(up) {
            return;
        }
        if let Some(running) = self.batcher(slot).await {
            self.batchers.lock().unwrap()[slot] = Some(running);
        }
    }

    /// A batcher that runs in the runtime of the caller.
    pub async fn batcher(self: &Arc<Self>, number: usize) -> Option<Running> {
        let (life, fs) = self.ground.process();
        let world = self.clone();
        let dataset = spawn_blocking(move || world.open(fs)).await.unwrap().ok()?;
        let line = Line::new(self.place.clone(), self.ground.clone(), life.clone());
        let metrics = batcher::Metrics::register(&registry().unwrap()).unwrap();
        let id = BatcherId::from_u128(0xba7c_0000 + number as u128);
        let batcher = Batcher::new(id, Arc::new(line), dataset, batcher_options(), BATCHER_TTL, metrics, Health::new());
        let shutdown = CancellationToken::new();
        let (died, stopped) = (life.clone(), shutdown.clone());
        let task = tokio::spawn(async move {
            let work = Box::pin(batcher.run(stopped));
            tokio::select! {
                biased;
                () = died.died() => {}
                ended = work => ended.unwrap(),
            }
        });
        Some(Running { life, shutdown, task })
    }

    pub fn take_batcher(&self, slot: usize) -> Option<Running> {
        self.batchers.lock().unwrap()[slot].take()
    }

    pub fn kill_batcher_after(&self, slot: usize, steps: i64) {
        if let Some(running) = &self.batchers.lock().unwrap()[slot] {
            running.life.kill_after(steps);
        }
    }

    /// Kills every process, and waits until none is at work any more.
    pub async fn kill_all(&self) {
        for slot in 0..SLOTS {
            if let Some(running) = self.take_batcher(slot) {
                running.life.kill();
                let _ = running.task.await;
            }
        }
        // Steps that were under way end before this one begins.
        spawn_blocking(|| ()).await.unwrap();
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        spawn_blocking(|| ()).await.unwrap();
        self.compactors.lock().unwrap().iter_mut().for_each(|slot| *slot = None);
    }

    /// Brings the power back if it is gone.
    pub async fn see_to_the_power(&self) {
        if self.ground.is_power_gone() {
            self.kill_all().await;
            self.ground.power_back();
            // What was renamed, but not synced, may have been seen and be gone; it comes back.
            self.seen.lock().unwrap().clear();
        }
    }

    /// A pass of a compactor, which dies at the given change of the disk. Blocking.
    pub fn compact(&self, slot: usize, dies_after: Option<i64>) -> Option<Summary> {
        let kept = self.compactors.lock().unwrap()[slot].take().filter(|(life, _)| !life.is_dead());
        let (life, compactor) = match kept {
            Some(kept) => kept,
            None => {
                let (life, fs) = self.ground.process();
                let metrics = compactor::Metrics::register(&registry().unwrap()).unwrap();
                (life, Compactor::new(self.open(fs).ok()?, compactor_options(), metrics))
            }
        };
        life.kill_after(dies_after.unwrap_or(-1));
        let summary = compactor.pass(&Silent, &CancellationToken::new());
        life.kill_after(-1);
        if let Ok(summary) = &summary {
            let weather = &self.ground.weather;
            weather.note("files published", summary.files_published);
            weather.note("files consolidated", summary.files_consolidated);
            weather.note("fragments known as merged", summary.fragments_known);
            weather.note("replaced folders deleted", summary.retired_deleted);
            weather.note("buckets that failed in a pass", summary.failed.len() as u64);
            weather.note("buckets locked by another", summary.skipped_locked.len() as u64);
            if !summary.held_back.is_empty() || summary.in_quarantine > 0 {
                self.violation(format!("a file is damaged: {summary}"));
            }
        }
        if !life.is_dead() {
            self.compactors.lock().unwrap()[slot] = Some((life, compactor));
        }
        summary.ok()
    }

    /// What a reader holds against what it saw before. Blocking.
    pub fn look(&self) {
        let snapshot = match Snapshot::read(&self.data) {
            Ok(snapshot) => snapshot,
            Err(error) => return self.violation(format!("a reader cannot read: {error}")),
        };
        snapshot.faults().into_iter().take(3).for_each(|fault| self.violation(format!("a reader sees: {fault}")));
        let now: BTreeSet<Identity> = snapshot.rows().map(|row| row.identity.clone()).collect();
        let mut seen = self.seen.lock().unwrap();
        if let Some(lost) = seen.iter().find(|identity| !now.contains(identity)) {
            self.violation(format!("a reader saw {lost:?}, and does not see it any more"));
        }
        *seen = now;
    }
}

/// Small claims, so that there are many; the rest as it is by default.
fn batcher_options() -> batcher::Options {
    batcher::Options { claim_rows: 25, ..batcher::Options::default() }
}

/// Small files, so that there are many.
fn compactor_options() -> compactor::Options {
    compactor::Options {
        publish_rows: 40,
        max_files: 3,
        large_file_rows: 60,
        merge_memory: Some(ByteSize::kib(64)),
        ..compactor::Options::default()
    }
}
