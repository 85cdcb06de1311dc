//! Consolidation: another set of published files for a bucket, put in place of the old one in a single step.
//!
//! Constraints: readers see the old folder or the new one, never a mixture; the new one is on the disk before it is seen;
//! the books of both are the same; and the old one stays for readers that are under way.
//!
//! Steps: gather hard links and new files in `.next-<id>/`, sync it, exchange it with the bucket's published folder, sync
//! both parents, rename what is now the old folder to `.old-<id>/`, whose id tells since when. A process that dies before
//! the exchange leaves a `.next-` folder of the new files, one that dies behind it a `.next-` folder of the old ones: either
//! is no more than a leftover, because the published folder is complete both times.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::{ContextV7, Timestamp, Uuid};

use super::error::{At, Error, Result, tolerate_gone};
use super::paths::Staged;
use super::{Bucket, Dataset, Prepared, PublishedName, tree};
use crate::failpoint;

/// A new set of published files for one bucket, being gathered in the staging tree. Dropped: removed.
#[derive(Debug)]
pub struct Replacement {
    dataset: Dataset,
    bucket: Bucket,
    folder: PathBuf,
    added: Vec<PublishedName>,
    /// Rows merged, by the records of the files kept and added.
    merged_rows: u64,
    exchanged: bool,
}

impl Replacement {
    /// Takes a published file over unchanged. The caller has verified it, or trusts it as readers do.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Dataset::publish_record`].
    pub fn keep(&mut self, name: &PublishedName) -> Result<()> {
        self.merged_rows += self.dataset.publish_record(self.bucket, name)?.merged_rows;
        let from = self.dataset.paths().published(self.bucket, name);
        self.dataset.fs().hard_link(&from, &self.folder.join(name.to_string())).at("link", &from)?;
        failpoint::reached("consolidate.linked").at("link", &from)
    }

    /// Adds a new file.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a file of another bucket, [`Error::Io`].
    pub fn add(&mut self, prepared: Prepared) -> Result<PublishedName> {
        if prepared.bucket() != self.bucket {
            return Err(Error::Conflict { advice: format!("{} is no file of {}", prepared.name(), self.bucket) });
        }
        self.merged_rows += prepared.record().merged_rows;
        let name = prepared.move_into(&self.dataset, &self.folder)?;
        self.added.push(name);
        failpoint::reached("consolidate.added").at("add to", &self.folder)?;
        Ok(name)
    }

    /// Exchanges the folders in one step. The caller holds the bucket's [`super::CompactionLock`].
    ///
    /// # Errors
    /// [`Error::Conflict`], changing nothing, when the new set does not account for as many merged rows as the old one: a
    /// file was forgotten. [`Error::Io`]: readers see the old set or the new one, both are right.
    pub fn exchange(mut self) -> Result<Retired> {
        self.check_books()?;
        let (fs, paths) = (self.dataset.fs(), self.dataset.paths());
        let published = paths.published_folder(self.bucket);
        let reached = |step| failpoint::reached(step).at("exchange", &published);
        fs.sync_dir(&self.folder).at("sync the folder", &self.folder)?;
        self.dataset.sync_parents(self.bucket)?;
        reached("consolidate.files_synced")?;
        fs.exchange(&self.folder, &published).at("exchange", &published)?;
        // From here on the folder holds what readers saw before: it is not to be removed in haste.
        self.exchanged = true;
        reached("consolidate.exchanged")?;
        self.dataset.sync_parents(self.bucket)?;
        reached("consolidate.parents_synced")?;
        let retired = Retired { id: self.dataset.new_id(), age: Duration::ZERO };
        let old = paths.staged(self.bucket, Staged::Old(retired.id));
        fs.rename(&self.folder, &old).at("rename", &self.folder)?;
        reached("consolidate.retired")?;
        Ok(retired)
    }

    /// Consolidation drops no row and forgets no file: whoever calls it, the books of the bucket stay the same.
    fn check_books(&self) -> Result<()> {
        let mut old = 0;
        for name in self.dataset.list_published(self.bucket)? {
            old += self.dataset.publish_record(self.bucket, &name)?.merged_rows;
        }
        if old == self.merged_rows {
            return Ok(());
        }
        let advice = format!(
            "{}: the new files account for {} merged rows, the old ones for {old}",
            self.bucket, self.merged_rows
        );
        Err(Error::Conflict { advice })
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.exchanged {
            // What is left behind is cleaned later.
            let _ = self.dataset.remove_published_folder(&self.folder);
            self.added.iter().for_each(|name| self.dataset.forget_index(self.bucket, name));
        }
    }
}

/// A folder that an exchange replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    id: Uuid,
    /// Time since it was replaced.
    pub age: Duration,
}

/// What [`Dataset::clean_leftovers`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Files that were being written when a process died.
    pub temp_files: u64,
    /// Folders of replacements that were never completed, or not retired.
    pub folders: u64,
    /// Identity indexes without a published file.
    pub indexes: u64,
}

impl Dataset {
    /// Begins to replace the published folder of a bucket.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the file system cannot exchange folders, [`Error::Io`].
    pub fn begin_replacement(&self, bucket: Bucket) -> Result<Replacement> {
        if !self.capabilities().exchange {
            let advice = "the file system cannot exchange two folders in one step: files are left as they are";
            return Err(Error::Unsupported { advice: advice.into() });
        }
        self.ensure_folder(&self.paths().staging_folder(bucket))?;
        let folder = self.paths().staged(bucket, Staged::Next(self.new_id()));
        self.fs().create_dir(&folder).at("make the folder", &folder)?;
        failpoint::reached("consolidate.begun").at("make the folder", &folder)?;
        Ok(Replacement { dataset: self.clone(), bucket, folder, added: Vec::new(), merged_rows: 0, exchanged: false })
    }

    /// What exchanges replaced, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn retired(&self, bucket: Bucket) -> Result<Vec<Retired>> {
        let (mut retired, now) = (Vec::new(), self.fs().now());
        for entry in tree::entries(&self.paths().staging_folder(bucket))? {
            if let Ok(Staged::Old(id)) = entry.parse() {
                retired.push(Retired { id, age: age_of(id, now) });
            }
        }
        retired.sort_by_key(|retired| retired.id);
        Ok(retired)
    }

    /// Deletes one of them, and the identity indexes of its files that are not published any more. The caller holds the
    /// bucket's [`super::CompactionLock`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn delete_retired(&self, bucket: Bucket, retired: &Retired) -> Result<()> {
        let folder = self.paths().staged(bucket, Staged::Old(retired.id));
        // Before the old files go, the exchange must be on the disk, or a power cut could bring the old folder back empty.
        self.sync_parents(bucket)?;
        let reached = |step| failpoint::reached(step).at("delete", &folder);
        reached("retire.parents_synced")?;
        let published = self.list_published(bucket)?;
        let gone: Vec<PublishedName> = tree::names(&folder)?;
        self.remove_published_folder(&folder)?;
        reached("retire.folder_removed")?;
        for name in gone.iter().filter(|name| !published.contains(name)) {
            let index = self.paths().staged(bucket, Staged::Index(*name));
            tolerate_gone(self.fs().remove_file(&index)).at("remove", &index)?;
            reached("retire.index_removed")?;
        }
        let staging = self.paths().staging_folder(bucket);
        self.fs().sync_dir(&staging).at("sync the folder", &staging)
    }

    /// Removes what dead processes left in a bucket and has not been touched for so long. The caller holds the bucket's
    /// [`super::CompactionLock`]; batchers, which may be writing, are spared by the age.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clean_leftovers(&self, bucket: Bucket, older_than: Duration) -> Result<Cleaned> {
        let staging = self.paths().staging_folder(bucket);
        let published = self.list_published(bucket)?;
        let (mut cleaned, now) = (Cleaned::default(), self.fs().now());
        for entry in tree::entries(&staging)? {
            let Ok(staged) = entry.parse::<Staged>() else { continue };
            let path = staging.join(entry);
            let is_leftover = match staged {
                Staged::Temp(_) => true,
                // The folder's own time may be that of the old published folder, if an exchange has put it there.
                Staged::Next(id) => age_of(id, now) >= older_than,
                Staged::Index(name) => !published.contains(&name),
                _ => false,
            };
            if !is_leftover || !is_older(&path, older_than, now)? {
                continue;
            }
            match staged {
                Staged::Next(_) => {
                    // It may hold what an exchange has replaced: see `delete_retired`.
                    self.sync_parents(bucket)?;
                    self.remove_published_folder(&path)?;
                    cleaned.folders += 1;
                }
                Staged::Index(_) => cleaned.indexes += u64::from(self.remove(&path)?),
                _ => cleaned.temp_files += u64::from(self.remove(&path)?),
            }
        }
        if cleaned != Cleaned::default() {
            self.fs().sync_dir(&staging).at("sync the folder", &staging)?;
        }
        Ok(cleaned)
    }

    /// An id whose age is told by the clock of the file system.
    fn new_id(&self) -> Uuid {
        let since = self.fs().now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), since.as_secs(), since.subsec_nanos()))
    }

    fn remove(&self, path: &Path) -> Result<bool> {
        tolerate_gone(self.fs().remove_file(path)).at("remove", path)
    }

    /// Syncs the folders that hold the two names of an exchange.
    fn sync_parents(&self, bucket: Bucket) -> Result<()> {
        let staging = self.paths().staging_folder(bucket);
        self.fs().sync_dir(&staging).at("sync the folder", &staging)?;
        match self.paths().published_folder(bucket).parent() {
            // Nothing of this date has been published yet.
            Some(date) => match self.fs().sync_dir(date) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.at("sync the folder", date),
            },
            None => Ok(()),
        }
    }

    /// Removes a folder of published files and only those: whatever else stands in it stays, and keeps it.
    fn remove_published_folder(&self, folder: &Path) -> Result<()> {
        for name in tree::names::<PublishedName>(folder)? {
            self.remove(&folder.join(name.to_string()))?;
            failpoint::reached("retire.file_removed").at("delete", folder)?;
        }
        tolerate_gone(self.fs().remove_dir(folder)).map(|_| ()).at("remove the folder", folder)
    }
}

/// Time until `now` since an id of ours was made; zero when that lies ahead.
fn age_of(id: Uuid, now: SystemTime) -> Duration {
    let born = id.get_timestamp().map(|timestamp| timestamp.to_unix());
    let born = born.map_or(Duration::ZERO, |(seconds, nanos)| Duration::new(seconds, nanos));
    now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(born)
}

fn is_older(path: &Path, than: Duration, now: SystemTime) -> Result<bool> {
    match tree::age(path, now) {
        Err(Error::NotFound { .. }) => Ok(false),
        age => Ok(age? >= than),
    }
}

#[cfg(test)]
mod tests;
