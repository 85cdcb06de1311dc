//! A disk whose power can be cut: ext4 on a loop device. What was not synced by then is gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::skip::skip;
use super::{SOON, wait};

const SIZE: u64 = 512 << 20;
/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: from now on every write fails, and the journal is not flushed.
const CUT: &str = "import fcntl, os, struct, sys; \
                   fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// See the module. Unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Makes and mounts one. `None`, saying so, where that is not allowed.
    pub fn mount() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("disk").tempdir().unwrap();
        let disk = Self { folder };
        std::fs::File::create(disk.image()).unwrap().set_len(SIZE).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "nodiscard"]).arg(disk.image()));
        if let Err(why) = made.and_then(|()| disk.turn_on()) {
            skip("power cuts of the data disk, ext4 on a loop device", &why);
            return None;
        }
        Some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Cuts its power: whoever works on it meets errors from now on.
    pub fn cut(&self) {
        run(Command::new("python3").args(["-c", CUT]).arg(self.path())).unwrap();
    }

    /// Power is back: its journal is replayed. Nobody may have a file of it open.
    pub fn restore(&self) {
        wait::value("the disk to be let go of", SOON, || run(Command::new("umount").arg(self.path())));
        self.turn_on().unwrap();
    }

    fn turn_on(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()))
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy: a process that is just dying may still hold a file.
        let _ = Command::new("umount").args(["--quiet", "--lazy"]).arg(self.path()).status();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
