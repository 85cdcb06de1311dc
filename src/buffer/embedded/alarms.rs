//! What is kept of silence: rows of the books. Who watches ends with the process, as leases do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::super::alarm::{
    Change, Event, MAX_CHANGES, MAX_QUEUED, MAX_RAISED, Marked, Marks, Queued, Raised, Watch, WatcherId,
};
use super::super::{Alarms, Error, Result};
use super::EmbeddedBuffer;
use super::buffer::{is_ahead, now_ms, until};
use super::engine::{Engine, Write};
use super::keys;
use super::roll::Roll;
use super::store::Store;
use crate::heartbeat::Partition;

/// By how much a look must be later than the one that is written down: each costs a sync of the disk.
const WRITTEN_EVERY_MS: i64 = 1_000;

/// The numbers that go with the rows.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    /// The last number that an event was given.
    number: u64,
    raised: u64,
    queued: u64,
    /// When the last look came to its end, as far as that is written down.
    looked: Option<i64>,
    /// Since when each rule is in force.
    rules: BTreeMap<String, i64>,
}

impl Counts {
    fn read(engine: &Engine) -> Result<Self> {
        let wrong = |error| Error::Corrupt { detail: format!("the record of what is raised: {error}") };
        let text = engine.get(keys::ALARMS_KEY)?;
        text.map_or_else(|| Ok(Self::default()), |text| serde_json::from_slice(&text).map_err(wrong))
    }

    fn write(&self) -> Result<Write> {
        let wrong = |error| Error::Corrupt { detail: format!("a record of no form: {error}") };
        Ok(Write::Put(keys::ALARMS_KEY.into(), serde_json::to_vec(self).map_err(wrong)?))
    }
}

fn read_raised(row: Result<(Vec<u8>, bytes::Bytes)>) -> Result<Raised> {
    let wrong = |_| Error::Corrupt { detail: "a raised device that is no text".into() };
    let (key, value) = row?;
    let key = std::str::from_utf8(key.strip_prefix(keys::RAISED).unwrap_or(&key)).map_err(wrong)?;
    Raised::read(key, std::str::from_utf8(&value).map_err(wrong)?)
}

fn read_queued(row: Result<(Vec<u8>, bytes::Bytes)>) -> Result<Queued> {
    let (key, event) = row?;
    let number = keys::read_queued(&key);
    let number = number.ok_or_else(|| Error::Corrupt { detail: "an event under a key that cannot be read".into() })?;
    Ok(Queued { number, event: Event::read(&event)? })
}

fn check(store: &Store, watcher: WatcherId) -> Result<()> {
    let watch = store.watch().lock().unwrap_or_else(PoisonError::into_inner);
    if watch.is_some_and(|(owner, _)| owner == watcher) { Ok(()) } else { Err(Error::Unwatched) }
}

/// A run of changes: what of it is to be written, and what the rows will be then.
struct Marking<'a> {
    engine: &'a Engine,
    counts: Counts,
    /// Keys that this run has already touched: the store still shows them as they were.
    touched: BTreeSet<String>,
    writes: Vec<Write>,
}

impl Marking<'_> {
    fn make(&mut self, change: &Change) -> Result<Marked> {
        let (Change::Raise(raised) | Change::Clear(raised, _) | Change::Forget(raised)) = change;
        let (key, row) = (raised.key(), keys::raised(&raised.key()));
        if !self.touched.insert(key) {
            return Ok(Marked::Stood);
        }
        let found = self.engine.get(&row)?;
        let event = match change {
            Change::Raise(_) if found.is_some() => return Ok(Marked::Stood),
            Change::Raise(_) if self.counts.raised >= MAX_RAISED => return Ok(Marked::Full),
            Change::Raise(raised) => {
                self.counts.raised += 1;
                self.writes.push(Write::Put(row, raised.value().into_bytes()));
                Some(Event::silent(raised))
            }
            Change::Clear(..) | Change::Forget(_) if found.as_ref().is_none_or(|value| *value != raised.value()) => {
                return Ok(Marked::Stood);
            }
            Change::Clear(_, event) => {
                self.lower(row);
                Some(event.clone())
            }
            Change::Forget(_) => {
                self.lower(row);
                None
            }
        };
        if let Some(event) = event {
            self.counts.number += 1;
            self.counts.queued += 1;
            self.writes.push(Write::Put(keys::queued(self.counts.number), event.text()?.into_bytes()));
        }
        Ok(Marked::Done)
    }

    fn lower(&mut self, row: Vec<u8>) {
        self.counts.raised = self.counts.raised.saturating_sub(1);
        self.writes.push(Write::Remove(row));
    }

    /// Drops the oldest events beyond the bound. One run brings far fewer than the bound, so they are all on disk.
    fn trim(&mut self) -> Result<u64> {
        let over = self.counts.queued.saturating_sub(MAX_QUEUED);
        let oldest = self.engine.under(keys::OUTBOX).take(usize::try_from(over).unwrap_or(usize::MAX));
        for row in oldest {
            self.writes.push(Write::Remove(row?.0));
            self.counts.queued -= 1;
        }
        Ok(over)
    }
}

fn mark(engine: &Engine, changes: &[Change]) -> Result<(Marks, Vec<Write>)> {
    let counts = Counts::read(engine)?;
    let before = counts.number;
    let mut marking = Marking { engine, counts, touched: BTreeSet::new(), writes: Vec::new() };
    let marked = changes.iter().take(MAX_CHANGES).map(|change| marking.make(change)).collect::<Result<_>>()?;
    let dropped = marking.trim()?;
    let skip = usize::try_from(dropped).unwrap_or(usize::MAX);
    let standing = engine.under(keys::OUTBOX).nth(skip).transpose()?.and_then(|(key, _)| keys::read_queued(&key));
    let oldest = standing.or((marking.counts.number > before).then_some(before + 1));
    let mut writes = marking.writes;
    if !writes.is_empty() {
        writes.push(marking.counts.write()?);
    }
    Ok((Marks { marked, dropped, oldest }, writes))
}

fn rules(engine: &Engine, names: &[String]) -> Result<(Vec<i64>, Vec<Write>)> {
    let (mut counts, now) = (Counts::read(engine)?, now_ms());
    let since: Vec<i64> = names.iter().map(|name| counts.rules.get(name).copied().unwrap_or(now)).collect();
    let rules = names.iter().cloned().zip(since.iter().copied()).collect();
    let changed = std::mem::replace(&mut counts.rules, rules) != counts.rules;
    Ok((since, if changed { vec![counts.write()?] } else { Vec::new() }))
}

fn settle(engine: &Engine, numbers: &[u64]) -> Result<((), Vec<Write>)> {
    let (mut counts, mut writes) = (Counts::read(engine)?, Vec::new());
    for number in numbers.iter().copied().collect::<BTreeSet<_>>() {
        let key = keys::queued(number);
        if engine.get(&key)?.is_some() {
            counts.queued = counts.queued.saturating_sub(1);
            writes.push(Write::Remove(key));
        }
    }
    if !writes.is_empty() {
        writes.push(counts.write()?);
    }
    Ok(((), writes))
}

#[async_trait]
impl Alarms for EmbeddedBuffer {
    async fn watch(&self, watcher: WatcherId, ttl: Duration, looked: Option<i64>) -> Result<Watch> {
        self.run(*self.shared.options.step_deadline, move |shared| {
            let now = now_ms();
            let held = {
                let mut watch = shared.store.watch().lock().unwrap_or_else(PoisonError::into_inner);
                let held = watch.and_then(|(owner, until)| Some((owner, is_ahead(until)?)));
                if let Some((_, expires_in)) = held.filter(|(owner, _)| *owner != watcher) {
                    return Ok(Watch::Held { now, expires_in });
                }
                *watch = Some((watcher, until(ttl)));
                held.is_some()
            };
            shared.store.step_apart(|engine| {
                let mut counts = Counts::read(engine)?;
                let known = counts.looked;
                let later =
                    looked.filter(|looked| known.is_none_or(|known| (looked - known).abs() >= WRITTEN_EVERY_MS));
                counts.looked = later.or(known);
                let looked = looked.or(known).map(|looked| looked.min(now));
                let Counts { raised, queued, .. } = counts;
                let taken = Watch::Taken { now, began: !held, looked, raised, queued };
                Ok((taken, if later.is_some() { vec![counts.write()?] } else { Vec::new() }))
            })
        })
        .await
    }

    async fn unwatch(&self, watcher: WatcherId) -> Result<()> {
        let mut watch = self.shared.store.watch().lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_some_and(|(owner, _)| owner == watcher) {
            *watch = None;
        }
        Ok(())
    }

    async fn rules(&self, watcher: WatcherId, names: &[String]) -> Result<Vec<i64>> {
        let names = names.to_vec();
        self.watching(watcher, move |engine| rules(engine, &names)).await
    }

    async fn mark(&self, watcher: WatcherId, changes: &[Change]) -> Result<Marks> {
        let changes = changes.to_vec();
        self.watching(watcher, move |engine| mark(engine, &changes)).await
    }

    async fn last_seen(&self, partition: Partition, devices: &[Raised]) -> Result<Vec<Option<i64>>> {
        let devices: Vec<_> = devices.iter().map(|one| (one.user_id.clone(), one.device_id.clone())).collect();
        self.step(move |store, _| {
            let last = |roll: &Roll| devices.iter().map(|(user, device)| roll.last_seen(user, device)).collect();
            store.look(partition, |kept, _| Ok(last(&kept.roll)))
        })
        .await
    }

    async fn raised(&self, after: Option<&Raised>, limit: u32) -> Result<Vec<Raised>> {
        let (after, limit) = (after.map(Raised::key), usize::try_from(limit).unwrap_or(usize::MAX));
        self.run(*self.shared.options.step_deadline, move |shared| {
            let rows = shared.store.engine()?.within(keys::raised_after(after.as_deref()));
            rows.take(limit).map(read_raised).collect()
        })
        .await
    }

    async fn outbox(&self, after: Option<u64>, limit: u32) -> Result<Vec<Queued>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.run(*self.shared.options.step_deadline, move |shared| {
            shared.store.engine()?.within(keys::queued_after(after)).take(limit).map(read_queued).collect()
        })
        .await
    }

    async fn settle(&self, watcher: WatcherId, numbers: &[u64]) -> Result<()> {
        let numbers = numbers.to_vec();
        self.watching(watcher, move |engine| settle(engine, &numbers)).await
    }
}

impl EmbeddedBuffer {
    /// A step of the one that watches.
    async fn watching<T: Send + 'static>(
        &self,
        watcher: WatcherId,
        step: impl FnOnce(&Engine) -> Result<(T, Vec<Write>)> + Send + 'static,
    ) -> Result<T> {
        self.run(*self.shared.options.step_deadline, move |shared| {
            shared.store.step_apart(|engine| {
                check(&shared.store, watcher)?;
                step(engine)
            })
        })
        .await
    }
}
