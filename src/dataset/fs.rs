//! The file system, as far as the dataset changes it.
//!
//! Constraints: every step that creates, renames, links, syncs or removes something goes through [`FileSystem`], so that
//! a test can record the order of the steps, and fail or stop at any of them. Reading, and writing into a file just
//! created, go straight to the [`File`]; a test that wants a write to fail hands out a file that takes none. The clock by
//! which ages are told is the file system's as well, since they are told from the times of its files.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Everything that changes the disk. Each method is one step that happens whole or not at all, or says why not.
pub trait FileSystem: Debug + Send + Sync + 'static {
    /// Creates a file for writing and reading that must not be there yet.
    ///
    /// # Errors
    /// Those of the operating system, here and below.
    fn create_new(&self, path: &Path) -> io::Result<File>;

    /// Opens a file for locking, creating it empty where it is missing.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open_lock(&self, path: &Path) -> io::Result<File>;

    /// Puts the file's content on the disk. After an error nothing is known of the content, nor after another try: throw
    /// the file away and write a new one.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()>;

    /// Puts a folder's entries on the disk.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes one folder, whose parent must be there.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames, replacing what stands at `to`.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames; refuses with `AlreadyExists` where something stands at `to`.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Exchanges two files or folders in one step.
    ///
    /// # Errors
    /// Those of the operating system; `InvalidInput` or `Unsupported` where the file system cannot.
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must not be there yet.
    ///
    /// # Errors
    /// Those of the operating system.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Now, as its files are dated.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl FileSystem for RealFs {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(path)
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(false).open(path)
    }

    fn sync_file(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems know no flags. A look beforehand is enough there: the names are unique ids, and one
            // process at a time publishes into a bucket.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                if to.symlink_metadata().is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(from, to)
            }
            other => Ok(other?),
        }
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_that_must_not_replace_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        assert_eq!(RealFs.rename_noreplace(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&b).unwrap(), b"b");
        fs::remove_file(&b).unwrap();
        RealFs.rename_noreplace(&a, &b).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"a");
        assert!(!a.exists());
    }
}
