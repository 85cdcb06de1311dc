//! A dataset in a temporary folder, its rows as readers see them, and a file system that can crash.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::{Compactor, Metrics, Options, Silent, Summary};
use crate::dataset::{self, Bucket, Dataset, FileSystem, FragmentName, RealFs, encode_fragment};
use crate::heartbeat::{ClaimId, Heartbeat, HeartbeatRef};

/// A dataset with one partition, so that every user is in it.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub dataset: Dataset,
    pub options: Options,
    pub bucket: Bucket,
}

/// No date that is past: consolidation is due by count or share only.
const FAR_AHEAD_MS: i64 = 4_000_000_000_000;

impl Scene {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dataset = open(folder.path(), Arc::new(RealFs));
        Self { folder, dataset, options, bucket: Bucket::of(FAR_AHEAD_MS, 0) }
    }

    /// The same in another folder.
    pub fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), folder.path());
        let dataset = open(folder.path(), Arc::new(RealFs));
        Self { folder, dataset, options: self.options.clone(), bucket: self.bucket }
    }

    pub fn compactor(&self) -> Compactor {
        self.compactor_on(self.dataset.clone())
    }

    pub fn pass_with(&self, options: Options) -> Summary {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let compactor = Compactor::new(self.dataset.clone(), options, metrics);
        compactor.pass(&Silent, &CancellationToken::new()).unwrap()
    }

    pub fn compactor_on(&self, dataset: Dataset) -> Compactor {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Compactor::new(dataset, self.options.clone(), metrics)
    }

    pub fn pass(&self) -> Summary {
        self.compactor().pass(&Silent, &CancellationToken::new()).unwrap()
    }

    /// Stages these rows as a batcher would.
    pub fn stage(&self, claim: i64, rows: &[Heartbeat]) -> FragmentName {
        self.stage_in(self.bucket, claim, rows)
    }

    pub fn stage_in(&self, bucket: Bucket, claim: i64, rows: &[Heartbeat]) -> FragmentName {
        let mut sorted: Vec<HeartbeatRef<'_>> = rows.iter().map(Heartbeat::as_ref).collect();
        sorted.sort();
        let fragment = encode_fragment(&sorted).unwrap();
        self.dataset.store_fragment(bucket, claim_id(claim), &fragment).unwrap()
    }

    pub fn staged(&self) -> Vec<FragmentName> {
        self.dataset.list_fragments(self.bucket).unwrap()
    }

    pub fn staged_path(&self, name: &FragmentName) -> PathBuf {
        self.folder.path().join("staging").join(self.bucket.to_string()).join(name.to_string())
    }

    pub fn published_paths(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("heartbeats").join(self.bucket.to_string());
        let names = self.dataset.list_published(self.bucket).unwrap();
        names.iter().map(|name| folder.join(name.to_string())).collect()
    }

    /// All published rows of the bucket, sorted; asserts what readers may rely on, and that the books balance.
    pub fn published(&self) -> Vec<Heartbeat> {
        let mut all = Vec::new();
        for name in self.dataset.list_published(self.bucket).unwrap() {
            self.dataset.verify_published(self.bucket, &name).unwrap();
            let mut reader = self.dataset.open_published(self.bucket, &name).unwrap();
            let mut rows = Vec::new();
            while let Some(batch) = reader.next_batch().unwrap() {
                rows.extend(batch.rows().map(owned));
            }
            assert!(rows.is_sorted_by(|a, b| a.as_ref() <= b.as_ref()), "a published file is sorted");
            let record = self.dataset.publish_record(self.bucket, &name).unwrap();
            assert!(record.balances() && record.published_rows == rows.len() as u64, "{record:?}");
            all.extend(rows);
        }
        all.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
        let identities: BTreeSet<_> = all.iter().map(|row| row.as_ref().identity()).collect();
        assert_eq!(identities.len(), all.len(), "no identity stands twice");
        all
    }

    /// Fragments that the published files name as merged.
    pub fn merged_claims(&self) -> Vec<(ClaimId, u64)> {
        let names = self.dataset.list_published(self.bucket).unwrap();
        let records = names.iter().map(|name| self.dataset.publish_record(self.bucket, name).unwrap());
        let mut claims: Vec<_> =
            records.flat_map(|record| record.claims).map(|merged| (merged.claim, merged.rows)).collect();
        claims.sort();
        claims
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub fn open(folder: &Path, fs: Arc<dyn FileSystem>) -> Dataset {
    open_with(folder, fs, Duration::from_secs(10))
}

pub fn open_with(folder: &Path, fs: Arc<dyn FileSystem>, lock_deadline: Duration) -> Dataset {
    let options = dataset::Options {
        data: folder.to_owned(),
        partitions: Some(1),
        lock_deadline: lock_deadline.into(),
        ..dataset::Options::default()
    };
    Dataset::open_or_create(&options, fs).unwrap()
}

pub fn claim_id(claim: i64) -> ClaimId {
    // A UUIDv7 of a time that no horizon passes, so that no claim is folded.
    let time = u128::try_from(FAR_AHEAD_MS + claim).unwrap();
    ClaimId::from_u128((time << 80) | (7 << 76) | (0b10 << 62))
}

pub fn beat(user: &str, n: i64) -> Heartbeat {
    Heartbeat {
        user_id: user.into(),
        device_id: "d".into(),
        timestamp: FAR_AHEAD_MS + n,
        id: None,
        received_at: 7,
        attributes: None,
    }
}

pub fn beats(user: &str, range: std::ops::Range<i64>) -> Vec<Heartbeat> {
    range.map(|n| beat(user, n)).collect()
}

pub fn owned(row: HeartbeatRef<'_>) -> Heartbeat {
    Heartbeat {
        user_id: row.user_id.into(),
        device_id: row.device_id.into(),
        timestamp: row.timestamp,
        id: row.id.map(Into::into),
        received_at: row.received_at,
        attributes: row.attributes.map(Into::into),
    }
}

/// Dies at its `n`-th change of the disk: that one fails, and every later one. Keeps a list of the steps taken.
#[derive(Debug)]
pub struct Crashing {
    left: AtomicU64,
    steps: Mutex<Vec<String>>,
    can_exchange: bool,
}

impl Crashing {
    pub fn never() -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(u64::MAX), steps: Mutex::default(), can_exchange: true })
    }

    /// A file system that cannot exchange folders.
    pub fn without_exchange() -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(u64::MAX), steps: Mutex::default(), can_exchange: false })
    }

    /// The steps since the last call.
    pub fn steps(&self) -> Vec<String> {
        std::mem::take(&mut self.steps.lock().unwrap())
    }

    /// From now on it dies after so many steps.
    pub fn arm(&self, steps: u64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn step(&self, step: &str, path: &Path) -> io::Result<()> {
        self.steps.lock().unwrap().push(format!("{step} {}", path.display()));
        let alive = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        alive.map(|_| ()).map_err(|_| io::Error::other("the machine has crashed"))
    }
}

impl FileSystem for Crashing {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.step("create_new", path)?;
        RealFs.create_new(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<File> {
        RealFs.open_lock(path)
    }
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.step("sync_file", path)?;
        RealFs.sync_file(file, path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step("sync_dir", path)?;
        RealFs.sync_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step("create_dir", path)?;
        RealFs.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename", to)?;
        RealFs.rename(from, to)
    }
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename_noreplace", to)?;
        RealFs.rename_noreplace(from, to)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.step("exchange", b)?;
        if !self.can_exchange {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        RealFs.exchange(a, b)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("hard_link", to)?;
        RealFs.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step("remove_file", path)?;
        RealFs.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step("remove_dir", path)?;
        RealFs.remove_dir(path)
    }
}
