//! The steps of the contract, each a piece of blocking work with a deadline.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::devices::Memory;
use super::super::identity::Identity;
use super::super::options::Options as BufferOptions;
use super::super::{
    Buffer, Claim, ClaimBudget, Condemned, Durability, Error, Inlet, Lease, LeaseAnswer, Reach, Registration, Result,
    Room,
};
use super::claims;
use super::engine::Write;
use super::options::Options;
use super::state::{Caps, Load};
use super::store::Store;
use crate::heartbeat::{BatcherId, ClaimId, DatasetId, Frame, Partition};

/// Steps under way at the same time: each takes a thread, and a disk that hangs must not take all of them.
const STEPS_AT_ONCE: usize = 64;

/// The buffer in a directory of this machine. A cheap handle.
#[derive(Debug, Clone)]
pub struct EmbeddedBuffer {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    permits: Arc<Semaphore>,
    identity: Identity,
    pub(super) options: BufferOptions,
}

impl EmbeddedBuffer {
    /// Opens the buffer in `dir`, making it if need be. Of `options` it takes the caps and deadlines.
    ///
    /// It blocks: while the last journals are replayed, a second or so at most, whatever waits in the buffer. So does
    /// dropping the last handle.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when another process has the directory, naming its id, or when the disk fails;
    /// [`Error::Unsafe`] when it has another format; [`Error::Corrupt`] when it holds what this version does not write;
    /// [`Error::BeingMoved`] when that has begun.
    pub fn open(dir: &Path, options: &BufferOptions, own: &Options) -> Result<Self> {
        let opened = Self::open_to_move(dir, options, own)?;
        opened.shared.store.check_not_moving()?;
        Ok(opened)
    }

    /// The same for [`drain`](super::super::drain::drain), which goes on with one that is being moved.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) but the last.
    pub fn open_to_move(dir: &Path, options: &BufferOptions, own: &Options) -> Result<Self> {
        options.check()?;
        let store = Store::open(dir, own.buffer_min_free.as_u64())?;
        Ok(Self::over(store, Arc::new(Semaphore::new(STEPS_AT_ONCE)), options))
    }

    /// A second handle on the same open buffer, with caps, deadlines and an expected dataset of its own.
    pub fn another(&self, options: &BufferOptions) -> Self {
        Self::over(self.shared.store.clone(), self.shared.permits.clone(), options)
    }

    fn over(store: Arc<Store>, permits: Arc<Semaphore>, options: &BufferOptions) -> Self {
        let shared = Shared { store, permits, identity: Identity::default(), options: options.clone() };
        Self { shared: Arc::new(shared) }
    }

    /// Says which dataset the buffer must belong to. Without it, the first one found is held on to.
    pub fn expect_dataset(&self, dataset: DatasetId) {
        self.shared.identity.expect(dataset);
    }

    /// Runs `work` on a thread that may block. Past the deadline it goes on, and its outcome is unknown.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        let call = async {
            let broken = |what: String| Error::Unreachable { reason: format!("the embedded buffer {what}") };
            let permit = shared.permits.clone().acquire_owned().await.map_err(|_| broken("is closed".into()))?;
            let work = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work(&shared)
            });
            work.await.map_err(|error| broken(format!("failed: {error}")))?
        };
        let timed_out = Err(Error::TimedOut { after: deadline });
        let answer = tokio::time::timeout(deadline, call).await.unwrap_or(timed_out);
        self.shared.identity.watch(answer.as_ref().err());
        answer
    }

    /// Runs a step of a registered buffer.
    pub(super) async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, Registration) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(*self.shared.options.step_deadline, |shared| work(&shared.store, shared.registered()?)).await
    }
}

impl Shared {
    pub(super) fn registered(&self) -> Result<Registration> {
        self.identity.judge(self.store.registration()?)?.ok_or(Error::NotRegistered)
    }

    pub(super) fn caps(&self, registration: Registration) -> Caps {
        caps(&self.options, registration)
    }

    pub(super) fn memory(&self, registration: Registration) -> Memory {
        Memory::of(&self.options, registration)
    }

    fn push(&self, frames: &[(Partition, Frame)]) -> Result<Vec<Result<()>>> {
        let registration = self.registered()?;
        let (caps, memory) = (self.caps(registration), self.memory(registration));
        self.store.check_free(frames.iter().map(|(_, frame)| frame.bytes().len() as u64).sum())?;
        self.store.steps(frames.iter().map(|(partition, _)| *partition), |drafts| {
            let outcomes = frames.iter().map(|(partition, frame)| {
                let draft = drafts.get_mut(partition).ok_or(Error::NotRegistered)?;
                let sequence = draft.state.push(*partition, Load::of(frame.bytes()), caps)?;
                draft.writes.push(Write::Frame(*partition, sequence, frame.bytes().clone()));
                draft.seen.push(memory, frame);
                Ok(())
            });
            Ok(outcomes.collect())
        })
    }

    fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let caps = self.caps(self.registered()?);
        let mut states = BTreeMap::new();
        for (partition, ..) in wanted {
            if !states.contains_key(partition) {
                states.insert(*partition, self.store.look(*partition, |kept, _| Ok(kept.state.clone()))?);
            }
        }
        let room = wanted.iter().map(|&(partition, rows, bytes)| {
            let fits = states.get(&partition).is_some_and(|state| state.fits(Load { rows, bytes }, caps));
            if fits { Room::Fits } else { Room::Full }
        });
        Ok(room.collect())
    }
}

pub(super) fn caps(options: &BufferOptions, registration: Registration) -> Caps {
    let partitions = u64::from(registration.partitions.max(1));
    Caps { rows: options.buffer_max_heartbeats / partitions, bytes: options.buffer_max_bytes.as_u64() / partitions }
}

/// Milliseconds since the Unix epoch: for ages that outlive the process.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn age(since_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms().saturating_sub(since_ms)).unwrap_or(0))
}

/// When a lease of so long ends: as late as can be said, if that is too late to say.
pub(super) fn until(ttl: Duration) -> Option<Instant> {
    /// A hundred years.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now().checked_add(ttl.min(LONGEST))
}

pub(super) fn is_ahead(until: Option<Instant>) -> Option<Duration> {
    until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn lease(store: &Store, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer> {
    store.step(partition, |draft| {
        let held = draft.state.owner.filter(|owner| *owner != batcher).zip(is_ahead(draft.lease_until));
        if let Some((by, expires_in)) = held {
            return Ok(LeaseAnswer::Held { by, expires_in });
        }
        draft.lease_until = until(ttl);
        let epoch = draft.state.take_lease(batcher);
        Ok(LeaseAnswer::Taken(Lease { partition, batcher, epoch }))
    })
}

#[async_trait]
impl Reach for EmbeddedBuffer {
    async fn durability(&self) -> Result<Durability> {
        self.run(*self.shared.options.step_deadline, |shared| shared.store.engine().map(drop)).await?;
        let window = "embedded, synced before each answer: short of losing the disk".to_owned();
        Ok(Durability { level: "always", window, wait_replicas: 0 })
    }

    async fn ping(&self) -> Result<()> {
        self.run(*self.shared.options.step_deadline, |shared| {
            shared.registered()?;
            shared.store.check_not_moving()?;
            shared.store.check(&shared.store.engine()?)?;
            shared.store.check_free(0)
        })
        .await
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        let deadline = *self.shared.options.step_deadline;
        self.run(deadline, |shared| shared.identity.judge(shared.store.registration()?)).await
    }
}

#[async_trait]
impl Inlet for EmbeddedBuffer {
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let wanted = wanted.to_vec();
        self.run(*self.shared.options.push_deadline, move |shared| shared.room(&wanted)).await
    }

    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        if frames.is_empty() {
            return Vec::new();
        }
        let (count, frames) = (frames.len(), frames.to_vec());
        let pushed = self.run(*self.shared.options.push_deadline, move |shared| shared.push(&frames)).await;
        pushed.unwrap_or_else(|error| vec![Err(error); count])
    }
}

#[async_trait]
impl Buffer for EmbeddedBuffer {
    async fn register(&self, registration: Registration) -> Result<()> {
        if registration.partitions == 0 {
            return Err(Error::Unsafe { advice: "partitions: 0 is too few; give at least 1".into() });
        }
        if let Some(expected) = self.shared.identity.expected().filter(|expected| *expected != registration.dataset) {
            return Err(Error::ForeignDataset { expected, found: registration.dataset.to_string() });
        }
        self.run(*self.shared.options.step_deadline, move |shared| {
            shared.store.register(registration)?;
            shared.identity.judge(Some(registration)).map(drop)
        })
        .await
    }

    async fn announce(&self, batcher: BatcherId, ttl: Duration) -> Result<Vec<BatcherId>> {
        self.run(*self.shared.options.step_deadline, move |shared| {
            shared.store.engine()?;
            let mut batchers = shared.store.batchers();
            batchers.insert(batcher, Instant::now());
            batchers.retain(|_, seen| seen.elapsed() <= ttl.saturating_mul(10));
            let others = batchers.iter().filter(|(id, seen)| **id != batcher && seen.elapsed() <= ttl);
            Ok(std::iter::once(batcher).chain(others.map(|(id, _)| *id)).collect())
        })
        .await
    }

    async fn retire(&self, batcher: BatcherId) -> Result<()> {
        self.shared.store.batchers().remove(&batcher);
        Ok(())
    }

    async fn lease(&self, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer> {
        self.step(move |store, _| lease(store, partition, batcher, ttl)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<()> {
        let lease = *lease;
        self.step(move |store, _| {
            store.step(lease.partition, |draft| {
                draft.state.check_lease(&lease)?;
                draft.lease_until = until(ttl);
                Ok(())
            })
        })
        .await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let lease = *lease;
        self.step(move |store, _| {
            store.step(lease.partition, |draft| {
                if draft.state.check_lease(&lease).is_ok() {
                    draft.state.give_back(&lease);
                    draft.lease_until = None;
                }
                Ok(())
            })
        })
        .await
    }

    async fn claim(&self, lease: &Lease, id: ClaimId, budget: ClaimBudget) -> Result<Option<Claim>> {
        let lease = *lease;
        self.step(move |store, _| claims::claim(store, &lease, id, budget, now_ms())).await
    }

    async fn take_in_hand(&self, lease: &Lease, claim: ClaimId, frame: Option<u32>) -> Result<()> {
        let lease = *lease;
        self.step(move |store, _| claims::take_in_hand(store, &lease, claim, frame)).await
    }

    async fn condemn(&self, lease: &Lease, claim: ClaimId, condemned: &[Condemned]) -> Result<()> {
        let (lease, condemned) = (*lease, condemned.to_vec());
        self.step(move |store, _| claims::condemn(store, &lease, claim, condemned, now_ms())).await
    }

    async fn ack(&self, lease: &Lease, claim: ClaimId, left_out: &[Condemned]) -> Result<()> {
        let (lease, left_out) = (*lease, left_out.iter().map(Condemned::place).collect());
        self.step(move |store, _| claims::ack(store, &lease, claim, &left_out)).await
    }
}
