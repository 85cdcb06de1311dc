//! What the suite needs of a backend, and how Redis gives it.

use std::sync::Arc;

use bytesize::ByteSize;
use systole::buffer::options::Options;
use systole::buffer::redis::RedisBuffer;
use systole::buffer::{Buffer, Registration};
use systole::heartbeat::DatasetId;

use crate::redis_server::RedisServer;

/// The dataset of the tests: two partitions.
pub const DATASET: Registration = Registration { dataset: DatasetId::from_u128(0xda7a), partitions: 2 };

/// Total caps of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub heartbeats: u64,
    pub bytes: u64,
}

/// Far more than any behaviour needs.
pub const AMPLE: Caps = Caps { heartbeats: 1_000_000, bytes: 1 << 30 };

/// One backend under test.
pub trait Backend {
    /// Another process's view of the same buffer: shares its content, not its memory.
    fn open(&self, caps: Caps) -> Arc<dyn Buffer>;

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

    pub fn options(&self) -> Options {
        Options { buffer: self.server.url().parse().unwrap(), ..Options::default() }
    }
}

pub fn connect(options: &Options) -> Arc<dyn Buffer> {
    Arc::new(RedisBuffer::connect(options).unwrap())
}

impl Backend for Redis {
    fn open(&self, caps: Caps) -> Arc<dyn Buffer> {
        connect(&Options {
            buffer_max_heartbeats: caps.heartbeats,
            buffer_max_bytes: ByteSize::b(caps.bytes),
            ..self.options()
        })
    }

    fn crash_and_restart(&mut self) {
        self.server.restart();
    }

    fn clear(&mut self) {
        self.server.cli(&["FLUSHALL"]);
    }
}
