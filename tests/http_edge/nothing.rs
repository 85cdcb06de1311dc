//! A buffer in which nothing lies, for servers whose tests ask nothing of it.

use std::sync::Arc;

use async_trait::async_trait;
use systole::buffer::{self, Devices, Durability, FrameMark, FramePage, Frames, Reach, Registration, SeenDevice};
use systole::heartbeat::Partition;
use systole::http::Services;
use systole::query::{self, Reading};

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

/// What answers questions from it.
pub fn services() -> Services {
    services_of(Arc::new(Nothing))
}

/// The same of a buffer in which something lies.
pub fn services_of(frames: Arc<dyn Frames>) -> Services {
    let metrics = query::Metrics::register(&systole::telemetry::metrics::registry().unwrap()).unwrap();
    let reading = Reading::new(frames, None, &query::Options::default(), metrics);
    Services { reading, devices: Arc::new(Nothing) }
}
