//! Everything that may cut a worker's step short: being told to stop, losing the lease, taking too long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault::{Ending, Fault, Halt};
use super::health::Problems;
use super::lease::Standing;
use crate::heartbeat::{ClaimId, Partition};

/// How long a blocking step that is under way when the worker is told to stop may take to its end. Abandoned after that,
/// it runs on without anybody waiting, which is harmless: it can at most store one more fragment of a claim that stands.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How often a worker that should yield looks whether there is another batcher by now.
const ALONE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// What one worker listens to.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) partition: Partition,
    pub(super) stop: CancellationToken,
    pub(super) standing: Standing,
    /// Whether no other batcher lives, so that yielding would help nobody.
    pub(super) alone: Arc<AtomicBool>,
    pub(super) yield_after: Duration,
    pub(super) busy: Busy,
    pub(super) problems: Arc<Problems>,
}

/// How long there has been work without anything of it being finished.
///
/// Whoever is cut off begins a claim anew, and may find nothing of what was stored: it was published meanwhile. So a claim that
/// takes long (late rows of many dates on a slow disk) is never finished unless whoever gets on with it may go on.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    since: Option<Instant>,
    /// The last claim worked on, and how many of its fragments were stored in the try that got furthest.
    furthest: Option<(ClaimId, usize)>,
}

impl Busy {
    /// There is work, if there was none.
    pub(super) fn begin(&self) {
        self.lock().since.get_or_insert_with(Instant::now);
    }

    /// There is none.
    pub(super) fn end(&self) {
        *self.lock() = Work::default();
    }

    /// So many fragments of the claim are stored. Those that an earlier try had stored are no news.
    pub(super) fn stored(&self, claim: ClaimId, fragments: usize) {
        let mut work = self.lock();
        if work.furthest.is_none_or(|(of, furthest)| of != claim || furthest < fragments) {
            *work = Work { since: Some(Instant::now()), furthest: Some((claim, fragments)) };
        }
    }

    fn since(&self) -> Option<Instant> {
        self.lock().since
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals {
    /// Fails when the worker should not begin another step.
    pub(super) fn check(&self) -> Result<(), Ending> {
        self.standing.check()?;
        if self.stop.is_cancelled() { Err(Ending::Stopped) } else { Ok(()) }
    }

    /// Waits for `pause`, or less when the worker must end.
    pub(super) async fn pause(&self, pause: Duration) -> Result<(), Ending> {
        self.unless_ended(tokio::time::sleep(pause)).await
    }

    /// Waits for something that may be dropped at any instant.
    pub(super) async fn unless_ended<T>(&self, wait: impl Future<Output = T>) -> Result<T, Ending> {
        tokio::select! {
            biased;
            ending = self.ended(Duration::ZERO) => Err(ending),
            done = wait => Ok(done),
        }
    }

    /// Runs a step that blocks, on a thread where it may. A step that is abandoned runs on.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Halt> {
        let step = tokio::task::spawn_blocking(step);
        tokio::select! {
            biased;
            done = step => done.map_err(|_| Fault::Panicked.into()),
            ending = self.ended(STOP_GRACE) => Err(ending.into()),
        }
    }

    async fn ended(&self, stop_grace: Duration) -> Ending {
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(stop_grace).await;
        };
        tokio::select! {
            biased;
            () = self.standing.lost() => Ending::Lost,
            () = stopped => Ending::Stopped,
            () = self.overdue() => Ending::Yielded,
        }
    }

    async fn overdue(&self) {
        let Some(since) = self.busy.since() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(since + self.yield_after).await;
        while self.alone.load(Ordering::Relaxed) {
            // A step that hangs reports no fault of its own.
            self.problems.raise_if_none(self.partition, "work is not finished in time; the disk may hang");
            tokio::time::sleep(ALONE_LOOK_EVERY).await;
        }
    }
}
