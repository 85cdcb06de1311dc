//! What readers ask of a door with a spill: first what lies in the spill of this process, then what lies in Redis.
//!
//! That is the way that heartbeats go, so none that moves meanwhile is passed over: a frame leaves the spill only after Redis
//! confirmed it. What lies in the spills of other processes nobody but they know of, until it is in Redis.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::{Durability, FrameMark, FramePage, Frames, Reach, Registration, Result};
use super::shared::Shared;
use super::store::of_spill;
use crate::heartbeat::Partition;

/// The spill has one list: number 0. Those of Redis come behind it.
const SPILL_LISTS: u8 = 1;
/// Stands for the first call to Redis, which has no mark.
const REDIS_BEGINS: FrameMark = FrameMark { list: u8::MAX, at: 0, end: 0 };

/// The frames of the spill and of Redis, one after the other.
#[derive(Debug)]
pub struct SpilledFrames {
    shared: Arc<Shared>,
    redis: Arc<dyn Frames>,
}

impl SpilledFrames {
    pub(super) fn new(shared: Arc<Shared>, redis: Arc<dyn Frames>) -> Self {
        Self { shared, redis }
    }
}

#[async_trait]
impl Reach for SpilledFrames {
    async fn durability(&self) -> Result<Durability> {
        self.redis.durability().await
    }

    async fn ping(&self) -> Result<()> {
        self.redis.ping().await
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        self.redis.registration().await
    }
}

#[async_trait]
impl Frames for SpilledFrames {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> Result<FramePage> {
        let in_redis = match from {
            Some(REDIS_BEGINS) => Some(None),
            Some(mark) => mark.list.checked_sub(SPILL_LISTS).map(|list| Some(FrameMark { list, ..mark })),
            // Before Redis was seen once there is no spill.
            None => self.shared.store.registration().is_none().then_some(None),
        };
        if let Some(from) = in_redis {
            let FramePage { frames, next } = self.redis.frames(partition, from).await?;
            let next = next.map(|mark| FrameMark { list: mark.list + SPILL_LISTS, ..mark });
            return Ok(FramePage { frames, next });
        }
        let page = self.shared.store.buffer.frames(partition, from).await.map_err(of_spill)?;
        Ok(FramePage { next: page.next.or(Some(REDIS_BEGINS)), ..page })
    }
}
