//! The folder of a dataset, held from when it was opened.
//!
//! Every step goes by path, and a path may lead elsewhere one day: to the empty folder below a mount point whose disk was
//! unmounted, or to another one in the place of one that was moved. What is written there nobody finds again, and what is
//! not found there may well exist. So the folder that was opened stays open (no disk is unmounted below it then, but by
//! force), and whoever reports something as written, deletes for good, or says what there is asks whether it is still the
//! one at its path.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Dataset;
use super::error::{At, Error, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    opened: File,
}

impl Home {
    pub(super) fn hold(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), opened: File::open(path).at("open the folder", path)? })
    }

    fn confirm(&self) -> Result<()> {
        let opened = self.opened.metadata().at("look at the opened folder", &self.path)?;
        match fs::metadata(&self.path) {
            Ok(found) if is_same(&found, &opened) => Ok(()),
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(error).at("look at", &self.path)
            }
            _ => Err(Error::Elsewhere { path: self.path.clone() }),
        }
    }
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
        let around = tempfile::tempdir().unwrap();
        let (path, away) = (around.path().join("data"), around.path().join("away"));
        fs::create_dir(&path).unwrap();
        let home = Home::hold(&path).unwrap();
        home.confirm().unwrap();
        fs::rename(&path, &away).unwrap();
        assert!(matches!(home.confirm(), Err(Error::Elsewhere { .. })), "nothing stands there");
        File::create(&path).unwrap();
        assert!(matches!(home.confirm(), Err(Error::Elsewhere { .. })), "a file stands there");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(home.confirm(), Err(Error::Elsewhere { .. })), "another folder stands there");
        fs::remove_dir(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        home.confirm().unwrap();
    }
}
