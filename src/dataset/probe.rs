//! The start-up probe: does the file system do what the dataset is built on?
//!
//! Constraints: it leaves nothing behind (leftovers of a probe that was killed go at a later start), disturbs no other
//! process that starts at the same time, and shows readers at most an empty folder for an instant.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs2::FileExt;
use uuid::Uuid;

use super::error::{At, Error, Result, tolerate_gone};
use super::fs::FileSystem;
use super::paths::{Layout, MANIFEST_TEMP, PROBE};
use super::tree;

/// Leftovers of starts are removed when older: no start takes this long.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// File systems whose locks, renames or caches are not those of one machine, by the magic number of statfs(2).
const NETWORK_FILE_SYSTEMS: [(u32, &str); 10] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0102_1997, "9P"),
];

/// What the file system can do beyond what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Exchanging two folders in one step (`renameat2` with `RENAME_EXCHANGE`), without which nothing is consolidated.
    pub exchange: bool,
}

/// Probes the file system of both trees, whose folders must stand.
pub(super) fn run(layout: &Layout, fs: &dyn FileSystem) -> Result<Capabilities> {
    for folder in [layout.root().to_owned(), layout.heartbeats(), layout.staging()] {
        refuse_network(&folder)?;
    }
    let name = format!("{PROBE}{}", Uuid::now_v7());
    let (ours, theirs) = (layout.staging().join(&name), layout.heartbeats().join(&name));
    let found = probe(fs, &ours, &theirs);
    let cleaned = remove(fs, &ours).and_then(|()| remove(fs, &theirs));
    let found = found?;
    cleaned?;
    Ok(found)
}

fn refuse_network(folder: &Path) -> Result<()> {
    let stat = rustix::fs::statfs(folder).map_err(io::Error::from).at("ask for the file system of", folder)?;
    match network_name(stat.f_type as u32) {
        None => Ok(()),
        Some(name) => Err(Error::Unsupported {
            advice: format!(
                "{} is on {name}: a dataset needs a local file system (ext4, XFS, btrfs, …), whose locks and renames hold",
                folder.display()
            ),
        }),
    }
}

fn network_name(magic: u32) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

fn probe(fs: &dyn FileSystem, ours: &Path, theirs: &Path) -> Result<Capabilities> {
    fs.create_dir(ours).at("make the folder", ours)?;
    fs.create_dir(theirs).at("make the folder", theirs)?;
    let lock = ours.join("lock");
    probe_locks(fs, &lock)?;
    let moved = ours.join("moved");
    fs.rename_noreplace(&lock, &moved).at("rename", &lock)?;
    // Before the exchange, so that readers never see more than an empty folder.
    fs.remove_file(&moved).at("remove", &moved)?;
    Ok(Capabilities { exchange: probe_exchange(fs, ours, theirs)? })
}

/// Two descriptors must exclude one another, or two processes could compact a bucket at once.
fn probe_locks(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    let first = fs.open_lock(path).at("create", path)?;
    let second = fs.open_lock(path).at("open", path)?;
    FileExt::try_lock_exclusive(&first).at("lock", path)?;
    if FileExt::try_lock_exclusive(&second).is_ok() {
        return Err(Error::Unsupported {
            advice: format!("locks do not hold on the file system of {}: use a local one", path.display()),
        });
    }
    Ok(())
}

fn probe_exchange(fs: &dyn FileSystem, ours: &Path, theirs: &Path) -> Result<bool> {
    match fs.exchange(ours, theirs) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Err(Error::Unsupported {
            advice: "heartbeats/ and staging/ are on two file systems: both must be on one".into(),
        }),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            probe_rename_across(fs, ours, theirs)?;
            Ok(false)
        }
        Err(error) => Err(error).at("exchange", ours),
    }
}

/// Without the exchange, whether both trees are on one file system is still to be seen. A folder may replace an empty one.
fn probe_rename_across(fs: &dyn FileSystem, ours: &Path, theirs: &Path) -> Result<()> {
    fs.rename(ours, theirs).at("rename across both trees", ours)
}

fn remove(fs: &dyn FileSystem, folder: &Path) -> Result<()> {
    for name in tree::entries(folder)? {
        let path = folder.join(name);
        tolerate_gone(fs.remove_file(&path)).at("remove", &path)?;
    }
    tolerate_gone(fs.remove_dir(folder)).map(|_| ()).at("remove the folder", folder)
}

/// Removes what starts that were killed have left.
pub(super) fn clean(layout: &Layout, fs: &dyn FileSystem) -> Result<()> {
    for tree in [layout.staging(), layout.heartbeats()] {
        for folder in leftovers(&tree, PROBE, fs.now())? {
            remove(fs, &folder)?;
        }
    }
    for file in leftovers(layout.root(), MANIFEST_TEMP, fs.now())? {
        tolerate_gone(fs.remove_file(&file)).at("remove", &file)?;
    }
    Ok(())
}

fn leftovers(folder: &Path, prefix: &str, now: SystemTime) -> Result<Vec<PathBuf>> {
    let ours = |name: &String| name.strip_prefix(prefix).is_some_and(|id| Uuid::parse_str(id).is_ok());
    let old = |path: &PathBuf| tree::age(path, now).is_ok_and(|age| age > LEFTOVER_AGE);
    Ok(tree::entries(folder)?.into_iter().filter(ours).map(|name| folder.join(name)).filter(old).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::test_support::{Scratch, entries_below};
    use super::super::{Dataset, Options, RealFs};
    use super::*;

    #[test]
    fn network_file_systems_are_refused_by_name() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xff53_4d42), Some("CIFS"));
        assert_eq!(network_name(0xef53), None, "ext4");
        assert_eq!(network_name(0x6573_5546), None, "FUSE may be local");
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let scratch = Scratch::new();
        assert_eq!(entries_below(scratch.dataset.root()), ["dataset.json", "heartbeats", "staging"]);
    }

    #[test]
    fn a_file_system_without_exchange_is_fit_but_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let fs = super::super::test_support::RecordingFs::new(dir.path());
        fs.refuse("exchange", io::ErrorKind::InvalidInput);
        let options = Options { data: dir.path().to_owned(), ..Options::default() };
        let dataset = Dataset::open_or_create(&options, Arc::new(fs)).unwrap();
        assert!(!dataset.capabilities().exchange);
        assert_eq!(entries_below(dir.path()), ["dataset.json", "heartbeats", "staging"]);
    }

    #[test]
    fn two_file_systems_are_refused_before_a_dataset_is_born() {
        let dir = tempfile::tempdir().unwrap();
        let fs = super::super::test_support::RecordingFs::new(dir.path());
        fs.refuse("exchange", io::ErrorKind::CrossesDevices);
        let options = Options { data: dir.path().to_owned(), ..Options::default() };
        let error = Dataset::open_or_create(&options, Arc::new(fs)).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert_eq!(entries_below(dir.path()), ["heartbeats", "staging"]);
    }

    #[test]
    fn leftovers_of_killed_starts_go_and_young_ones_stay() {
        let scratch = Scratch::new();
        let root = scratch.dataset.root().to_owned();
        let (old, young) = (format!("{PROBE}{}", Uuid::now_v7()), format!("{PROBE}{}", Uuid::now_v7()));
        for name in [&old, &young] {
            fs::create_dir(root.join("staging").join(name)).unwrap();
        }
        let temp = root.join(format!("{MANIFEST_TEMP}{}", Uuid::now_v7()));
        fs::write(&temp, "").unwrap();
        for path in [&root.join("staging").join(&old), &temp] {
            let two_hours_ago = std::time::SystemTime::now() - 2 * LEFTOVER_AGE;
            fs::File::open(path).unwrap().set_modified(two_hours_ago).unwrap();
        }
        let options = Options { data: root.clone(), ..Options::default() };
        Dataset::open(&options, Arc::new(RealFs)).unwrap();
        assert_eq!(tree::entries(&root.join("staging")).unwrap(), [young]);
        assert!(!temp.exists());
    }
}
