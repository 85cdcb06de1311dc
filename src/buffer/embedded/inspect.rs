//! What people and monitors ask of the buffer, and what people decide about its dead letters.

use std::cmp::Reverse;
use std::time::Duration;

use async_trait::async_trait;

use super::super::{
    Batchers, DeadLetter, DeadLetterId, DeadLetterNote, Inspect, Ledger, PartitionStatus, Result, StandingClaim,
};
use super::EmbeddedBuffer;
use super::buffer::{age, caps, is_ahead};
use super::engine::Engine;
use super::letters;
use super::state::{Caps, Load};
use super::store::Kept;
use crate::heartbeat::Partition;

/// Where a frame's header has the smallest `received_at` (see `heartbeat/frame.rs`).
const OLDEST_AT: std::ops::Range<usize> = 17..25;

impl EmbeddedBuffer {
    /// The books of all partitions together, looked at one after the other; all zero before it is registered.
    ///
    /// # Errors
    /// As any step's.
    pub async fn total(&self) -> Result<Ledger> {
        self.run(*self.shared.options.step_deadline, |shared| shared.store.total()).await
    }
}

#[async_trait]
impl Inspect for EmbeddedBuffer {
    async fn status(&self, partition: Partition) -> Result<PartitionStatus> {
        self.run(*self.shared.options.step_deadline, move |shared| {
            let caps = shared.caps(shared.registered()?);
            shared.store.look(partition, |kept, engine| status(engine, kept, partition, caps))
        })
        .await
    }

    async fn batchers(&self) -> Result<Batchers> {
        let mut list: Batchers = self.shared.store.batchers().iter().map(|(id, seen)| (*id, seen.elapsed())).collect();
        // The longest silent first, as on Redis.
        list.sort_unstable_by_key(|(_, silent)| Reverse(*silent));
        Ok(list)
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        self.step(move |store, _| letters::list(store, partition, after, limit)).await
    }

    async fn newest_dead_letters(&self, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>> {
        self.step(move |store, _| letters::newest(store, partition, limit)).await
    }

    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        self.step(move |store, _| letters::show(store, partition, id)).await
    }

    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        let options = self.shared.options.clone();
        self.step(move |store, registration| letters::retry(store, partition, id, caps(&options, registration))).await
    }

    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.step(move |store, _| letters::discard(store, partition, id)).await
    }
}

fn status(engine: &Engine, kept: &Kept, partition: Partition, caps: Caps) -> Result<PartitionStatus> {
    let Kept { state, lease_until, roll } = kept;
    let oldest = if state.pending == state.next {
        None
    } else {
        engine.frames(partition, state.pending..state.pending + 1).next().transpose()?
    };
    let oldest_pending = oldest.map(|frame| {
        // The accepting server's clock; what cannot be read has waited for no known time.
        let received_at = frame.get(OLDEST_AT).filter(|_| Load::of(&frame).rows > 0);
        received_at
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(Duration::ZERO, |bytes| age(i64::from_le_bytes(bytes)))
    });
    let claim = state.claim.as_ref().map(|claim| StandingClaim {
        id: claim.id,
        rows: claim.rows,
        age: age(claim.since),
        deaths: claim.deaths,
    });
    Ok(PartitionStatus {
        partition,
        ledger: state.ledger,
        oldest_pending,
        owner: state.owner.filter(|_| is_ahead(*lease_until).is_some()),
        claim,
        cap_rows: caps.rows,
        cap_bytes: caps.bytes,
        devices: roll.len(),
        devices_forgotten: roll.forgotten(),
        vanished: 0,
    })
}
