//! Group commit: many requests share one write to the buffer.
//!
//! Constraints:
//! - One write is under way at a time. What arrives meanwhile is gathered and goes with the next one; nobody waits for a
//!   timer. So the writes are as large as the buffer is slow: under `appendfsync always` each fsync carries all that came
//!   in during the one before it. A second write at the same time would only halve them, and could overtake the first.
//! - A request is answered with the worst that befell its frames; only if all are held it is `Ok`.
//! - Room for a request of several partitions is looked for in all of them before any of its frames is pushed.
//! - What waits is bounded in requests, heartbeats and bytes; beyond that a request is refused at once. One that is larger than
//!   all that may wait takes all of it, and goes alone; one that is larger than a partition may ever hold is told so.
//! - `accept` answers within `push_deadline`. A request whose caller has given up before its frames were sent is not
//!   pushed at all; after that its outcome is unknown, and identity makes the resend safe.
//!
//! Operations: [`Committer::start`] gives a [`CommitterHandle`] for the door and a [`CommitterService`] to run. At
//! shutdown the service takes no more requests, writes those that it has, and ends.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use prometheus::{Histogram, IntCounter, IntCounterVec, Registry};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::plan::{Plan, Slice};
use super::intake::Parcel;
use super::options::Options;
use super::{Error, Inlet, Intake, Result, Room};
use crate::failpoint;
use crate::heartbeat::{Block, Frame, Partition};
use crate::telemetry::metrics::Register;

/// Requests that may wait.
const MAX_WAITING_REQUESTS: usize = 8_192;
/// Heartbeats that may wait: twenty of the largest bulks.
const MAX_WAITING_HEARTBEATS: usize = 200_000;
/// Blocks that may wait, in KiB; the door's byte budget comes on top.
const MAX_WAITING_KIB: usize = 32 << 10;
/// Requests that share one write.
const MAX_BATCH_REQUESTS: usize = 4_096;
/// Heartbeats at which a write is full.
const MAX_BATCH_HEARTBEATS: usize = 40_000;
/// Bytes of blocks at which a write is full: what Redis reads, and fsyncs, at one go.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Up to so many bytes, blocks are joined where they are; more (some milliseconds' work) on a thread that may block.
const JOIN_INLINE_BYTES: usize = 512 << 10;

/// The committer's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    push_seconds: Histogram,
    frame_heartbeats: Histogram,
    batch_requests: Histogram,
    frames: IntCounter,
    heartbeats: IntCounter,
    refused: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let sizes = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0];
        let metrics = Self {
            push_seconds: register.seconds("push_seconds", "How long a write of gathered requests took")?,
            frame_heartbeats: register.histogram("push_frame_heartbeats", "Heartbeats in a pushed frame", &sizes)?,
            batch_requests: register.histogram("push_batch_requests", "Requests that shared a write", &sizes)?,
            frames: register.counter("push_frames_total", "Frames that the buffer holds or held")?,
            heartbeats: register.counter("push_heartbeats_total", "Heartbeats that the buffer holds or held")?,
            refused: register.counters(
                "push_refused_heartbeats_total",
                "Heartbeats that the buffer did not take, by reason",
                &["reason"],
            )?,
        };
        for reason in REASONS {
            metrics.refused.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    fn refuse(&self, error: &Error, heartbeats: usize) {
        self.refused.with_label_values(&[reason(error)]).inc_by(heartbeats as u64);
    }
}

/// Every series exists from the start, so that a rate sees its first move.
const REASONS: [&str; 8] =
    ["full", "timed_out", "unreachable", "refused", "too_few_replicas", "not_registered", "foreign_dataset", "other"];

fn reason(error: &Error) -> &'static str {
    match error {
        Error::Full { .. } => "full",
        Error::TimedOut { .. } => "timed_out",
        Error::Unreachable { .. } => "unreachable",
        Error::Refused { .. } => "refused",
        Error::TooFewReplicas { .. } => "too_few_replicas",
        Error::NotRegistered => "not_registered",
        Error::ForeignDataset { .. } => "foreign_dataset",
        _ => "other",
    }
}

/// Makes a committer.
#[derive(Debug)]
pub struct Committer;

impl Committer {
    /// The handle for the door, and the service to run behind it. No request is answered before the service runs.
    pub fn start(buffer: Arc<dyn Inlet>, options: &Options, metrics: Metrics) -> (CommitterHandle, CommitterService) {
        let (sender, queue) = mpsc::channel(MAX_WAITING_REQUESTS);
        let handle = CommitterHandle {
            buffer: buffer.clone(),
            partitions: Arc::default(),
            sender,
            heartbeats: Arc::new(Semaphore::new(MAX_WAITING_HEARTBEATS)),
            kib: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            deadline: *options.push_deadline,
            caps: (options.buffer_max_heartbeats, options.buffer_max_bytes.as_u64()),
            metrics: metrics.clone(),
        };
        (handle, CommitterService { buffer, queue, metrics })
    }
}

/// Hands heartbeats to the committer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CommitterHandle {
    buffer: Arc<dyn Inlet>,
    /// Fixed for a dataset's life, so they are asked for once.
    partitions: Arc<OnceCell<Partition>>,
    sender: mpsc::Sender<Request>,
    heartbeats: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    deadline: Duration,
    /// Heartbeats and bytes that the buffer may hold, all partitions together.
    caps: (u64, u64),
    metrics: Metrics,
}

/// What one caller wants held.
#[derive(Debug)]
struct Request {
    parcels: Vec<Parcel>,
    rows: usize,
    bytes: usize,
    answer: oneshot::Sender<Result<()>>,
    /// Its share of what may wait, given back when it is answered.
    _share: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl CommitterHandle {
    fn enqueue(&self, parcels: Vec<Parcel>, rows: usize) -> Result<oneshot::Receiver<Result<()>>> {
        let overloaded = |_| Error::Refused { reason: "overloaded: too much waits to be written".into() };
        let bytes: usize = parcels.iter().map(|(_, block)| block.memory_len()).sum();
        let permits = |count: usize, all: usize| u32::try_from(count.min(all)).unwrap_or(u32::MAX);
        let (rows_share, kib_share) =
            (permits(rows, MAX_WAITING_HEARTBEATS), permits(bytes.div_ceil(1 << 10), MAX_WAITING_KIB));
        let share = self.heartbeats.clone().try_acquire_many_owned(rows_share).map_err(overloaded)?;
        let kib = self.kib.clone().try_acquire_many_owned(kib_share).map_err(overloaded)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { parcels, rows, bytes, answer, _share: (share, kib) };
        self.sender.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::Refused { reason: "overloaded: too many requests wait to be written".into() }
            }
            mpsc::error::TrySendError::Closed(_) => Error::Refused { reason: "shutting down".into() },
        })?;
        Ok(answered)
    }

    /// Refuses what a partition could not hold even if it were empty: its client would send it for ever. A single heartbeat
    /// nobody can make smaller, so it is left to the buffer.
    fn check_fits_ever(&self, parcels: &[Parcel], rows: usize) -> Result<()> {
        let Some(&partitions) = self.partitions.get() else { return Ok(()) };
        let share = |total: u64| total / u64::from(partitions.max(1));
        let (most_rows, most_bytes) = (share(self.caps.0), share(self.caps.1));
        let bytes: usize = parcels.iter().map(|(_, block)| block.stored_len()).sum();
        if rows as u64 <= most_rows && bytes as u64 <= most_bytes {
            // As nearly all do, whatever their partitions.
            return Ok(());
        }
        let mut loads: BTreeMap<Partition, (u64, u64)> = BTreeMap::new();
        for (partition, block) in parcels {
            let (rows, bytes) = loads.entry(*partition).or_default();
            *rows += u64::from(block.rows());
            *bytes += block.stored_len() as u64;
            if *rows > 1 && (*rows > most_rows || *bytes > most_bytes) {
                return Err(Error::TooLarge { partition: *partition });
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Intake for CommitterHandle {
    async fn partitions(&self) -> Result<Partition> {
        if let Some(partitions) = self.partitions.get() {
            return Ok(*partitions);
        }
        let after = self.deadline;
        let asked = self.partitions.get_or_try_init(|| ask_for_partitions(&*self.buffer));
        tokio::time::timeout(after, asked).await.unwrap_or(Err(Error::TimedOut { after })).copied()
    }

    async fn accept(&self, parcels: Vec<Parcel>) -> Result<()> {
        let count = parcels.iter().map(|(_, block)| block.rows() as usize).sum();
        if count == 0 {
            return Ok(());
        }
        self.check_fits_ever(&parcels, count)?;
        let after = self.deadline;
        let outcome = match self.enqueue(parcels, count) {
            Err(error) => Err(error),
            Ok(answered) => match tokio::time::timeout(after, answered).await {
                Ok(Ok(outcome)) => outcome,
                // The service ended, or died, with the request in its hands.
                Ok(Err(_)) => Err(Error::Unreachable { reason: "the writer ended before it answered".into() }),
                Err(_) => Err(Error::TimedOut { after }),
            },
        };
        if let Err(error) = &outcome {
            self.metrics.refuse(error, count);
        }
        outcome
    }
}

/// The committer's work; see the module.
#[derive(Debug)]
pub struct CommitterService {
    buffer: Arc<dyn Inlet>,
    queue: mpsc::Receiver<Request>,
    metrics: Metrics,
}

impl CommitterService {
    /// Writes what comes until `shutdown`, then what had come by then. It may be called again should it have failed: the
    /// requests that it had in hand are answered as unknown, those that wait are still there.
    pub async fn run(&mut self, shutdown: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { return };
            let batch = self.gather(first);
            if !batch.is_empty() {
                self.commit(batch).await;
            }
        }
    }

    /// Everything that waits now, up to the bounds of one write, but for requests that nobody waits for any more.
    fn gather(&mut self, first: Request) -> Vec<Request> {
        let (mut batch, mut rows, mut bytes) = (Vec::new(), 0, 0);
        let mut next = Some(first);
        while let Some(request) = next {
            if !request.answer.is_closed() {
                rows += request.rows;
                bytes += request.bytes;
                batch.push(request);
            }
            let full = batch.len() >= MAX_BATCH_REQUESTS || rows >= MAX_BATCH_HEARTBEATS || bytes >= MAX_BATCH_BYTES;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        batch
    }

    async fn commit(&mut self, batch: Vec<Request>) {
        self.metrics.batch_requests.observe(batch.len() as f64);
        let (requests, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.parcels, (request.answer, request._share))).unzip();
        let outcomes = match self.write(requests).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(error); answers.len()],
        };
        for ((answer, _share), outcome) in answers.into_iter().zip(outcomes) {
            // Nobody waits for it any more: the resend that may follow is the same heartbeats.
            let _ = answer.send(outcome);
        }
    }

    /// Writes the requests and says what became of each.
    async fn write(&mut self, requests: Vec<Vec<Parcel>>) -> Result<Vec<Result<()>>> {
        let mut outcomes: Vec<Result<()>> = vec![Ok(()); requests.len()];
        let mut slices = plan::split(requests);
        self.look_for_room(&slices, &mut outcomes).await?;
        slices.retain(|slice| outcomes[slice.request].is_ok());
        let plan = join(slices).await?;
        self.push(plan, &mut outcomes).await?;
        Ok(outcomes)
    }

    /// Refuses each request of several partitions for which one of them has no room left behind what comes before it.
    ///
    /// A request of one partition needs no look: its push is exact, and nothing of it is kept when refused.
    async fn look_for_room(&self, slices: &[Slice], outcomes: &mut [Result<()>]) -> Result<()> {
        let asked = plan::loads_of_the_scattered(slices);
        if asked.is_empty() {
            return Ok(());
        }
        let wanted: Vec<_> = asked.iter().map(|(_, load)| *load).collect();
        let rooms = self.buffer.room(&wanted).await?;
        if rooms.len() != wanted.len() {
            return Err(Error::Corrupt { detail: "the buffer judged other loads than it was asked about".into() });
        }
        for ((request, (partition, _, _)), room) in asked.into_iter().zip(rooms) {
            if room == Room::Full {
                outcomes[request] = Err(Error::Full { partition });
            }
        }
        Ok(())
    }

    async fn push(&self, plan: Plan, outcomes: &mut [Result<()>]) -> Result<()> {
        if plan.frames.is_empty() {
            return Ok(());
        }
        reached("committer.before_push")?;
        let begun = Instant::now();
        let held = self.buffer.push(&plan.frames).await;
        self.metrics.push_seconds.observe(begun.elapsed().as_secs_f64());
        reached("committer.after_push")?;
        if held.len() != plan.frames.len() {
            return Err(Error::Corrupt { detail: "the buffer answered for other frames than it was given".into() });
        }
        for (((_, frame), owners), held) in plan.frames.iter().zip(&plan.owners).zip(held) {
            match held {
                Ok(()) => self.count(frame),
                Err(error) => owners.iter().for_each(|&request| worsen(&mut outcomes[request], &error)),
            }
        }
        Ok(())
    }

    fn count(&self, frame: &Frame) {
        self.metrics.frames.inc();
        self.metrics.heartbeats.inc_by(frame.rows().into());
        self.metrics.frame_heartbeats.observe(frame.rows().into());
    }
}

async fn ask_for_partitions(buffer: &dyn Inlet) -> Result<Partition> {
    // The check at the process's start finds nothing to judge while the buffer is away, so the first request asks again:
    // no 202 for what the buffer may forget.
    buffer.durability().await?;
    let registration = buffer.registration().await?.ok_or(Error::NotRegistered)?;
    tracing::info!(dataset = %registration.dataset, partitions = registration.partitions, "the buffer is registered");
    Ok(registration.partitions)
}

async fn join(slices: Vec<Slice>) -> Result<Plan> {
    let to_pack: usize = slices.iter().flat_map(|slice| &slice.blocks).filter_map(Block::plain).map(<[u8]>::len).sum();
    if to_pack <= JOIN_INLINE_BYTES {
        return Ok(plan::encode(slices));
    }
    let failed = |error: tokio::task::JoinError| Error::Refused { reason: format!("the encoder failed: {error}") };
    tokio::task::spawn_blocking(move || plan::encode(slices)).await.map_err(failed)
}

fn reached(name: &str) -> Result<()> {
    failpoint::reached(name).map_err(|error| Error::Refused { reason: error.to_string() })
}

/// Keeps the worse of two outcomes: what a person must mend, then what is unknown, then what was refused whole.
fn worsen(outcome: &mut Result<()>, error: &Error) {
    let badness = |error: &Error| match error {
        Error::Full { .. } => 1,
        Error::Refused { .. } => 2,
        Error::TooFewReplicas { .. } => 3,
        Error::Unreachable { .. } | Error::TimedOut { .. } => 4,
        _ => 5,
    };
    if outcome.as_ref().err().is_none_or(|before| badness(before) < badness(error)) {
        *outcome = Err(error.clone());
    }
}
