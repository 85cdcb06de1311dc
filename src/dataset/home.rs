//! The folders of a dataset, held from when it was opened: its own, and those of the two trees, which may be on disks of
//! their own.
//!
//! Every step goes by path, and a path may lead elsewhere one day: to the empty folder below a mount point whose disk was
//! unmounted, or to another one in the place of one that was moved. What is written there nobody finds again, and what is
//! not found there may well exist. So the folders that were opened stay open (no disk is unmounted below them then, but by
//! force), and whoever reports something as written, deletes for good, or says what there is asks whether they are still the
//! ones at their paths.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Dataset;
use super::error::{At, Error, Result};
use super::paths::Layout;

/// See the module.
#[derive(Debug)]
pub(super) struct Home(Vec<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    opened: File,
}

impl Home {
    /// Holds what there is: a copy that is only read may have no staging tree.
    pub(super) fn hold(layout: &Layout) -> Result<Self> {
        let mut held = vec![Held::open(layout.root().to_owned())?];
        for tree in [layout.heartbeats(), layout.staging()] {
            match Held::open(tree) {
                Ok(tree) => held.push(tree),
                Err(Error::Io { source, .. }) if is_absence(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(held))
    }

    fn confirm(&self) -> Result<()> {
        self.0.iter().try_for_each(Held::confirm)
    }
}

impl Held {
    fn open(path: PathBuf) -> Result<Self> {
        let opened = File::open(&path).at("open the folder", &path)?;
        Ok(Self { path, opened })
    }

    fn confirm(&self) -> Result<()> {
        let opened = self.opened.metadata().at("look at the opened folder", &self.path)?;
        match fs::metadata(&self.path) {
            Ok(found) if is_same(&found, &opened) => Ok(()),
            Err(error) if !is_absence(&error) => Err(error).at("look at", &self.path),
            _ => Err(Error::Elsewhere { path: self.path.clone() }),
        }
    }
}

/// Whether nothing stands there. Whoever may not look knows nothing of what stands there.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

impl Dataset {
    /// Makes sure that what was done up to now was done in the folder that this handle opened.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::Io`].
    pub fn confirm_home(&self) -> Result<()> {
        self.inner.home.confirm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_moved_is_missed_whatever_takes_its_place() {
        for moved in ["", "heartbeats", "staging"] {
            let around = tempfile::tempdir().unwrap();
            let layout = Layout::new(around.path().join("data"));
            for folder in [layout.heartbeats(), layout.staging()] {
                fs::create_dir_all(folder).unwrap();
            }
            let home = Home::hold(&layout).unwrap();
            home.confirm().unwrap();
            let (path, away) = (layout.root().join(moved), around.path().join("away"));
            let is_missed = || matches!(home.confirm(), Err(Error::Elsewhere { .. }));
            fs::rename(&path, &away).unwrap();
            assert!(is_missed(), "{moved}: nothing stands there");
            // A slash at the end would ask for a folder.
            let path = path.components().collect::<PathBuf>();
            File::create(&path).unwrap();
            assert!(is_missed(), "{moved}: a file stands there");
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            assert!(is_missed(), "{moved}: another folder stands there");
            fs::remove_dir(&path).unwrap();
            fs::rename(&away, &path).unwrap();
            home.confirm().unwrap();
        }
    }

    #[test]
    fn a_copy_without_a_staging_tree_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        fs::create_dir(layout.heartbeats()).unwrap();
        Home::hold(&layout).unwrap().confirm().unwrap();
    }
}
