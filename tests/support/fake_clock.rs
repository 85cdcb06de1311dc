//! The clock on the wall of one process, to be set while it runs: libfaketime. The monotonic clock goes on as it does.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::Launch;
use super::skip::skip;

/// One such clock; processes whose environment has [`FakeClock::env`] go by it.
#[derive(Debug)]
pub struct FakeClock {
    folder: TempDir,
    library: PathBuf,
}

impl FakeClock {
    /// One that goes right so far. `None`, saying so, where there is no libfaketime.
    pub fn new() -> Option<Self> {
        let Some(library) = library() else {
            skip("clocks that are set ahead and back", "libfaketime is not installed; apt-get install faketime");
            return None;
        };
        let clock = Self { folder: tempfile::Builder::new().prefix("clock").tempdir().unwrap(), library };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it off the right time by this much: `+1d`, `-1d`, `+0`.
    pub fn set(&self, offset: &str) {
        let (file, next) = (self.file(), self.folder.path().join("next"));
        std::fs::write(&next, offset).unwrap();
        std::fs::rename(next, file).unwrap();
    }

    /// The same for a Redis: its allocator asks for the time before libfaketime can answer, so the C library's takes its
    /// place. `None`, saying so, where a Redis does not run so.
    pub fn env_of_redis(&self) -> Option<Vec<(&'static str, String)>> {
        let mut env = self.env().to_vec();
        env[0].1.push_str(":libc.so.6");
        let probe = Command::new("timeout").args(["5", "redis-server", "--version"]).envs(env.clone()).output();
        if probe.is_ok_and(|output| output.status.success()) {
            return Some(env);
        }
        skip("a clock of Redis that is set ahead and back", "its redis-server does not run with libfaketime");
        None
    }

    /// A process that goes by it.
    pub fn lead(&self, launch: Launch) -> Launch {
        self.env().iter().fold(launch, |launch, (name, value)| launch.env(name, value))
    }

    /// The variables that make a process go by it.
    pub fn env(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let name = Path::new("faketime/libfaketimeMT.so.1");
    folders.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join(name)).find(|path| path.exists())
}
