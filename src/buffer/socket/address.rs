//! Addresses of unix sockets for paths of any length.
//!
//! The operating system takes 107 bytes (`sun_path`, without its closing zero). A longer path is named through the opened
//! folder, `/proc/self/fd/<n>/<name>`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const MAX_BYTES: usize = 107;

/// A path that can be bound or connected to while this value lives.
#[derive(Debug)]
pub(super) struct Address {
    path: PathBuf,
    /// What a path through `/proc` leads through.
    _folder: Option<File>,
}

impl Address {
    /// The address of `path`. Its folder must be there.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
        };
        let folder = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    /// Borrowed, because it leads nowhere any more once the folder is closed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_always_fits_and_leads_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        for depth in [0, 1, 9] {
            let folder = dir.path().join("twelve-bytes/".repeat(depth));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("file");
            std::fs::write(&path, b"here").unwrap();
            let address = Address::of(&path).unwrap();
            assert!(address.path().as_os_str().len() <= MAX_BYTES);
            assert_eq!(std::fs::read(address.path()).unwrap(), b"here");
            assert_eq!(address.path() == path, path.as_os_str().len() <= MAX_BYTES);
        }
    }
}
