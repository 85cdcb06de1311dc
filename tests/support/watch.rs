//! Counts the files that anyone opens in some folders, as the kernel reports it (inotify).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Counts from its start on.
#[derive(Debug)]
pub struct OpenedFiles {
    inotify: OwnedFd,
}

impl OpenedFiles {
    /// Watches `folders` (themselves, not below).
    pub fn watch<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        for folder in folders {
            inotify::add_watch(&inotify, folder, WatchFlags::OPEN).unwrap();
        }
        Self { inotify }
    }

    /// The names of the files opened since the last call, each as often as it was opened; folders do not count.
    pub fn take(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 64 * 1024];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut opened = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => panic!("too many files were opened"),
                Ok(event) if event.events().contains(ReadFlags::ISDIR) => {}
                Ok(event) => opened.extend(event.file_name().map(|name| name.to_string_lossy().into_owned())),
                Err(Errno::AGAIN) => return opened,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}
