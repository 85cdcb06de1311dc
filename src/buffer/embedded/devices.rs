//! Which devices have beaten, and when last: answered from memory (`roll.rs`).

use async_trait::async_trait;

use super::super::devices::Memory;
use super::super::{DEVICES_AT_ONCE, Devices, Result, SeenDevice};
use super::EmbeddedBuffer;
use crate::heartbeat::Partition;

#[async_trait]
impl Devices for EmbeddedBuffer {
    async fn devices_of(
        &self,
        partition: Partition,
        user_id: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        let (user_id, after) = (user_id.to_owned(), after.map(str::to_owned));
        let options = self.shared.options.clone();
        self.step(move |store, registration| {
            let since = Memory::of(&options, registration).since();
            store.look(partition, |kept, _| Ok(kept.roll.of(&user_id, after.as_deref(), most(limit), since)))
        })
        .await
    }

    async fn devices_unseen(
        &self,
        partition: Partition,
        before: i64,
        after: Option<&SeenDevice>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        let after = after.cloned();
        let options = self.shared.options.clone();
        self.step(move |store, registration| {
            let since = Memory::of(&options, registration).since();
            store.look(partition, |kept, _| Ok(kept.roll.unseen(before, after.as_ref(), most(limit), since)))
        })
        .await
    }
}

fn most(limit: u32) -> usize {
    limit.min(DEVICES_AT_ONCE) as usize
}
