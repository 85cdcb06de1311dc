//! Which devices have beaten, and when last.

use async_trait::async_trait;

use super::super::{Devices, Result, SeenDevice};
use super::SocketBuffer;
use super::client::strange;
use super::wire::{Answer, Call};
use crate::heartbeat::Partition;

#[async_trait]
impl Devices for SocketBuffer {
    async fn devices_of(
        &self,
        partition: Partition,
        user_id: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        let (user_id, after) = (user_id.to_owned(), after.map(str::to_owned));
        self.devices(Call::DevicesOf { partition, user_id, after, limit }).await
    }

    async fn devices_unseen(
        &self,
        partition: Partition,
        before: i64,
        after: Option<&SeenDevice>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        self.devices(Call::DevicesUnseen { partition, before, after: after.cloned(), limit }).await
    }
}

impl SocketBuffer {
    async fn devices(&self, call: Call) -> Result<Vec<SeenDevice>> {
        match self.call(call).await? {
            (Answer::Devices(devices), _) => Ok(devices),
            (other, _) => strange(&other),
        }
    }
}
