//! Whether the door stood open: a device that was turned away did not fall silent.
//!
//! Constraint: it is told by the answers that clients get, not by looking now and then: a buffer that is full between two
//! looks only was full all the same. What other processes refuse is not known here; whoever is cut off from the buffer alone
//! cannot say so, and its clients find another door.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::buffer::{self, Intake, Parcel, TurnedAway};
use crate::heartbeat::Partition;

/// Users that are remembered one by one as turned away; beyond, it counts as everybody.
const MAX_USERS: usize = 10_000;

/// Whether what is accepted now goes a way on which its devices are not seen at once.
type Detour = dyn Fn() -> bool + Send + Sync;

/// Since when the door has stood open. A cheap handle.
#[derive(Clone, Default)]
pub struct Door {
    refused: Arc<Mutex<Refused>>,
    detour: Option<Arc<Detour>>,
}

/// When heartbeats were refused last.
#[derive(Debug, Default)]
struct Refused {
    all: Option<Instant>,
    of: BTreeMap<Partition, Instant>,
    of_users: BTreeMap<String, Instant>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl Door {
    /// A door that counts as shut while `detour` says that heartbeats go elsewhere first.
    pub fn with_detour(detour: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { detour: Some(Arc::new(detour)), ..Self::default() }
    }

    /// An intake whose refusals this door is told of.
    pub fn attend(&self, intake: Arc<dyn Intake>) -> Attended {
        Attended { intake, door: self.clone() }
    }

    /// When a heartbeat of this partition was last refused, or taken in unseen.
    pub(super) fn shut_at(&self, partition: Partition) -> Option<Instant> {
        if self.detour.as_ref().is_some_and(|detour| detour()) {
            return Some(Instant::now());
        }
        let refused = self.lock();
        refused.all.max(refused.of.get(&partition).copied())
    }

    /// When heartbeats of single users were last refused for the sake of their rate limits, within this time. Who was refused
    /// earlier is forgotten.
    pub(super) fn turned_away_within(&self, span: Duration) -> BTreeMap<String, Instant> {
        let mut refused = self.lock();
        refused.of_users.retain(|_, at| at.elapsed() <= span);
        refused.of_users.clone()
    }

    fn turn_away(&self, whose: TurnedAway<'_>) {
        let TurnedAway::Users(users) = whose else { return self.refuse(&[]) };
        let now = Instant::now();
        let mut refused = self.lock();
        for user in users {
            if refused.of_users.len() < MAX_USERS || refused.of_users.contains_key(*user) {
                refused.of_users.insert((*user).to_owned(), now);
            } else {
                refused.all = Some(now);
            }
        }
    }

    fn refuse(&self, partitions: &[Partition]) {
        let now = Instant::now();
        let mut refused = self.lock();
        if partitions.is_empty() {
            refused.all = Some(now);
        }
        refused.of.extend(partitions.iter().map(|partition| (*partition, now)));
    }

    fn lock(&self) -> MutexGuard<'_, Refused> {
        // Each change is whole, so a poisoned lock still holds what was refused.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An intake, and the door that is told of its refusals.
#[derive(Debug)]
pub struct Attended {
    intake: Arc<dyn Intake>,
    door: Door,
}

#[async_trait]
impl Intake for Attended {
    async fn partitions(&self) -> buffer::Result<Partition> {
        let partitions = self.intake.partitions().await;
        if partitions.is_err() {
            self.door.refuse(&[]);
        }
        partitions
    }

    async fn accept(&self, parcels: Vec<Parcel>) -> buffer::Result<()> {
        let partitions: Vec<Partition> = parcels.iter().map(|(partition, _)| *partition).collect();
        let accepted = self.intake.accept(parcels).await;
        if accepted.is_err() {
            self.door.refuse(&partitions);
        }
        accepted
    }

    fn turned_away(&self, whose: TurnedAway<'_>) {
        self.door.turn_away(whose);
        self.intake.turned_away(whose);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shuts_the_door_of_its_partitions_and_a_detour_that_of_all() {
        let door = Door::default();
        assert_eq!(door.shut_at(7), None);
        door.refuse(&[7]);
        assert!(door.shut_at(7).is_some() && door.shut_at(8).is_none());
        door.refuse(&[]);
        assert!(door.shut_at(8).is_some());
        let door = Door::default();
        door.turn_away(TurnedAway::Users(&["ada"]));
        let minute = Duration::from_secs(60);
        assert!(door.shut_at(0).is_none());
        assert_eq!(door.turned_away_within(minute).into_keys().collect::<Vec<_>>(), ["ada"]);
        assert!(door.turned_away_within(Duration::ZERO).is_empty() && door.turned_away_within(minute).is_empty());
        door.turn_away(TurnedAway::Anybody);
        assert!(door.shut_at(0).is_some());
        let crowded = Door::default();
        let users: Vec<String> = (0..=MAX_USERS).map(|n| n.to_string()).collect();
        crowded.turn_away(TurnedAway::Users(&users.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(crowded.shut_at(0).is_some(), "more than are remembered");
        assert!(Door::with_detour(|| true).shut_at(0).is_some());
        assert!(Door::with_detour(|| false).shut_at(0).is_none());
    }
}
