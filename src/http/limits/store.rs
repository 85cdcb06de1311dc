//! Where a rate limiter keeps its keys: a map with a hard cap.
//!
//! governor's own maps grow with every key that anyone sends. This one holds at most `cap` keys; a new key that finds it
//! full is counted in one of [`SHARED`] slots that such keys share, chosen by the key. So memory is bounded, keys that
//! have a place keep their own count, and newcomers are slowed down together but never shut out. Pruning gives places back
//! from keys whose allowance is whole again: forgetting those changes nothing for them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use governor::nanos::Nanos;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::state::{InMemoryState, NotKeyed, StateStore};

/// Slots for keys that came when the map was full.
const SHARED: usize = 1024;

/// A key: a keyed hash of what is limited, so that an entry has a fixed size and no user's name stays in memory.
pub(super) type Key = u64;

pub(super) struct CappedStore {
    map: DashMapStateStore<Key>,
    /// Places taken in `map`, or about to be.
    taken: AtomicUsize,
    cap: usize,
    shared: Box<[InMemoryState]>,
    /// Raised when a key found the map full.
    overflowed: Arc<AtomicBool>,
}

impl fmt::Debug for CappedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CappedStore").field("taken", &self.taken).field("cap", &self.cap).finish_non_exhaustive()
    }
}

impl CappedStore {
    pub(super) fn new(cap: usize, overflowed: Arc<AtomicBool>) -> Self {
        Self {
            map: DashMapStateStore::default(),
            taken: AtomicUsize::new(0),
            cap,
            shared: (0..SHARED).map(|_| InMemoryState::default()).collect(),
            overflowed,
        }
    }

    fn take_place(&self) -> bool {
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < self.cap).then_some(taken + 1))
            .is_ok()
    }

    fn give_place_back(&self) {
        // Saturating: pruning may have counted anew, without this place, in between.
        let _ = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| Some(taken.saturating_sub(1)));
    }

    fn newcomer<T, E>(&self, key: Key, decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>) -> Result<T, E> {
        if !self.take_place() {
            self.overflowed.store(true, Ordering::Relaxed);
            // The remainder is below SHARED, so it fits.
            let slot = &self.shared[(key % SHARED as Key) as usize];
            return slot.measure_and_replace(&NotKeyed::NonKey, decide);
        }
        let mut used = false;
        let entry = self.map.entry(key).or_insert_with(|| {
            used = true;
            InMemoryState::default()
        });
        if !used {
            // Another request of the same key came first.
            self.give_place_back();
        }
        entry.measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

impl StateStore for CappedStore {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(known) = self.map.get(key) {
            return known.measure_and_replace(&NotKeyed::NonKey, decide);
        }
        self.newcomer(*key, decide)
    }
}

impl ShrinkableKeyedStateStore<Key> for CappedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&self.map, drop_below);
        // A place taken while this counts may be counted twice or not at all: off by a request a thread, until the next
        // pruning counts anew.
        self.taken.store(self.map.len(), Ordering::Relaxed);
    }

    fn shrink_to_fit(&self) {
        self.map.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
