//! The two trees: making their folders durably, and listing what stands in them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;

use super::error::{At, Error, Result};
use super::fs::FileSystem;
use super::home::is_absence;
use super::paths::{DATASET_LOCK, Layout, PROBE, PublishedName, Staged, parse_date_folder, parse_partition_folder};
use super::{Bucket, Dataset};
use crate::heartbeat::Partition;

/// Beyond this many known folders they are forgotten and synced once more: it bounds memory, not truth.
const KNOWN_FOLDERS: usize = 16_384;
/// Enough for a person to see what is going on.
const STRANGERS: usize = 1_000;
/// A folder is exchanged every few minutes at most.
const EXCHANGES: usize = 10;

impl Dataset {
    /// Makes sure that a folder of the two trees stands, with all its parents, on the disk.
    ///
    /// A folder that was there already is synced too, once a process: whoever made it may have died before its sync.
    pub(super) fn ensure_folder(&self, folder: &Path) -> Result<()> {
        let known = || self.inner.durable_folders.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(folder) && folder.is_dir() {
            return Ok(());
        }
        // Nothing is made anew that was there when the dataset was opened.
        self.confirm_home()?;
        let below_root = folder.ancestors().take_while(|ancestor| *ancestor != self.root());
        for level in below_root.collect::<Vec<_>>().into_iter().rev() {
            make_folder(self.fs(), level)?;
            let mut known = known();
            if known.len() >= KNOWN_FOLDERS {
                known.clear();
            }
            known.insert(level.to_owned());
        }
        Ok(())
    }

    /// All buckets of both trees, sorted.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`].
    pub fn buckets(&self) -> Result<Vec<Bucket>> {
        let mut buckets = BTreeSet::new();
        for tree in [self.paths().heartbeats(), self.paths().staging()] {
            for date in entries(&tree)? {
                let Ok(parsed_date) = parse_date_folder(&date) else { continue };
                for partition in entries(&tree.join(&date))? {
                    if let Ok(partition) = parse_partition_folder(&partition) {
                        buckets.insert(Bucket { date: parsed_date, partition });
                    }
                }
            }
        }
        self.confirm_home()?;
        Ok(buckets.into_iter().collect())
    }

    /// The dates of a partition in both trees, sorted.
    ///
    /// Staging is looked at first, since rows go from there into the published tree: what lay in either before this is called
    /// is in a date that is given.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`].
    pub fn dates(&self, partition: Partition) -> Result<Vec<Date>> {
        let mut dates = BTreeSet::new();
        for (tree, of) in [
            (self.paths().staging(), Layout::staging_folder as fn(&Layout, Bucket) -> PathBuf),
            (self.paths().heartbeats(), Layout::published_folder),
        ] {
            for date in entries(&tree)?.iter().filter_map(|date| parse_date_folder(date).ok()) {
                let folder = of(self.paths(), Bucket { date, partition });
                match fs::metadata(&folder) {
                    Ok(found) if found.is_dir() => _ = dates.insert(date),
                    Err(error) if !is_absence(&error) => return Err(error).at("look at", &folder),
                    _ => {}
                }
            }
        }
        self.confirm_home()?;
        Ok(dates.into_iter().collect())
    }

    /// Entries in the two trees that are not of this dataset's making, at most 1,000. They are never touched.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io).
    pub fn strangers(&self) -> Result<Vec<PathBuf>> {
        let mut strangers = Vec::new();
        let published = |name: &str| name.parse::<PublishedName>().is_ok();
        let staged = |name: &str| name.parse::<Staged>().is_ok();
        self.strangers_of(&self.paths().heartbeats(), &published, &mut strangers)?;
        self.strangers_of(&self.paths().staging(), &staged, &mut strangers)?;
        strangers.sort();
        strangers.truncate(STRANGERS);
        Ok(strangers)
    }

    fn strangers_of(&self, tree: &Path, is_ours: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) -> Result<()> {
        let is_date = |name: &str| parse_date_folder(name).is_ok();
        let is_partition = |name: &str| parse_partition_folder(name).is_ok_and(|number| number < self.partitions());
        for date in entries(tree)? {
            if !is_date(&date) {
                if !date.starts_with(PROBE) && date != DATASET_LOCK {
                    found.push(tree.join(date));
                }
                continue;
            }
            let date = tree.join(date);
            for partition in entries(&date)? {
                let path = date.join(&partition);
                if !is_partition(&partition) {
                    found.push(path);
                    continue;
                }
                found.extend(entries(&path)?.into_iter().filter(|name| !is_ours(name)).map(|name| path.join(name)));
            }
            if found.len() > STRANGERS {
                break;
            }
        }
        Ok(())
    }
}

/// Makes one folder and syncs its parent; a folder that is there already is fine.
fn make_folder(fs: &dyn FileSystem, folder: &Path) -> Result<()> {
    match fs.create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        other => other.at("make the folder", folder)?,
    }
    folder.parent().map_or(Ok(()), |parent| fs.sync_dir(parent).at("sync the folder", parent))
}

/// Makes a folder with all missing parents, synced.
pub(super) fn make_folders(fs: &dyn FileSystem, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    folder.parent().map_or(Ok(()), |parent| make_folders(fs, parent))?;
    make_folder(fs, folder)
}

/// The names in a folder, unsorted; none when it is not there or is no folder. A name that is not UTF-8 is given lossily:
/// nothing of ours is called so.
pub(super) fn entries(folder: &Path) -> Result<Vec<String>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        other => other.at("list", folder)?,
    };
    listing.map(|entry| Ok(entry.at("list", folder)?.file_name().to_string_lossy().into_owned())).collect()
}

/// The same for a folder that may be exchanged for another meanwhile: the names are those of one of them. The old one is
/// deleted file by file, so half of it might be found else.
pub(super) fn names_of_one<T: FromStr + Ord>(folder: &Path) -> Result<Vec<T>> {
    let which = || fs::metadata(folder).ok().map(|found| (found.dev(), found.ino()));
    for _ in 0..EXCHANGES {
        let before = which();
        let names = names(folder)?;
        if before == which() {
            return Ok(names);
        }
    }
    Err(Error::Conflict { advice: "a folder is exchanged faster than it can be listed: try again".into() })
}

/// The names in a folder that parse as a `T`, sorted.
pub(super) fn names<T: FromStr + Ord>(folder: &Path) -> Result<Vec<T>> {
    let mut names: Vec<T> = entries(folder)?.iter().filter_map(|name| name.parse().ok()).collect();
    names.sort();
    Ok(names)
}

/// The length of a file in bytes.
pub(super) fn file_len(path: &Path) -> Result<u64> {
    super::error::or_not_found(fs::metadata(path), "look at", path).map(|metadata| metadata.len())
}

/// The time until `now` since a file or folder was last written; zero when its time lies ahead.
pub(super) fn age(path: &Path, now: SystemTime) -> Result<Duration> {
    let metadata = super::error::or_not_found(fs::metadata(path), "look at", path)?;
    Ok(now.duration_since(metadata.modified().at("read the time of", path)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Scratch;
    use super::*;

    #[test]
    fn a_folder_that_may_not_be_looked_at_is_no_absent_one() {
        let scratch = Scratch::new();
        let date = scratch.dataset.root().join("heartbeats/date=2026-11-22");
        fs::create_dir_all(date.join("partition=7")).unwrap();
        assert_eq!(scratch.dataset.dates(7).unwrap(), [jiff::civil::date(2026, 11, 22)]);
        assert_eq!(scratch.dataset.dates(8).unwrap(), []);
        // As one of somebody else is, but also for root.
        std::os::unix::fs::symlink("partition=8", date.join("partition=8")).unwrap();
        assert!(matches!(scratch.dataset.dates(8), Err(Error::Io { .. })));
    }

    #[test]
    fn buckets_of_both_trees_are_listed_once_and_strangers_are_named() {
        let scratch = Scratch::new();
        let root = scratch.dataset.root();
        for folder in [
            "heartbeats/date=2026-11-22/partition=7",
            "staging/date=2026-11-22/partition=7",
            "staging/date=2026-11-21/partition=0/.next-0192",
            "staging/date=2026-11-22/partition=16",
            "heartbeats/date=2026-11-22/user=1",
            "heartbeats/lost+found",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("heartbeats/date=2026-11-22/partition=7/.part_x.parquet"), "").unwrap();
        fs::write(root.join("staging/date=2026-11-22/partition=7/.lock"), "").unwrap();
        let buckets = scratch.dataset.buckets().unwrap();
        assert_eq!(
            buckets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["date=2026-11-21/partition=0", "date=2026-11-22/partition=7", "date=2026-11-22/partition=16"]
        );
        let strangers = scratch.dataset.strangers().unwrap();
        assert_eq!(
            strangers.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap()).collect::<Vec<_>>(),
            [
                "heartbeats/date=2026-11-22/partition=7/.part_x.parquet",
                "heartbeats/date=2026-11-22/user=1",
                "heartbeats/lost+found",
                "staging/date=2026-11-21/partition=0/.next-0192",
                "staging/date=2026-11-22/partition=16",
            ]
        );
    }

    #[test]
    fn a_new_folder_is_synced_into_each_of_its_parents() {
        let scratch = Scratch::recorded();
        let bucket = Bucket::of(0, 1);
        scratch.steps();
        scratch.dataset.ensure_folder(&scratch.dataset.paths().staging_folder(bucket)).unwrap();
        assert_eq!(
            scratch.steps(),
            [
                "create_dir staging",
                "sync_dir .",
                "create_dir staging/date=1970-01-01",
                "sync_dir staging",
                "create_dir staging/date=1970-01-01/partition=1",
                "sync_dir staging/date=1970-01-01",
            ]
        );
        scratch.dataset.ensure_folder(&scratch.dataset.paths().staging_folder(bucket)).unwrap();
        assert_eq!(scratch.steps(), [""; 0], "once a process is enough");
    }

    #[test]
    fn the_dates_of_a_partition_are_those_of_both_trees() {
        let scratch = Scratch::new();
        for folder in [
            "heartbeats/date=2026-11-22/partition=7",
            "heartbeats/date=2026-11-23/partition=6",
            "staging/date=2026-11-22/partition=7",
            "staging/date=2026-11-20/partition=7",
            "staging/date=2026-11-2/partition=7",
        ] {
            fs::create_dir_all(scratch.dataset.root().join(folder)).unwrap();
        }
        let dates = scratch.dataset.dates(7).unwrap();
        assert_eq!(dates.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2026-11-20", "2026-11-22"]);
        assert_eq!(scratch.dataset.dates(9).unwrap(), []);
    }
}
