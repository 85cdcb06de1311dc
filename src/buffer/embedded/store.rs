//! The partitions in memory over the store on disk: steps, their commits, and opening the store anew after a fault.
//!
//! Constraints:
//! - A step works on a draft of its partition's record. The record in memory is exchanged for it only after the commit
//!   succeeded; so memory never holds what the disk may not.
//! - After a failed commit the disk holds the batch or does not. The store is closed, every step refused, and what the disk
//!   holds is read anew before the next step begins.
//! - A step keeps the [`Engine`] that it began with, and the store is opened anew only when no step keeps the old one; so no
//!   step that began before a fault can commit after it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::super::handover::Mark;
use super::super::{Error, Ledger, Registration, Result, WatcherId};
use super::commits::GroupCommit;
use super::engine::{Engine, Marks, Write};
use super::keys;
use super::lock::DirectoryLock;
use super::roll::{Roll, Seen};
use super::state::State;
use crate::failpoint;
use crate::heartbeat::{BatcherId, Partition};

/// How long a commit waits for flushes and compactions to catch up; shorter than the deadline of any step.
const HEADROOM_WAIT: Duration = Duration::from_secs(3);
const HEADROOM_POLL: Duration = Duration::from_millis(5);
/// The pause between two tries to open the store after a fault.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// With less free disk the store is not opened anew: what it flushes at once would hardly fit.
const REOPEN_FREE: u64 = 16 << 20;
/// The pause between two looks for garbage.
const TIDY_PAUSE: Duration = Duration::from_secs(1);

/// The store, and the partitions as it holds them.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    min_free: u64,
    engine: Mutex<Opened>,
    slots: OnceLock<Vec<Slot>>,
    registering: Mutex<()>,
    /// Held by whoever takes a step that belongs to no partition.
    beside: Mutex<()>,
    /// Once it is being moved: no step is taken any more.
    moving: Mutex<Option<Mark>>,
    commits: GroupCommit,
    marks: Arc<Marks>,
    batchers: Mutex<HashMap<BatcherId, tokio::time::Instant>>,
    watch: Mutex<Watched>,
    // The last to go: nobody may come in before the store is closed.
    lock: DirectoryLock,
}

/// Who watches over silence, and until when, if that can be said.
pub(super) type Watched = Option<(WatcherId, Option<tokio::time::Instant>)>;

/// The store on disk, or why it is closed.
#[derive(Debug)]
enum Opened {
    Open(Arc<Engine>),
    Closed {
        /// Leads nowhere once the broken engine is gone, its locks and threads with it.
        old: Weak<()>,
        since: Instant,
        /// When opening was tried last.
        tried: Instant,
        error: Error,
    },
}

/// A partition.
#[derive(Debug)]
struct Slot {
    kept: Mutex<Kept>,
    /// Bytes of frames in it, for a look without waiting.
    bytes: AtomicU64,
}

/// What is known of a partition: its record as on disk, and what only the running process knows.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) state: State,
    /// Until when its lease holds. `None` after a restart: the process that held it is gone.
    pub(super) lease_until: Option<tokio::time::Instant>,
    /// Its devices.
    pub(super) roll: Roll,
}

/// A step on its way: what its partition will be, and what is written besides the record.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) partition: Partition,
    pub(super) state: State,
    pub(super) lease_until: Option<tokio::time::Instant>,
    pub(super) writes: Vec<Write>,
    /// The devices of the frames that it pushes.
    pub(super) seen: Seen,
    pub(super) engine: &'a Engine,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one assignment, so a poisoned lock still holds whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Takes the directory and opens the store in it.
    pub(super) fn open(dir: &Path, min_free: u64) -> Result<Arc<Self>> {
        let lock = DirectoryLock::take(dir)?;
        let (folder, marks) = (dir.join("store"), Arc::new(Marks::default()));
        let engine = Engine::open(&folder, marks.clone())?;
        let store = Arc::new(Self {
            folder,
            min_free,
            engine: Mutex::new(Opened::Open(Arc::new(engine))),
            slots: OnceLock::new(),
            registering: Mutex::default(),
            beside: Mutex::default(),
            moving: Mutex::default(),
            commits: GroupCommit::default(),
            marks,
            batchers: Mutex::default(),
            watch: Mutex::default(),
            lock,
        });
        store.load(&*store.engine()?)?;
        keep_tidy(Arc::downgrade(&store))?;
        Ok(store)
    }

    /// The open store.
    ///
    /// # Errors
    /// [`Error::NotRegistered`] when the directory was erased; [`Error::Unreachable`] or [`Error::Refused`] while the store
    /// cannot be opened after a fault.
    pub(super) fn engine(&self) -> Result<Arc<Engine>> {
        if !self.lock.stands() {
            return Err(Error::NotRegistered);
        }
        let mut opened = lock(&self.engine);
        match &mut *opened {
            Opened::Open(engine) => Ok(engine.clone()),
            Opened::Closed { old, tried, error, .. } if old.strong_count() > 0 || tried.elapsed() < REOPEN_PAUSE => {
                Err(error.clone())
            }
            Opened::Closed { since, tried, error, .. } => {
                // Nobody keeps the old one, so no step is under way, and all new ones wait for this lock.
                *tried = Instant::now();
                match self.open_anew() {
                    Ok(engine) => {
                        tracing::info!(closed_for = ?since.elapsed(), "the embedded buffer is open again");
                        *opened = Opened::Open(engine.clone());
                        Ok(engine)
                    }
                    Err(why) => {
                        *error = why.clone();
                        Err(why)
                    }
                }
            }
        }
    }

    fn open_anew(&self) -> Result<Arc<Engine>> {
        // Not as much as pushes need: on a disk on which they are refused, what waits is drained all the same.
        self.check_above(REOPEN_FREE.min(self.min_free))?;
        let engine = Engine::open(&self.folder, self.marks.clone())?;
        self.load(&engine)?;
        Ok(Arc::new(engine))
    }

    /// Closes the store after a fault.
    fn close(&self, broken: &Arc<Engine>, error: &Error) {
        let mut opened = lock(&self.engine);
        let Opened::Open(engine) = &*opened else { return };
        if !Arc::ptr_eq(engine, broken) {
            return;
        }
        tracing::error!(%error, "the embedded buffer is closed after a fault; it is opened anew as soon as that works");
        let (old, since) = (engine.life(), Instant::now());
        *opened = Opened::Closed { old, since, tried: since, error: error.clone() };
    }

    /// Reads the records of all partitions, and whether the buffer is being moved.
    fn load(&self, engine: &Engine) -> Result<()> {
        let wrong = |error: serde_json::Error| Error::Corrupt { detail: format!("the mark of a move: {error}") };
        let mark = engine.get(keys::MOVE_KEY)?.map(|text| serde_json::from_slice(&text).map_err(wrong)).transpose()?;
        *lock(&self.moving) = mark;
        let mut states = Vec::new();
        for entry in engine.under(keys::RECORDS) {
            let (key, record) = entry?;
            let wrong = |why: String| Error::Corrupt { detail: format!("the record of a partition: {why}") };
            let state: State = serde_json::from_slice(&record).map_err(|error| wrong(error.to_string()))?;
            let partition = Partition::try_from(states.len()).map_err(|_| wrong("there are too many".into()))?;
            if key != keys::record(partition) {
                return Err(wrong(format!("that of {partition} is missing")));
            }
            self.marks.set(partition, state.first);
            let roll = Roll::load(engine, partition, &state)?;
            states.push((state, roll));
        }
        let Some(first) = states.first() else {
            // Where there were partitions, an empty store is an alarm and no fresh start.
            return if self.slots.get().is_none() { Ok(()) } else { Err(Error::NotRegistered) };
        };
        let registration = first.0.registration;
        let whole = states.iter().all(|(state, _)| state.registration == registration);
        if !whole || states.len() != usize::from(registration.partitions) {
            return Err(Error::Corrupt { detail: "the records of the partitions do not belong together".into() });
        }
        self.keep(states)
    }

    /// Keeps what the disk holds. No step is under way.
    fn keep(&self, states: Vec<(State, Roll)>) -> Result<()> {
        if let Some(slots) = self.slots.get() {
            if slots.len() != states.len() {
                return Err(Error::Corrupt { detail: "the number of partitions has changed".into() });
            }
            for (slot, (state, roll)) in slots.iter().zip(states) {
                slot.bytes.store(state.ledger.bytes, Ordering::Relaxed);
                let mut kept = lock(&slot.kept);
                (kept.state, kept.roll) = (state, roll);
            }
            return Ok(());
        }
        let slots = states.into_iter().map(|(state, roll)| Slot {
            bytes: state.ledger.bytes.into(),
            kept: Mutex::new(Kept { state, lease_until: None, roll }),
        });
        self.slots.get_or_init(|| slots.collect());
        Ok(())
    }

    /// The dataset that the store belongs to.
    pub(super) fn registration(&self) -> Result<Option<Registration>> {
        self.engine()?;
        Ok(self.slots.get().and_then(|slots| slots.first()).map(|slot| lock(&slot.kept).state.registration))
    }

    /// Makes the partitions of a dataset, all at once.
    ///
    /// # Errors
    /// [`Error::ForeignDataset`] and [`Error::Corrupt`] when there are some, of another dataset or another number.
    pub(super) fn register(&self, registration: Registration) -> Result<()> {
        let _one_at_a_time = lock(&self.registering);
        if let Some(found) = self.registration()? {
            return if found == registration {
                Ok(())
            } else if found.dataset == registration.dataset {
                let (found, wanted) = (found.partitions, registration.partitions);
                Err(Error::Corrupt { detail: format!("registered with {found} partitions, not {wanted}") })
            } else {
                Err(Error::ForeignDataset { expected: registration.dataset, found: found.dataset.to_string() })
            };
        }
        let engine = self.engine()?;
        let state = State::new(registration);
        let record = encode(&state)?;
        let writes = (0..registration.partitions).map(|partition| Write::Put(keys::record(partition), record.clone()));
        self.commit(&engine, writes.collect())?;
        self.keep((0..registration.partitions).map(|_| (state.clone(), Roll::default())).collect())
    }

    fn slot(&self, partition: Partition) -> Result<&Slot> {
        self.slots.get().and_then(|slots| slots.get(usize::from(partition))).ok_or(Error::NotRegistered)
    }

    /// Looks at a partition at one instant.
    pub(super) fn look<T>(&self, partition: Partition, look: impl FnOnce(&Kept, &Engine) -> Result<T>) -> Result<T> {
        let engine = self.engine()?;
        look(&lock(&self.slot(partition)?.kept), &engine)
    }

    /// The books of all partitions together.
    pub(super) fn total(&self) -> Result<Ledger> {
        self.engine()?;
        let slots = self.slots.get().into_iter().flatten();
        Ok(slots.fold(Ledger::default(), |total, slot| total + lock(&slot.kept).state.ledger))
    }

    /// Takes one step of a partition: what `step` made of the draft is on disk when this returns, or nothing of it where
    /// it fails. A step that changes neither record nor entries writes nothing.
    pub(super) fn step<T>(&self, partition: Partition, step: impl FnOnce(&mut Draft<'_>) -> Result<T>) -> Result<T> {
        self.steps([partition], |drafts| step(drafts.get_mut(&partition).ok_or(Error::NotRegistered)?))
    }

    /// Takes one step of several partitions together. Partitions that there are not have no draft.
    pub(super) fn steps<T>(
        &self,
        partitions: impl IntoIterator<Item = Partition>,
        step: impl FnOnce(&mut BTreeMap<Partition, Draft<'_>>) -> Result<T>,
    ) -> Result<T> {
        let engine = self.engine()?;
        let mut wanted: Vec<Partition> = partitions.into_iter().collect();
        // In one order for all, so that no two wait for each other.
        wanted.sort_unstable();
        wanted.dedup();
        let mut held = Vec::new();
        let mut drafts = BTreeMap::new();
        for partition in wanted {
            let Ok(slot) = self.slot(partition) else { continue };
            let kept = lock(&slot.kept);
            let (state, lease_until) = (kept.state.clone(), kept.lease_until);
            let (writes, seen) = (Vec::new(), Seen::default());
            drafts.insert(partition, Draft { partition, state, lease_until, writes, seen, engine: &engine });
            held.push((slot, kept));
        }
        // Looked at while the partitions are held, so that no step slips in behind the mark.
        self.check_not_moving()?;
        let answer = step(&mut drafts)?;
        let mut writes = Vec::new();
        for (draft, (_, kept)) in drafts.values_mut().zip(&held) {
            kept.roll.save(draft, &kept.state);
            writes.append(&mut draft.writes);
            if draft.state != kept.state {
                writes.push(Write::Put(keys::record(draft.partition), encode(&draft.state)?));
            }
        }
        if !writes.is_empty() {
            self.commit(&engine, writes)?;
        }
        for (draft, (slot, mut kept)) in drafts.into_values().zip(held) {
            self.marks.set(draft.partition, draft.state.first);
            slot.bytes.store(draft.state.ledger.bytes, Ordering::Relaxed);
            kept.roll.take_in(draft.seen);
            (kept.state, kept.lease_until) = (draft.state, draft.lease_until);
        }
        Ok(answer)
    }

    /// Takes one step that belongs to no partition: what `step` gives to be written is on disk when this returns, or nothing
    /// of it where it fails. One at a time.
    pub(super) fn step_apart<T>(&self, step: impl FnOnce(&Engine) -> Result<(T, Vec<Write>)>) -> Result<T> {
        let engine = self.engine()?;
        let _turn = lock(&self.beside);
        self.check_not_moving()?;
        let (answer, writes) = step(&engine)?;
        if !writes.is_empty() {
            self.commit(&engine, writes)?;
        }
        Ok(answer)
    }

    /// Looks, while no such step is under way.
    pub(super) fn apart<T>(&self, look: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        let engine = self.engine()?;
        let _turn = lock(&self.beside);
        look(&engine)
    }

    /// What is known of a move.
    pub(super) fn mark(&self) -> Result<Option<Mark>> {
        self.engine()?;
        Ok(*lock(&self.moving))
    }

    /// Fails when the buffer is being moved.
    pub(super) fn check_not_moving(&self) -> Result<()> {
        if lock(&self.moving).is_some() { Err(Error::BeingMoved) } else { Ok(()) }
    }

    /// Writes down what is known of a move from now on. From the first time on no step is taken any more.
    pub(super) fn set_mark(&self, mark: Mark) -> Result<()> {
        let engine = self.engine()?;
        let slots = self.slots.get().ok_or(Error::NotRegistered)?;
        let _beside = lock(&self.beside);
        // All of them, in the order that every step takes them in: no step is under way now.
        let _held: Vec<_> = slots.iter().map(|slot| lock(&slot.kept)).collect();
        let text = serde_json::to_vec(&mark);
        let text = text.map_err(|error| Error::Corrupt { detail: format!("a mark of no form: {error}") })?;
        self.commit(&engine, vec![Write::Put(keys::MOVE_KEY.into(), text)])?;
        *lock(&self.moving) = Some(mark);
        Ok(())
    }

    /// Has these written, maybe together with those of other steps.
    fn commit(&self, engine: &Arc<Engine>, writes: Vec<Write>) -> Result<()> {
        let outcome = self.commits.submit(writes, |writes| {
            self.wait_for_headroom(engine)?;
            let committed = failpoint::reached("buffer.commit")
                .map_err(fault)
                .and_then(|()| engine.commit(writes))
                .and_then(|()| failpoint::reached("buffer.committed").map_err(fault));
            if let Err(error) = &committed {
                self.close(engine, error);
            }
            committed
        });
        // After a panic as well.
        if let Err(error @ Error::Unreachable { .. }) = &outcome {
            self.close(engine, error);
        }
        outcome
    }

    fn wait_for_headroom(&self, engine: &Arc<Engine>) -> Result<()> {
        let began = Instant::now();
        while !engine.has_headroom() {
            // A worker that failed will never catch up.
            self.check(engine)?;
            if began.elapsed() > HEADROOM_WAIT {
                return Err(Error::Refused { reason: "the disk does not keep up with what is written".into() });
            }
            std::thread::sleep(HEADROOM_POLL);
        }
        Ok(())
    }

    /// Fails, and closes the store, when something in it has failed unseen.
    pub(super) fn check(&self, engine: &Arc<Engine>) -> Result<()> {
        engine.check().inspect_err(|error| self.close(engine, error))
    }

    /// Fails when the disk would be too full for draining with so much more on it.
    pub(super) fn check_free(&self, more: u64) -> Result<()> {
        self.check_above(self.min_free.saturating_add(more))
    }

    fn check_above(&self, floor: u64) -> Result<()> {
        let free = fs2::available_space(&self.folder).map_err(fault)?;
        let enough = free >= floor;
        let refused = || Error::Refused {
            reason: format!(
                "{} MiB are free on the disk of the buffer, and pushes stop at buffer-min-free, {} MiB",
                free >> 20,
                self.min_free >> 20
            ),
        };
        if enough { Ok(()) } else { Err(refused()) }
    }

    /// The batchers and when each was last seen. A restart forgets them: they were parts of the same process.
    pub(super) fn batchers(&self) -> MutexGuard<'_, HashMap<BatcherId, tokio::time::Instant>> {
        lock(&self.batchers)
    }

    /// Who watches over silence. A restart forgets it: it was a part of the same process.
    pub(super) fn watch(&self) -> &Mutex<Watched> {
        &self.watch
    }

    /// Gives back the space of what was acknowledged, where there is much of it.
    fn tidy_if_untidy(&self) -> Result<()> {
        let engine = self.engine()?;
        let kept = self.slots.get().into_iter().flatten().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum();
        if !engine.is_untidy(kept) {
            return Ok(());
        }
        // What is kept stands twice for the while, and pushes go on beside it down to their reserve. Copying that meets the end of
        // the disk leaves it full: what was written of the copy goes only when the store is opened anew. So it waits until less is
        // kept, or more is free.
        self.check_above(kept.saturating_add(kept.min(self.min_free)))?;
        engine.tidy()
    }
}

/// Tidies every now and then, on a thread of its own, until nobody has the store any more.
fn keep_tidy(store: Weak<Store>) -> Result<()> {
    let tidy = move || {
        loop {
            std::thread::sleep(TIDY_PAUSE);
            let Some(store) = store.upgrade() else { return };
            if let Err(error) = store.tidy_if_untidy() {
                tracing::debug!(%error, "the space of acknowledged frames is not given back yet");
            }
        }
    };
    std::thread::Builder::new().name("systole-tidy".into()).spawn(tidy).map(drop).map_err(fault)
}

fn encode(state: &State) -> Result<Vec<u8>> {
    serde_json::to_vec(state).map_err(|error| Error::Corrupt { detail: format!("a record of no form: {error}") })
}

fn fault(error: std::io::Error) -> Error {
    Error::Unreachable { reason: format!("the disk of the embedded buffer: {error}") }
}
