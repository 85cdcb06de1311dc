//! One process at a time in a directory, and the directory that it took.
//!
//! Constraint: the lock file is never deleted. Where it is gone or another one, somebody erased the directory under a
//! running process, whose files then lead nowhere.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs2::FileExt;

use super::super::{Error, Result};

const NAME: &str = "lock";

/// Held: the directory. Given back when dropped, and by the operating system when the process dies.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    path: PathBuf,
    inode: (u64, u64),
    _file: File,
}

impl DirectoryLock {
    /// Takes the directory, making it if need be.
    ///
    /// # Errors
    /// [`Error::Unreachable`] that names the process which holds it, or when the disk fails.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let failed = |what: &str, error: io::Error| Error::Unreachable {
            reason: format!("cannot {what} the buffer's directory {}: {error}", dir.display()),
        };
        make_durably(dir).map_err(|error| failed("make", error))?;
        let path = dir.join(NAME);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("lock", error))?;
        if let Err(error) = file.try_lock_exclusive() {
            if error.kind() != fs2::lock_contended_error().kind() {
                return Err(failed("lock", error));
            }
            // Not `Unsafe`: a command that looks has it for a while only, and an `up` that is started meanwhile must be started
            // again, which a supervisor leaves alone after a wrong setting.
            return Err(Error::Unreachable { reason: in_use(dir, &mut file) });
        }
        write_pid(&mut file).map_err(|error| failed("lock", error))?;
        let found = file.metadata().map_err(|error| failed("lock", error))?;
        Ok(Self { path, inode: (found.dev(), found.ino()), _file: file })
    }

    /// Whether the directory is still the one that was taken.
    pub(super) fn stands(&self) -> bool {
        // What cannot be looked at for another reason is not gone.
        match fs::metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) == self.inode,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// Makes the folder and what is missing above it, each synced into its parent: an acknowledged frame in a folder that a power
/// cut takes away would be lost.
fn make_durably(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let missing: Vec<&Path> = dir.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(&dir)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
}

fn in_use(dir: &Path, file: &mut File) -> String {
    let mut pid = String::new();
    // The holder writes its number right after taking the lock, so it may not stand there yet.
    let _ = file.take(20).read_to_string(&mut pid);
    let by = if pid.trim().is_empty() { "another process".to_owned() } else { format!("process {}", pid.trim()) };
    format!("{} is in use by {by}: stop that one first, or choose another directory", dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        let error = DirectoryLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}:", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }

    #[test]
    fn an_erased_directory_stands_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("buffer");
        let lock = DirectoryLock::take(&inner).unwrap();
        assert!(lock.stands());
        fs::remove_dir_all(&inner).unwrap();
        assert!(!lock.stands());
        let _other = DirectoryLock::take(&inner).unwrap();
        assert!(!lock.stands(), "another directory under the same name is another one");
    }
}
