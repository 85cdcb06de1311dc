//! The embedded buffer as another process sees it: what people ask goes through a socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use systole::buffer::options::Options;
use systole::buffer::socket::{ControlSocket, SocketBuffer};
use systole::buffer::{
    Administer, Alarms, Batchers, Buffer, Claim, ClaimBudget, Condemned, DeadLetter, DeadLetterId, DeadLetterNote,
    Devices, Durability, FrameMark, FramePage, Frames, Inlet, Inspect, Lease, LeaseAnswer, PartitionStatus, Reach,
    Registration, Result, Room, SeenDevice, Tokens,
};
use systole::heartbeat::{BatcherId, ClaimId, Frame, Partition};
use systole::token::{StoredToken, TokenId, TokenList, TokenVersion};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::{AMPLE, Backend, Caps, Embedded};

/// The embedded buffer, looked at through a socket.
#[derive(Debug)]
pub struct Socket {
    inner: Embedded,
    sockets: TempDir,
    next: AtomicU32,
}

impl Socket {
    pub fn start() -> Self {
        Self { inner: Embedded::start(), sockets: tempfile::tempdir().unwrap(), next: AtomicU32::new(0) }
    }

    fn split(&self, options: &Options) -> Split {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.sockets.path().join(format!("{number}.sock"));
        let buffer = Arc::new(self.inner.buffer.another(options));
        let far = SocketBuffer::new(&path, options);
        Split { server: Served::start(path, buffer.clone()), far, near: buffer }
    }
}

impl Socket {
    fn far(&self) -> Far {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.sockets.path().join(format!("{number}.sock"));
        let far = SocketBuffer::new(&path, &AMPLE.options());
        let near = Arc::new(self.inner.buffer.another(&AMPLE.options()));
        Far { server: Served::start(path, near), far }
    }
}

impl Backend for Socket {
    fn open(&self, caps: Caps) -> Arc<dyn Buffer> {
        Arc::new(self.split(&caps.options()))
    }

    fn remembering(&self, options: &Options) -> (Arc<dyn Buffer>, Arc<dyn Devices>) {
        let split = Arc::new(self.split(options));
        (split.clone(), split)
    }

    fn tokens(&self) -> Arc<dyn Tokens> {
        Arc::new(self.far())
    }

    fn frames(&self) -> Arc<dyn Frames> {
        Arc::new(self.far())
    }

    fn alarms(&self) -> Arc<dyn Alarms> {
        self.inner.alarms()
    }

    fn crash_and_restart(&mut self) {
        self.inner.crash_and_restart();
    }

    fn clear(&mut self) {
        self.inner.clear();
    }
}

/// A buffer behind a socket, in a thread of its own that ends with this value.
#[derive(Debug)]
pub struct Served {
    stop: Option<DropGuard>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub fn start(path: PathBuf, buffer: Arc<dyn Administer>) -> Self {
        let shutdown = CancellationToken::new();
        let stop = Some(shutdown.clone().drop_guard());
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = ControlSocket::bind(&path).unwrap();
                bound.send(()).unwrap();
                socket.run(buffer, shutdown).await.unwrap();
            });
        });
        is_bound.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// What people ask goes through the socket, everything else straight to the buffer.
#[derive(Debug)]
struct Split {
    far: SocketBuffer,
    near: Arc<dyn Buffer>,
    #[allow(dead_code, reason = "it serves until it is dropped")]
    server: Served,
}

/// Tokens and frames as another process sees them.
#[derive(Debug)]
struct Far {
    far: SocketBuffer,
    #[allow(dead_code, reason = "it serves until it is dropped")]
    server: Served,
}

#[async_trait]
impl Tokens for Far {
    async fn tokens(&self, known: Option<TokenVersion>) -> Result<Option<TokenList>> {
        self.far.tokens(known).await
    }

    async fn create_token(&self, token: &StoredToken) -> Result<bool> {
        self.far.create_token(token).await
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool> {
        self.far.revoke_token(id).await
    }
}

#[async_trait]
impl Reach for Far {
    async fn durability(&self) -> Result<Durability> {
        self.far.durability().await
    }

    async fn ping(&self) -> Result<()> {
        self.far.ping().await
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        self.far.registration().await
    }
}

#[async_trait]
impl Frames for Far {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> Result<FramePage> {
        self.far.frames(partition, from).await
    }
}

#[async_trait]
impl Reach for Split {
    async fn durability(&self) -> Result<Durability> {
        self.far.durability().await
    }

    async fn ping(&self) -> Result<()> {
        self.far.ping().await
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        self.far.registration().await
    }
}

#[async_trait]
impl Inspect for Split {
    async fn status(&self, partition: Partition) -> Result<PartitionStatus> {
        self.far.status(partition).await
    }

    async fn batchers(&self) -> Result<Batchers> {
        self.far.batchers().await
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        self.far.dead_letters(partition, after, limit).await
    }

    async fn newest_dead_letters(&self, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>> {
        self.far.newest_dead_letters(partition, limit).await
    }

    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        self.far.dead_letter(partition, id).await
    }

    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.far.retry_dead_letter(partition, id).await
    }

    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.far.drop_dead_letter(partition, id).await
    }
}

#[async_trait]
impl Devices for Split {
    async fn devices_of(
        &self,
        partition: Partition,
        user_id: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        self.far.devices_of(partition, user_id, after, limit).await
    }

    async fn devices_unseen(
        &self,
        partition: Partition,
        before: i64,
        after: Option<&SeenDevice>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        self.far.devices_unseen(partition, before, after, limit).await
    }
}

#[async_trait]
impl Inlet for Split {
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        self.near.room(wanted).await
    }

    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        self.near.push(frames).await
    }
}

#[async_trait]
impl Buffer for Split {
    async fn register(&self, registration: Registration) -> Result<()> {
        self.near.register(registration).await
    }

    async fn announce(&self, batcher: BatcherId, ttl: Duration) -> Result<Vec<BatcherId>> {
        self.near.announce(batcher, ttl).await
    }

    async fn retire(&self, batcher: BatcherId) -> Result<()> {
        self.near.retire(batcher).await
    }

    async fn lease(&self, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer> {
        self.near.lease(partition, batcher, ttl).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<()> {
        self.near.renew(lease, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.near.release(lease).await
    }

    async fn claim(&self, lease: &Lease, id: ClaimId, budget: ClaimBudget) -> Result<Option<Claim>> {
        self.near.claim(lease, id, budget).await
    }

    async fn take_in_hand(&self, lease: &Lease, claim: ClaimId, frame: Option<u32>) -> Result<()> {
        self.near.take_in_hand(lease, claim, frame).await
    }

    async fn condemn(&self, lease: &Lease, claim: ClaimId, condemned: &[Condemned]) -> Result<()> {
        self.near.condemn(lease, claim, condemned).await
    }

    async fn ack(&self, lease: &Lease, claim: ClaimId, left_out: &[Condemned]) -> Result<()> {
        self.near.ack(lease, claim, left_out).await
    }
}
