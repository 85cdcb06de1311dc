//! A store that hangs when a test wants it to: whatever the backend, what is pushed waits before a gate.

use std::sync::Arc;

use async_trait::async_trait;
use systole::buffer::{Buffer, Durability, Inlet, Reach, Registration, Result, Room};
use systole::heartbeat::{Frame, Partition};
use tokio::sync::watch;

/// The way into a buffer, with a gate across it.
#[derive(Debug)]
pub struct Gate {
    buffer: Arc<dyn Buffer>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Open at first.
    pub fn before(buffer: Arc<dyn Buffer>) -> Arc<Self> {
        Arc::new(Self { buffer, open: watch::Sender::new(true) })
    }

    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    async fn pass(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

#[async_trait]
impl Reach for Gate {
    async fn durability(&self) -> Result<Durability> {
        self.buffer.durability().await
    }

    async fn ping(&self) -> Result<()> {
        self.buffer.ping().await
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        self.buffer.registration().await
    }
}

#[async_trait]
impl Inlet for Gate {
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        self.pass().await;
        self.buffer.room(wanted).await
    }

    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        self.pass().await;
        self.buffer.push(frames).await
    }
}
