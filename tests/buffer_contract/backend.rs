//! What the suite needs of a backend, and how each gives it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytesize::ByteSize;
use systole::buffer::embedded::{self, EmbeddedBuffer};
use systole::buffer::options::Options;
use systole::buffer::redis::{self, RedisBuffer};
use systole::buffer::{Alarms, Buffer, Devices, Frames, Registration, Tokens};
use systole::heartbeat::DatasetId;

use tempfile::TempDir;

use crate::redis_server::RedisServer;

/// The dataset of the tests: two partitions.
pub const DATASET: Registration = Registration { dataset: DatasetId::from_u128(0xda7a), partitions: 2 };

/// Total caps of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub heartbeats: u64,
    pub bytes: u64,
}

impl Caps {
    pub fn options(self) -> Options {
        Options {
            buffer_max_heartbeats: self.heartbeats,
            buffer_max_bytes: ByteSize::b(self.bytes),
            ..Options::default()
        }
    }
}

/// Far more than any behaviour needs.
pub const AMPLE: Caps = Caps { heartbeats: 1_000_000, bytes: 1 << 30 };

/// One backend under test.
pub trait Backend {
    /// Another process's view of the same buffer: shares its content, not its memory.
    fn open(&self, caps: Caps) -> Arc<dyn Buffer>;

    /// Another process's view of it, with these options, as a buffer and as what it remembers of devices.
    fn remembering(&self, options: &Options) -> (Arc<dyn Buffer>, Arc<dyn Devices>);

    /// Another process's view of its tokens.
    fn tokens(&self) -> Arc<dyn Tokens>;

    /// Another process's view of what is kept of silence. Not through the socket: nobody watches from there.
    fn alarms(&self) -> Arc<dyn Alarms>;

    /// Another process's view of the frames that lie in it.
    fn frames(&self) -> Arc<dyn Frames>;

    /// Kills the store in mid-air and brings it up again on what it had made durable.
    fn crash_and_restart(&mut self);

    /// Takes everything out of the store, as if it were new.
    fn clear(&mut self);
}

/// A buffer that is registered for [`DATASET`].
pub async fn registered(backend: &dyn Backend, caps: Caps) -> Arc<dyn Buffer> {
    let buffer = backend.open(caps);
    buffer.register(DATASET).await.unwrap();
    buffer
}

/// Redis with `appendfsync always`.
#[derive(Debug)]
pub struct Redis {
    pub server: RedisServer,
}

impl Redis {
    pub fn start() -> Self {
        Self { server: RedisServer::with().appendfsync("always").start() }
    }

    pub fn place(&self) -> redis::Options {
        redis::Options { buffer: Some(self.server.url().parse().unwrap()), ..Default::default() }
    }
}

pub fn connect(options: &Options, place: &redis::Options) -> Arc<dyn Buffer> {
    Arc::new(RedisBuffer::connect(options, place).unwrap())
}

impl Backend for Redis {
    fn open(&self, caps: Caps) -> Arc<dyn Buffer> {
        connect(&caps.options(), &self.place())
    }

    fn remembering(&self, options: &Options) -> (Arc<dyn Buffer>, Arc<dyn Devices>) {
        let buffer = Arc::new(RedisBuffer::connect(options, &self.place()).unwrap());
        (buffer.clone(), buffer)
    }

    fn tokens(&self) -> Arc<dyn Tokens> {
        Arc::new(RedisBuffer::connect(&AMPLE.options(), &self.place()).unwrap())
    }

    fn alarms(&self) -> Arc<dyn Alarms> {
        Arc::new(RedisBuffer::connect(&AMPLE.options(), &self.place()).unwrap())
    }

    fn frames(&self) -> Arc<dyn Frames> {
        Arc::new(RedisBuffer::connect(&AMPLE.options(), &self.place()).unwrap())
    }

    fn crash_and_restart(&mut self) {
        self.server.restart();
    }

    fn clear(&mut self) {
        self.server.cli(&["FLUSHALL"]);
    }
}

/// The embedded buffer in a directory of its own.
#[derive(Debug)]
pub struct Embedded {
    // Closed before its folder is removed.
    pub buffer: EmbeddedBuffer,
    pub dir: TempDir,
    /// Folders from before a restart, for those who still hold their buffer.
    pub left: Vec<TempDir>,
}

/// Far more room than a test's disk may have is not asked for.
pub fn own_options() -> embedded::Options {
    embedded::Options { buffer_min_free: ByteSize::mib(1) }
}

pub fn open(dir: &Path) -> EmbeddedBuffer {
    EmbeddedBuffer::open(dir, &Options::default(), &own_options()).unwrap()
}

impl Embedded {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { buffer: open(dir.path()), dir, left: Vec::new() }
    }
}

/// Copies a folder as it stands at one instant: while the store still tidies behind its last step, the copy is made anew.
pub fn copy(from: &Path, to: &Path) {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < give_up, "{} does not come to rest", from.display());
        let before = listing(from);
        if try_copy(from, to).is_ok() && before.is_ok() && before.ok() == listing(from).ok() {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every file below, with its length and the time of its last change.
fn listing(folder: &Path) -> io::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.append(&mut listing(&entry.path())?);
        } else {
            let about = entry.metadata()?;
            found.insert(entry.path(), (about.len(), about.modified()?));
        }
    }
    Ok(found)
}

fn try_copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Backend for Embedded {
    fn open(&self, caps: Caps) -> Arc<dyn Buffer> {
        Arc::new(self.buffer.another(&caps.options()))
    }

    fn remembering(&self, options: &Options) -> (Arc<dyn Buffer>, Arc<dyn Devices>) {
        let buffer = Arc::new(self.buffer.another(options));
        (buffer.clone(), buffer)
    }

    fn tokens(&self) -> Arc<dyn Tokens> {
        Arc::new(self.buffer.another(&AMPLE.options()))
    }

    fn alarms(&self) -> Arc<dyn Alarms> {
        Arc::new(self.buffer.another(&AMPLE.options()))
    }

    fn frames(&self) -> Arc<dyn Frames> {
        Arc::new(self.buffer.another(&AMPLE.options()))
    }

    /// Nobody writes at the moment, so a copy of the files is what a kill would leave; `embedded_only` kills for real.
    fn crash_and_restart(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        self.buffer = open(dir.path());
        self.left.push(std::mem::replace(&mut self.dir, dir));
    }

    fn clear(&mut self) {
        *self = Self::start();
    }
}
