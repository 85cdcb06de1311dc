//! What people must look at one by one: dead letters and silent devices. Asked of the buffer only while somebody looks.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use super::report::{DeadLetters, Letter, Silent, StoppedDevice};
use crate::buffer::{Devices, Inspect, PartitionStatus, Result, SeenDevice, Unseen};
use crate::heartbeat::Partition;

/// Of each that are told.
const TOLD: usize = 20;
/// One more, to know whether there are more.
const ASKED: u32 = TOLD as u32 + 1;
/// How long a device may be silent.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(5 * 60);
/// Partitions that are asked at the same time: fewer than the connections of a process.
const AT_ONCE: usize = 4;

/// The newest dead letters of those partitions that have any.
pub(super) async fn dead_letters(buffer: &dyn Inspect, partitions: &[PartitionStatus]) -> Result<DeadLetters> {
    let dead: Vec<Partition> =
        partitions.iter().filter(|status| status.ledger.dead > 0).map(|status| status.partition).collect();
    let found: Vec<_> = stream::iter(dead)
        .map(async |partition| Ok((partition, buffer.newest_dead_letters(partition, ASKED).await?)))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut letters: Vec<_> =
        found.into_iter().flat_map(|(partition, notes)| notes.into_iter().map(move |note| (partition, note))).collect();
    letters.sort_unstable_by_key(|(_, note)| Reverse(note.id));
    let more = letters.len() > TOLD;
    letters.truncate(TOLD);
    let letters = letters.into_iter().map(|(partition, note)| Letter {
        id: note.id.to_string(),
        partition,
        rows: note.rows.into(),
        since: note.since,
        reason: note.reason,
    });
    let heartbeats = partitions.iter().map(|status| status.ledger.dead).sum();
    Ok(DeadLetters { heartbeats, letters: letters.collect(), more })
}

/// The devices that have been silent for the longest.
pub(super) async fn silent(devices: Arc<dyn Devices>, partitions: Partition, now_ms: i64) -> Result<Silent> {
    let before = now_ms.saturating_sub(i64::try_from(SILENT_AFTER.as_millis()).unwrap_or(i64::MAX));
    let mut unseen = Unseen::new(devices, 0..partitions, before, None, ASKED);
    let mut silent = Vec::new();
    while let Some(SeenDevice { user_id, device_id, last_seen }) = unseen.next().await? {
        if silent.len() == TOLD {
            return Ok(Silent { after_s: SILENT_AFTER.as_secs(), devices: silent, more: true });
        }
        silent.push(StoppedDevice { user_id, device_id, last_seen });
    }
    Ok(Silent { after_s: SILENT_AFTER.as_secs(), devices: silent, more: false })
}
