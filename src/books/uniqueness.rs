//! Does an identity stand in two published files of a bucket? Only looks: no merge, no temp file, bounded memory.
//!
//! The 64-bit hashes of all identities are collected and sorted, a slice of the hash space at a time when the bucket is
//! large; hashes that stand twice are then told apart from collisions by reading their rows once more.

use std::collections::{HashMap, HashSet};

use crate::dataset::{Bucket, Dataset, PublishedName, Result};
use crate::heartbeat::HeartbeatRef;

/// Hashes held at once: 128 MiB.
const MAX_HASHES: u64 = 16 * 1024 * 1024;
/// Suspects looked at more closely; a bucket with more is broken anyway.
const MAX_SUSPECTS: usize = 1_000;

/// Rows whose identity stands in another row of the same files as well, counted beyond the first.
///
/// # Errors
/// A file that cannot be read.
pub fn count_repeats(dataset: &Dataset, bucket: Bucket, names: &[PublishedName]) -> Result<u64> {
    let mut rows = 0;
    for name in names {
        rows += dataset.open_published(bucket, name)?.rows();
    }
    let slices = rows.div_ceil(MAX_HASHES).max(1);
    let mut suspects = HashSet::new();
    for slice in 0..slices {
        let mut hashes = Vec::new();
        for_each_row(dataset, bucket, names, |row| {
            let hash = row.identity_hash();
            if hash % slices == slice {
                hashes.push(hash);
            }
        })?;
        hashes.sort_unstable();
        let twice = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        suspects.extend(twice.take(MAX_SUSPECTS.saturating_sub(suspects.len())));
    }
    if suspects.is_empty() { Ok(0) } else { count_among(dataset, bucket, names, &suspects) }
}

fn count_among(dataset: &Dataset, bucket: Bucket, names: &[PublishedName], suspects: &HashSet<u64>) -> Result<u64> {
    type Identity = (String, String, i64, Option<String>);
    let mut met: HashMap<Identity, u64> = HashMap::new();
    for_each_row(dataset, bucket, names, |row| {
        if suspects.contains(&row.identity_hash()) {
            let (user_id, device_id, timestamp, id) = row.identity();
            *met.entry((user_id.into(), device_id.into(), timestamp, id.map(Into::into))).or_default() += 1;
        }
    })?;
    Ok(met.values().map(|times| times - 1).sum())
}

fn for_each_row(
    dataset: &Dataset,
    bucket: Bucket,
    names: &[PublishedName],
    mut look: impl FnMut(HeartbeatRef<'_>),
) -> Result<()> {
    for name in names {
        let mut reader = dataset.open_published(bucket, name)?;
        while let Some(batch) = reader.next_batch()? {
            batch.rows().for_each(&mut look);
        }
    }
    Ok(())
}
