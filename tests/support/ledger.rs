//! The independent ledger: what was answered 202, and what may or may not be held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use serde_json::Value;

use super::beats::{Beat, Identity};

/// Shared by all clients of a test.
#[derive(Debug, Default)]
pub struct Ledger {
    number: Number,
    entries: Mutex<Entries>,
    answered: Mutex<Vec<(Instant, Identity)>>,
}

/// Tells ledgers apart, those of several runs too.
#[derive(Debug)]
struct Number(u128);

impl Default for Number {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(now.as_nanos() << 16 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff))
    }
}

/// What the ledger holds.
#[derive(Debug, Default, Clone)]
pub struct Entries {
    /// Answered 202; with each attributes that were sent under the identity and may stand.
    pub kept: BTreeMap<Identity, Vec<Option<Value>>>,
    /// The answer was lost, or was one that leaves it open: may stand, need not.
    pub maybe: BTreeSet<Identity>,
    /// Answered 202, and moved from `kept` to `maybe`.
    pub excused: u64,
}

impl Ledger {
    /// No other ledger has it.
    pub fn number(&self) -> u128 {
        self.number.0
    }

    /// It was answered 202: from now on it must never be missing.
    pub fn keep(&self, beat: &Beat) {
        let mut entries = self.entries.lock().unwrap();
        let sent = entries.kept.entry(beat.identity.clone()).or_default();
        if !sent.contains(&beat.attributes) {
            sent.push(beat.attributes.clone());
        }
        self.answered.lock().unwrap().push((Instant::now(), beat.identity.clone()));
    }

    /// What was answered since then may be missing: the window of loss of a buffer that has one. Answers how many remain
    /// that must not.
    pub fn excuse_since(&self, then: Instant) -> usize {
        let mut entries = self.entries.lock().unwrap();
        for (_, identity) in self.answered.lock().unwrap().iter().filter(|(answered, _)| *answered >= then) {
            if entries.kept.remove(identity).is_some() {
                entries.excused += 1;
            }
            entries.maybe.insert(identity.clone());
        }
        entries.kept.len()
    }

    /// Nobody knows whether it is held.
    pub fn maybe(&self, beat: &Beat) {
        self.entries.lock().unwrap().maybe.insert(beat.identity.clone());
    }

    /// How many heartbeats were answered 202, resends among them: as many as the buffer must have accepted at least.
    pub fn answered(&self) -> u64 {
        self.answered.lock().unwrap().len() as u64
    }

    /// How many heartbeats were answered 202 and may be missing all the same.
    pub fn excused(&self) -> u64 {
        self.entries.lock().unwrap().excused
    }

    /// Whatever was answered 202, what is excused among it.
    pub fn ever_answered(&self) -> BTreeSet<Identity> {
        self.answered.lock().unwrap().iter().map(|(_, identity)| identity.clone()).collect()
    }

    /// How many identities were answered 202.
    pub fn kept(&self) -> usize {
        self.entries.lock().unwrap().kept.len()
    }

    /// The state at this instant.
    pub fn entries(&self) -> Entries {
        self.entries.lock().unwrap().clone()
    }
}
