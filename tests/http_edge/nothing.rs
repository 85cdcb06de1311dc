//! A buffer in which nothing lies, for servers whose tests ask nothing of it.

use std::sync::Arc;

use async_trait::async_trait;
use prometheus::Registry;
use systole::buffer::{
    self, Batchers, DeadLetter, DeadLetterId, DeadLetterNote, Devices, Durability, FrameMark, FramePage, Frames,
    Inspect, PartitionStatus, Reach, Registration, SeenDevice,
};
use systole::heartbeat::Partition;
use systole::http::Services;
use systole::overview::report::Role;
use systole::overview::{Overview, Sources};
use systole::query::{self, Reading};
use systole::telemetry::health::Health;
use tokio::sync::watch;

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Reach for Nothing {
    async fn durability(&self) -> buffer::Result<Durability> {
        Ok(Durability { level: "volatile", window: "all".to_owned(), wait_replicas: 0 })
    }

    async fn ping(&self) -> buffer::Result<()> {
        Ok(())
    }

    async fn registration(&self) -> buffer::Result<Option<Registration>> {
        Ok(None)
    }
}

#[async_trait]
impl Frames for Nothing {
    async fn frames(&self, _: Partition, _: Option<FrameMark>) -> buffer::Result<FramePage> {
        Ok(FramePage::default())
    }
}

#[async_trait]
impl Devices for Nothing {
    async fn devices_of(&self, _: Partition, _: &str, _: Option<&str>, _: u32) -> buffer::Result<Vec<SeenDevice>> {
        Ok(Vec::new())
    }

    async fn devices_unseen(
        &self,
        _: Partition,
        _: i64,
        _: Option<&SeenDevice>,
        _: u32,
    ) -> buffer::Result<Vec<SeenDevice>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Inspect for Nothing {
    async fn status(&self, _: Partition) -> buffer::Result<PartitionStatus> {
        Err(buffer::Error::NotRegistered)
    }

    async fn batchers(&self) -> buffer::Result<Batchers> {
        Ok(Vec::new())
    }

    async fn dead_letters(&self, _: Partition, _: Option<DeadLetterId>, _: u32) -> buffer::Result<Vec<DeadLetter>> {
        Ok(Vec::new())
    }

    async fn newest_dead_letters(&self, _: Partition, _: u32) -> buffer::Result<Vec<DeadLetterNote>> {
        Ok(Vec::new())
    }

    async fn dead_letter(&self, _: Partition, _: DeadLetterId) -> buffer::Result<Option<DeadLetter>> {
        Ok(None)
    }

    async fn retry_dead_letter(&self, _: Partition, _: DeadLetterId) -> buffer::Result<bool> {
        Ok(false)
    }

    async fn drop_dead_letter(&self, _: Partition, _: DeadLetterId) -> buffer::Result<bool> {
        Ok(false)
    }
}

/// What answers questions from it.
pub fn services() -> Services {
    services_of(Arc::new(Nothing))
}

/// The same of a buffer in which something lies.
pub fn services_of(frames: Arc<dyn Frames>) -> Services {
    let nothing = Arc::new(Nothing);
    let sources = Sources {
        role: Role::Serve,
        buffer: nothing.clone(),
        devices: nothing.clone(),
        dataset: None,
        publish_lag: std::time::Duration::from_secs(300),
        snapshot: watch::Sender::new(None).subscribe(),
        fault: watch::Sender::new(None).subscribe(),
        batcher_ttl: std::time::Duration::from_secs(30),
        health: Health::new(),
    };
    let overview = Overview::new(sources, &Registry::new()).unwrap();
    let metrics = query::Metrics::register(&Registry::new()).unwrap();
    let reading = Reading::new(frames, None, &query::Options::default(), metrics);
    let week = std::time::Duration::from_secs(7 * 86_400);
    Services { reading, devices: nothing, remember_devices: week, overview }
}
