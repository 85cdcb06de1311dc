//! For the tests of this module: a dataset in a temporary folder, and a file system that records its steps.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// A dataset that goes away with its folder.
pub(super) struct Scratch {
    pub(super) dataset: Dataset,
    fs: Option<Arc<RecordingFs>>,
    _folder: tempfile::TempDir,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self::make(Duration::from_secs(10), false)
    }

    pub(super) fn with_lock_deadline(lock_deadline: Duration) -> Self {
        Self::make(lock_deadline, false)
    }

    /// One whose file system records its steps: see [`steps`](Self::steps).
    pub(super) fn recorded() -> Self {
        Self::make(Duration::from_secs(10), true)
    }

    fn make(lock_deadline: Duration, recorded: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options =
            Options { data: folder.path().to_owned(), lock_deadline: lock_deadline.into(), ..Options::default() };
        let recording = recorded.then(|| Arc::new(RecordingFs::new(folder.path())));
        let fs: Arc<dyn FileSystem> = match &recording {
            Some(fs) => fs.clone(),
            None => Arc::new(RealFs),
        };
        let dataset = Dataset::open_or_create(&options, fs).unwrap();
        Self { dataset, fs: recording, _folder: folder }
    }

    pub(super) fn fs(&self) -> &RecordingFs {
        self.fs.as_deref().unwrap()
    }

    /// The steps since the last call, with paths relative to the dataset and ids replaced.
    pub(super) fn steps(&self) -> Vec<String> {
        std::mem::take(&mut self.fs().steps.lock().unwrap())
    }
}

/// Passes every step on, writes it down, and refuses where told to.
#[derive(Debug)]
pub(super) struct RecordingFs {
    root: PathBuf,
    steps: Mutex<Vec<String>>,
    refused: Mutex<HashMap<String, io::ErrorKind>>,
}

impl RecordingFs {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), steps: Mutex::default(), refused: Mutex::default() }
    }

    /// From now on every step whose record begins with `step` fails, without being taken.
    pub(super) fn refuse(&self, step: &str, kind: io::ErrorKind) {
        self.refused.lock().unwrap().insert(step.to_owned(), kind);
    }

    pub(super) fn allow_all(&self) {
        self.refused.lock().unwrap().clear();
    }

    fn record(&self, step: &str, paths: &[&Path]) -> io::Result<()> {
        let paths: Vec<_> = paths.iter().map(|path| self.shorten(path)).collect();
        let step = format!("{step} {}", paths.join(" "));
        let refused =
            self.refused.lock().unwrap().iter().find(|(prefix, _)| step.starts_with(*prefix)).map(|(_, kind)| *kind);
        self.steps.lock().unwrap().push(step);
        refused.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn shorten(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        let mut short = String::new();
        let mut rest = path.as_str();
        // An id is 36 bytes of hexadecimal digits and hyphens.
        while !rest.is_empty() {
            match rest.get(..36).filter(|text| uuid::Uuid::parse_str(text).is_ok()) {
                Some(_) => {
                    short.push_str("<id>");
                    rest = &rest[36..];
                }
                None => {
                    let next = rest.chars().next().unwrap();
                    short.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        if short.is_empty() { ".".into() } else { short }
    }
}

impl FileSystem for RecordingFs {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.record("create_new", &[path])?;
        RealFs.create_new(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<File> {
        self.record("open_lock", &[path])?;
        RealFs.open_lock(path)
    }
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.record("sync_file", &[path])?;
        RealFs.sync_file(file, path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.record("sync_dir", &[path])?;
        RealFs.sync_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.record("create_dir", &[path])?;
        RealFs.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record("rename", &[from, to])?;
        RealFs.rename(from, to)
    }
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record("rename_noreplace", &[from, to])?;
        RealFs.rename_noreplace(from, to)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.record("exchange", &[a, b])?;
        RealFs.exchange(a, b)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record("hard_link", &[from, to])?;
        RealFs.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.record("remove_file", &[path])?;
        RealFs.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.record("remove_dir", &[path])?;
        RealFs.remove_dir(path)
    }
}

/// The sorted names in a folder.
pub(super) fn entries_below(folder: &Path) -> Vec<String> {
    let mut names = tree::entries(folder).unwrap();
    names.sort();
    names
}

/// `n` rows in the sort order, of one date, with and without the optional fields.
pub(super) fn beats(n: usize) -> Vec<crate::heartbeat::Heartbeat> {
    let mut beats: Vec<_> = (0..n).map(beat).collect();
    beats.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
    beats
}

/// Row `n` of a day: each `n` has another identity.
pub(super) fn beat(n: usize) -> crate::heartbeat::Heartbeat {
    crate::heartbeat::Heartbeat {
        user_id: format!("user-{}", n % 13),
        device_id: format!("dévice-{}", n % 3),
        timestamp: MIDNIGHT + (n as i64 * 7_919) % 86_400_000,
        id: n.is_multiple_of(2).then(|| format!("id-{n}")),
        received_at: MIDNIGHT + n as i64,
        attributes: (!n.is_multiple_of(5)).then(|| format!(r#"{{"n":{n}}}"#)),
    }
}

/// 2026-11-22T00:00:00Z.
pub(super) const MIDNIGHT: i64 = 1_795_305_600_000;

/// All rows of a file.
pub(super) fn rows_of(reader: &mut RowReader) -> Vec<crate::heartbeat::Heartbeat> {
    let mut rows = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        rows.extend(batch.rows().map(|row| row.to_heartbeat()));
    }
    rows
}

/// The bucket of [`beats`], as far as its date goes.
pub(super) const BUCKET: Bucket = Bucket { date: jiff::civil::date(2026, 11, 22), partition: 7 };

/// The record of a file into which one fragment of these rows was merged.
pub(super) fn plain_record(rows: &[crate::heartbeat::Heartbeat]) -> PublishRecord {
    let rows = rows.len() as u64;
    PublishRecord { merged_rows: rows, published_rows: rows, ..PublishRecord::default() }
}

/// Publishes rows that stand in the sort order.
pub(super) fn publish(dataset: &Dataset, rows: &[crate::heartbeat::Heartbeat]) -> PublishedName {
    let mut builder = dataset.begin_published(BUCKET).unwrap();
    rows.iter().for_each(|row| builder.push(row.as_ref()).unwrap());
    dataset.commit_published(builder.finish(&plain_record(rows)).unwrap()).unwrap()
}
