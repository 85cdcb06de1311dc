//! A small file system of a test's own, to be filled or made read-only.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::skip::skip;

/// A mounted tmpfs. Unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one of `size` (as in `mount -o size=`). `None`, with a line that says so, where mounting is not allowed.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("tmpfs").tempdir().unwrap();
        let options = format!("size={size},mode=755");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "systole-test"]).arg(folder.path()).output();
        let why = match output {
            Ok(output) if output.status.success() => return Some(Self { folder }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        skip("faults of a small file system, which cannot be mounted here", &why);
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last byte, and answers the file to delete.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        // Ends with "no space left on device".
        let _ = std::io::copy(&mut std::io::repeat(0), &mut file);
        path
    }

    /// Makes it read-only, or writable again.
    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let status = Command::new("mount").args(["-o", options]).arg(self.path()).status().unwrap();
        assert!(status.success(), "mount -o {options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazy: a process that is just dying may still hold a file.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
