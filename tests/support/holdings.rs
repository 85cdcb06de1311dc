//! What a buffer says that it holds: its ledger, by partition and column.

use std::collections::BTreeMap;

use super::metrics::Metrics;
use super::redis::RedisServer;

/// The columns of the ledger that add up to `accepted`.
const PARTS_OF_ACCEPTED: [&str; 5] = ["pending", "claimed", "acked", "dead", "dropped"];

/// One look at all partitions.
#[derive(Debug, Clone, Default)]
pub struct Holdings(Vec<BTreeMap<String, u64>>);

impl Holdings {
    /// As Redis has them at this moment, in the hash of each partition.
    pub fn in_redis(redis: &RedisServer, partitions: u64) -> Self {
        let read = |partition| {
            let state = format!("systole:{{p{partition}}}:state");
            let command = ["HMGET", &state, "bytes", "accepted"].into_iter().chain(PARTS_OF_ACCEPTED);
            let columns = ["bytes", "accepted"].into_iter().chain(PARTS_OF_ACCEPTED);
            // A field that there is not is an empty line.
            let values = redis.cli(&command.collect::<Vec<_>>());
            columns.zip(values.split('\n')).map(|(column, n)| (column.to_owned(), n.parse().unwrap_or(0))).collect()
        };
        Self((0..partitions).map(read).collect())
    }

    /// As a door last saw them. Fails for a scrape that fell between two looks, so that its books do not balance.
    pub fn in_metrics(metrics: &Metrics) -> Result<Self, String> {
        let mut partitions: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
        for sample in &metrics.samples {
            let column = match sample.name.as_str() {
                "systole_buffer_ledger_heartbeats" => sample.labels["column"].clone(),
                "systole_buffer_bytes" => "bytes".to_owned(),
                _ => continue,
            };
            let partition = sample.labels["partition"].parse().map_err(|_| format!("{sample:?}"))?;
            partitions.entry(partition).or_default().insert(column, sample.value as u64);
        }
        let whole = |held: &BTreeMap<String, u64>| {
            let of = |column: &str| held.get(column).copied().unwrap_or(0);
            of("accepted") == PARTS_OF_ACCEPTED.iter().map(|column| of(column)).sum::<u64>()
        };
        match partitions.values().find(|held| !whole(held)) {
            Some(held) => Err(format!("between two looks: {held:?}")),
            None if partitions.is_empty() => Err("nobody has looked yet".to_owned()),
            None => Ok(Self(partitions.into_values().collect())),
        }
    }

    /// A column (or `bytes`), summed over the partitions.
    pub fn sum(&self, column: &str) -> u64 {
        self.column(column).sum()
    }

    /// The same of the partition that has the most.
    pub fn most(&self, column: &str) -> u64 {
        self.column(column).max().unwrap_or(0)
    }

    fn column(&self, column: &str) -> impl Iterator<Item = u64> {
        self.0.iter().map(move |held| held.get(column).copied().unwrap_or(0))
    }
}
