//! What runs beside the door: asks for Redis while it is away, takes the spill into it once it is back, and reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::options::Options as Common;
use super::super::redis::RedisBuffer;
use super::super::{Error, Result};
use super::board::{Board, Sight};
use super::course::{Course, Met};
use super::frames::SpilledFrames;
use super::inject::{Injector, Pass};
use super::inlet::SpillingInlet;
use super::metrics::Metrics;
use super::options::Options;
use super::shared::Shared;
use super::store::Store;
use crate::backoff::Backoff;
use crate::telemetry::health::Health;

/// How often Redis is asked for, with jitter: many of them may wait for the same Redis.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the numbers on the health board are brought up to date.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Beyond the deadline of a step, a service that has not reported for longer hangs or is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// The pauses between tries to push what Redis refuses.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Opens the spill in `dir` and looks at Redis once, so that the first heartbeat already goes the right way.
///
/// # Errors
/// [`Error::Unreachable`] when another process has the directory; [`Error::Unsafe`] when it is the spill of another dataset; what
/// the disk says.
pub async fn start(
    dir: PathBuf,
    redis: &Arc<RedisBuffer>,
    common: &Common,
    own: &Options,
    health: &Health,
    metrics: Metrics,
) -> Result<(SpillingInlet, SpilledFrames, SpillService)> {
    metrics.holds_at_most(own.spill_max_bytes.as_u64());
    let store = Store::open(&dir, own.spill_max_bytes, common).await?;
    if let Some(known) = store.registration() {
        // Else it would hold on to whatever is at the address first.
        redis.expect_dataset(known.dataset);
    }
    let shared = Arc::new(Shared::new(redis.clone(), store, dir, metrics));
    let found = shared.look().await;
    match &found {
        Err(error @ Error::Unsafe { .. }) => return Err(error.clone()),
        Err(Error::ForeignDataset { expected, found }) => {
            let dir = shared.dir.display();
            let advice = format!(
                "spill-dir: the spill in {dir} is that of dataset {expected}, the buffer that of dataset {found}; give \
                 another directory, or the right --buffer"
            );
            return Err(Error::Unsafe { advice });
        }
        _ => shared.note(Met::ByLook, found.as_ref().copied()),
    }
    let board = Board::new(health, SILENCE + *common.step_deadline);
    let inlet = SpillingInlet::new(shared.clone(), *own.spill_after);
    let frames = SpilledFrames::new(shared.clone(), redis.clone());
    Ok((inlet, frames, SpillService { shared, board }))
}

/// The spill's work; see the module.
#[derive(Debug)]
pub struct SpillService {
    shared: Arc<Shared>,
    board: Board,
}

impl SpillService {
    /// Whether heartbeats go straight to Redis now.
    pub fn is_direct(&self) -> bool {
        self.shared.course().is_direct()
    }

    /// Runs until `shutdown`. What is under way then is left as it is: the claim stands, and is handed back at the next
    /// start.
    pub async fn run(&self, shutdown: CancellationToken) {
        let work = Worker::new(self.shared.clone()).run(shutdown.clone());
        tokio::join!(work, report(&self.shared, &self.board, shutdown));
    }
}

#[derive(Debug)]
struct Worker {
    shared: Arc<Shared>,
    injector: Injector,
    backoff: Backoff,
    /// The last pass found Redis away, although a look had found all well.
    stumbled: bool,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        let injector = Injector::new(shared.clone());
        Self { shared, injector, backoff: Backoff::new(RETRY_FIRST, RETRY_MOST), stumbled: false }
    }

    async fn run(mut self, shutdown: CancellationToken) {
        let mut course = self.shared.watch_course();
        loop {
            let pause = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                pause = self.turn() => pause,
            };
            course.mark_unchanged();
            // A push may have found Redis away meanwhile.
            let pause = if self.shared.course().is_direct() { pause } else { pause.min(LOOK_EVERY) };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = rest(pause, &mut course) => {}
            }
        }
    }

    /// Does what is due, and answers how long nothing will be.
    async fn turn(&mut self) -> Duration {
        if !self.shared.course().is_direct() {
            return self.look().await;
        }
        let pass = self.injector.pass().await;
        self.stumbled = matches!(pass, Pass::Lost);
        match pass {
            Pass::Held(error) => {
                self.shared.hold_back(Some(&error));
                self.backoff.pause()
            }
            Pass::Lost => Duration::ZERO,
            Pass::Progress => {
                self.backoff.reset();
                Duration::ZERO
            }
            Pass::Empty => {
                self.shared.hold_back(None);
                self.backoff.reset();
                idle(&self.shared).await;
                jittered(LOOK_EVERY)
            }
        }
    }

    /// Asks for a Redis that is away, or must not be used.
    async fn look(&mut self) -> Duration {
        let found = self.shared.look().await;
        self.shared.note(Met::ByLook, found.as_ref().copied());
        match found {
            // Where looks succeed and pushes do not, each try leaves frames behind in Redis.
            Ok(()) if self.stumbled => self.backoff.pause(),
            Ok(()) => Duration::ZERO,
            Err(error) => {
                self.injector.met(&error);
                jittered(LOOK_EVERY)
            }
        }
    }
}

/// Waits, but no longer than until pushes go another way.
async fn rest(pause: Duration, course: &mut watch::Receiver<Course>) {
    // The sender is ours, so it is not gone.
    let _ = tokio::time::timeout(pause, course.changed()).await;
}

/// With nothing to do, looks whether Redis is still there, so that the first producer after its end need not find out.
async fn idle(shared: &Shared) {
    let found = if shared.store.registration().is_some() { shared.ping().await } else { shared.look().await };
    shared.note(Met::ByLook, found.as_ref().copied());
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..=1.25))
}

async fn report(shared: &Shared, board: &Board, shutdown: CancellationToken) {
    let mut course = shared.watch_course();
    loop {
        course.mark_unchanged();
        let sight = look_around(shared).await;
        if let Ok(books) = &sight.books {
            shared.metrics.show(books);
        }
        board.show(&sight);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = rest(REPORT_EVERY, &mut course) => {}
        }
    }
}

async fn look_around(shared: &Shared) -> Sight {
    let course = shared.course();
    let takes = if let Course::Spilling(_) = course { shared.store.takes().await } else { Ok(()) };
    Sight { course, books: shared.store.books().await, takes, held_back: shared.held_back() }
}
