//! The dataset: the two trees of Parquet files, what stands beside them, and every step that changes them.
//!
//! Constraints:
//! - Readers come first. Only whole, synced, verified files ever stand under `heartbeats/`, they are never changed or
//!   replaced, and nothing but `heartbeats-*.parquet` stands there. Everything else is in `staging/`.
//! - What a step reports as done is on the disk: file, folder and new parents are synced. After a failed sync the file
//!   is thrown away, and the next attempt writes a new one.
//! - What is reported as done was done in the folder that was opened, and what is given as all that there is stands there
//!   (`home`).
//! - A file is what its name says: the hash of its bytes stands in the name and is checked before the file is merged.
//! - Dying between any two steps loses nothing and leaves nothing that a later pass does not complete or clean.
//! - No client's text becomes part of a path, and no client's text can make a step fail for ever other than as
//!   [`Error::Unwritable`].
//!
//! Layout: see `paths`. Formats: `manifest` (dataset.json), `rows` (Parquet), `record` (the metadata of a published file),
//! `identity_index`.
//!
//! Operations, all of them blocking:
//! - a batcher stores fragments: [`encode_fragment`], [`Dataset::store_fragment`];
//! - a compactor, holding [`Dataset::try_lock_compaction`], settles what a dead one published
//!   ([`Dataset::settle_published`]), lists and opens fragments, looks up identities
//!   ([`Dataset::identity_lookup`]), keeps intermediate runs of a merge ([`Dataset::begin_run`]), publishes
//!   ([`Dataset::begin_published`], [`Dataset::commit_published`]), deletes what it merged, quarantines what is damaged,
//!   and consolidates ([`Dataset::begin_replacement`]);
//! - the books read: [`Dataset::publish_record`], [`Dataset::quarantined`], `verify_*`, [`check_rows`].
//!
//! Locks of a bucket, by flock: `.compact.lock` lets one compactor at a time in, from recovery to the last delete.
//! `.lock` is shared by batchers while they rename a fragment into place, and taken exclusively by the compactor only to
//! list and to delete. Lock files are never deleted: two processes could then hold "the" lock at once.
//!
//! Failpoints, in the order of their steps:
//! - `fragment.` `created`, `written`, `synced`, `verified`, `renamed`, `folder_synced`;
//! - `fragments.` `removed` (after each), `removals_synced`; `quarantine.` `noted`, `moved`;
//! - `publish.` `created`, `written`, `synced`, `verified`, `index_written`, `index_synced` (the file is prepared),
//!   `index_renamed`, `index_folder_synced`, `renamed`, `folder_synced`;
//! - `consolidate.` `begun`, `linked`, `added`, `files_synced`, `exchanged`, `parents_synced`, `retired`;
//! - `retire.` `parents_synced`, `file_removed`, `folder_removed`, `index_removed`.

mod awaited;
mod check;
mod error;
mod export;
mod fragment;
mod fs;
mod hashing;
mod home;
mod identity_index;
mod inventory;
mod lock;
mod manifest;
mod options;
pub(crate) mod paths;
mod probe;
mod published;
mod quarantine;
mod record;
mod replacement;
mod rows;
mod run;
mod temp;
#[cfg(test)]
mod test_support;
mod tree;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use awaited::Awaited;
pub use check::{Checked, check_rows};
pub use error::{Error, Result};
pub use export::{Export, ExportError};
pub use fragment::{EncodedFragment, encode_fragment};
pub use fs::{FileSystem, RealFs};
pub use identity_index::IdentityLookup;
pub use inventory::{Changed, Footer};
pub use lock::{BucketLock, CompactionLock};
pub use options::Options;
pub use paths::{Bucket, ContentHash, FileId, FragmentName, NotOurs, PublishedName};
pub use probe::Capabilities;
pub use published::{Prepared, PublishedBuilder};
pub use quarantine::Quarantined;
pub use record::{FOLD_AFTER, Folded, KEEP_CLAIMS, MergedClaim, PublishRecord};
pub use replacement::{Cleaned, Replacement, Retired};
pub use rows::{RowBatch, RowReader};
pub use run::{RunBuilder, TempRun};

use self::error::At;
use self::home::Home;
use self::paths::Layout;
use crate::heartbeat::{DatasetId, Partition};

/// The version of everything on the disk that this binary writes, and the newest that it reads.
pub const FORMAT_VERSION: u64 = 1;

/// A handle on one dataset; cheap to clone.
#[derive(Debug, Clone)]
pub struct Dataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    home: Home,
    fs: Arc<dyn FileSystem>,
    id: DatasetId,
    partitions: Partition,
    capabilities: Capabilities,
    lock_deadline: Duration,
    min_free_bytes: u64,
    /// Folders that this process has made or found, and synced into their parents.
    durable_folders: Mutex<HashSet<PathBuf>>,
    /// Headers of identity indexes: their files never change.
    index_headers: Mutex<HashMap<PublishedName, Arc<identity_index::Header>>>,
}

impl Dataset {
    /// Opens the dataset in `options.data`, making it first where there is none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a file system that cannot carry a dataset, [`Error::Conflict`] when other partitions are
    /// asked for than it was born with, [`Error::NewerFormat`], [`Error::Damaged`] for an unreadable `dataset.json`,
    /// [`Error::Io`].
    pub fn open_or_create(options: &Options, fs: Arc<dyn FileSystem>) -> Result<Self> {
        let layout = Self::layout(options)?;
        tree::make_folders(fs.as_ref(), layout.root())?;
        let born = match manifest::read(&layout)? {
            Some(manifest) => manifest,
            None => {
                // Before the birth, so that a refused file system is left without a dataset.
                Self::probe(&layout, fs.as_ref())?;
                manifest::bear(&layout, fs.as_ref(), options.partitions.unwrap_or(options::DEFAULT_PARTITIONS))?
            }
        };
        Self::with_manifest(options, layout, fs, &born)
    }

    /// Opens the dataset in `options.data`, which must be there.
    ///
    /// # Errors
    /// [`Error::NoDataset`], and those of [`open_or_create`](Self::open_or_create).
    pub fn open(options: &Options, fs: Arc<dyn FileSystem>) -> Result<Self> {
        let layout = Self::layout(options)?;
        let manifest = manifest::read(&layout)?.ok_or_else(|| Error::NoDataset {
            path: layout.root().to_owned(),
            advice: "`systole batch` makes one; or mend --data",
        })?;
        Self::with_manifest(options, layout, fs, &manifest)
    }

    /// Opens the dataset in `options.data`, which must be there, for somebody who only reads: nothing is written, so what
    /// the file system can do is not found out, and this handle is of no use to whoever would write.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_to_read(options: &Options, fs: Arc<dyn FileSystem>) -> Result<Self> {
        let layout = Self::layout(options)?;
        let manifest = manifest::read(&layout)?.ok_or_else(|| Error::NoDataset {
            path: layout.root().to_owned(),
            advice: "`systole batch` makes one; or mend --data",
        })?;
        Self::of(options, layout, fs, &manifest, Capabilities { exchange: false })
    }

    /// The folder of the dataset in which `folder` lies, or which it is; `None` for one outside of every dataset.
    pub fn around(folder: &Path) -> Option<PathBuf> {
        let folder = std::path::absolute(folder).ok()?;
        let dataset = folder.ancestors().find(|above| Layout::new((*above).to_owned()).manifest().is_file());
        dataset.map(Path::to_owned)
    }

    /// Absolute, so that a later change of the working folder moves nothing.
    fn layout(options: &Options) -> Result<Layout> {
        std::path::absolute(&options.data).at("name the folder", &options.data).map(Layout::new)
    }

    fn probe(layout: &Layout, fs: &dyn FileSystem) -> Result<Capabilities> {
        tree::make_folders(fs, &layout.heartbeats())?;
        tree::make_folders(fs, &layout.staging())?;
        probe::clean(layout, fs)?;
        probe::run(layout, fs)
    }

    fn with_manifest(
        options: &Options,
        layout: Layout,
        fs: Arc<dyn FileSystem>,
        manifest: &manifest::Manifest,
    ) -> Result<Self> {
        Self::expect_partitions(options, &layout, manifest)?;
        let capabilities = Self::probe(&layout, fs.as_ref())?;
        Self::of(options, layout, fs, manifest, capabilities)
    }

    fn expect_partitions(options: &Options, layout: &Layout, manifest: &manifest::Manifest) -> Result<()> {
        match options.partitions.filter(|asked| *asked != manifest.partitions) {
            None => Ok(()),
            Some(asked) => Err(Error::Conflict {
                advice: format!(
                    "--partitions is {asked}, but the dataset in {} was born with {}: leave the setting out",
                    layout.root().display(),
                    manifest.partitions
                ),
            }),
        }
    }

    fn of(
        options: &Options,
        layout: Layout,
        fs: Arc<dyn FileSystem>,
        manifest: &manifest::Manifest,
        capabilities: Capabilities,
    ) -> Result<Self> {
        Self::expect_partitions(options, &layout, manifest)?;
        let home = Home::hold(&layout)?;
        // A disk may have been mounted since it was read.
        if manifest::read(&layout)?.is_none_or(|held| held.id != manifest.id) {
            return Err(Error::Elsewhere { path: layout.root().to_owned() });
        }
        let inner = Inner {
            home,
            layout,
            fs,
            id: manifest.id,
            partitions: manifest.partitions,
            capabilities,
            lock_deadline: options.lock_deadline.into(),
            min_free_bytes: options.min_free.as_u64(),
            durable_folders: Mutex::default(),
            index_headers: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The id that it was born with.
    pub fn id(&self) -> DatasetId {
        self.inner.id
    }

    /// The number of partitions that it was born with, at least 1.
    pub fn partitions(&self) -> Partition {
        self.inner.partitions
    }

    /// Its folder, absolute.
    pub fn root(&self) -> &Path {
        self.paths().root()
    }

    /// Where its embedded buffer is, while it belongs to one.
    pub fn buffer_folder(&self) -> PathBuf {
        self.paths().buffer()
    }

    /// The socket on which the process that has its embedded buffer answers.
    pub fn control_socket(&self) -> PathBuf {
        self.paths().control_socket()
    }

    /// What its file system can do.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities
    }

    /// Bytes free for this process on its file system.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`].
    pub fn free_bytes(&self) -> Result<u64> {
        self.confirm_home()?;
        fs2::available_space(self.root()).at("ask for the free space of", self.root())
    }

    /// Free bytes below which nothing new is to be claimed.
    pub fn min_free_bytes(&self) -> u64 {
        self.inner.min_free_bytes
    }
}

/// For the modules below.
impl Dataset {
    fn fs(&self) -> &dyn FileSystem {
        self.inner.fs.as_ref()
    }

    fn paths(&self) -> &Layout {
        &self.inner.layout
    }
}
