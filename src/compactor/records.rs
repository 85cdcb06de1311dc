//! Records of published files, read once each.
//!
//! Constraints: a published file never changes under its name, so what was read of it stays right in every process; and
//! each cache is bounded, the oldest entries going first, because a dataset has no bound on its files.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use super::policy::FileFacts;
use crate::dataset::{self, Bucket, Dataset, PublishRecord, PublishedName};

/// Merged claims held in memory at most: some 50 bytes each.
const CLAIMS: usize = 500_000;
/// Files whose facts are held in memory at most: some 100 bytes each.
const FILES: usize = 200_000;

/// What is remembered of published files.
#[derive(Debug)]
pub(super) struct Records {
    records: Mutex<Bounded<PublishedName, Arc<PublishRecord>>>,
    facts: Mutex<Bounded<PublishedName, FileFacts>>,
}

impl Records {
    pub fn new() -> Self {
        Self { records: Mutex::new(Bounded::new(CLAIMS)), facts: Mutex::new(Bounded::new(FILES)) }
    }

    /// The record in the footer of a file.
    pub fn record(
        &self,
        dataset: &Dataset,
        bucket: Bucket,
        name: &PublishedName,
    ) -> dataset::Result<Arc<PublishRecord>> {
        let lock = || self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(name) {
            return Ok(known);
        }
        let record = Arc::new(dataset.publish_record(bucket, name)?);
        lock().insert(*name, Arc::clone(&record), record.claims.len() + 1);
        Ok(record)
    }

    /// What the policy wants to know of a file.
    pub fn facts(&self, dataset: &Dataset, bucket: Bucket, name: &PublishedName) -> dataset::Result<FileFacts> {
        let lock = || self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(name) {
            return Ok(known);
        }
        // Not kept among the records: a look over all buckets would push out those of the busy ones.
        let known = self.records.lock().unwrap_or_else(PoisonError::into_inner).get(name);
        let record = match known {
            Some(known) => known,
            None => Arc::new(dataset.publish_record(bucket, name)?),
        };
        let facts = FileFacts {
            rows: record.published_rows,
            born: name.file.born(),
            consolidated: record.consolidated_files > 0,
        };
        lock().insert(*name, facts, 1);
        Ok(facts)
    }
}

/// A map whose entries weigh something; past the bound the oldest go.
#[derive(Debug)]
struct Bounded<K, V> {
    bound: usize,
    weight: usize,
    map: HashMap<K, (V, usize)>,
    age: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V: Clone> Bounded<K, V> {
    fn new(bound: usize) -> Self {
        Self { bound, weight: 0, map: HashMap::new(), age: VecDeque::new() }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.map.get(key).map(|(value, _)| value.clone())
    }

    fn insert(&mut self, key: K, value: V, weight: usize) {
        match self.map.insert(key, (value, weight)) {
            Some((_, before)) => self.weight -= before,
            None => self.age.push_back(key),
        }
        self.weight += weight;
        while self.weight > self.bound {
            let Some(oldest) = self.age.pop_front() else {
                return;
            };
            if let Some((_, weight)) = self.map.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_its_bound_the_oldest_entries_go() {
        let mut bounded = Bounded::new(10);
        for key in 0..5 {
            bounded.insert(key, key, 3);
        }
        assert_eq!(
            (bounded.get(&0), bounded.get(&1), bounded.get(&2), bounded.get(&4)),
            (None, None, Some(2), Some(4))
        );
        bounded.insert(4, 40, 1);
        assert_eq!((bounded.get(&4), bounded.weight, bounded.age.len()), (Some(40), 7, 3));
        bounded.insert(9, 9, 99);
        assert_eq!((bounded.map.len(), bounded.weight), (0, 0), "an entry heavier than the bound is not kept");
    }
}
