//! Keeps the parts of one process running: a part that fails is started again, and the others do not notice.
//!
//! Constraints:
//! - A part is a function that makes the same work anew each time. What must outlive a failure (queues, connections, the
//!   buffer) belongs to the caller, so a failed part takes nothing acknowledged with it.
//! - A part that ends by itself has failed, whether it answers an error, panics, or just returns.
//! - Pauses between two starts grow and are bounded; a part that has run well for a while starts over with the first.
//! - `/health` names the parts that wait for their next start, and for a while those that were started again; `/metrics`
//!   counts. A part that never fails costs one line on the board.
//!
//! Operations: [`Supervisor::keep`] starts a part and keeps it running until [`Part::stop`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounterVec, Registry};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::failpoint;
use crate::telemetry::health::{Affects, Health, Reporter};
use crate::telemetry::metrics::Register;

/// The pause after a part's first failure; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A part that ran for so long is well: its next failure is a first one. Longer than [`LONGEST_PAUSE`].
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How often the board is told.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A supervisor that has not reported for longer hangs.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a part may take to end once it is told to. Longer than any part's own grace: 8 s for requests in flight, 15 s
/// for the batcher's workers.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    board: Arc<Board>,
    _reporting: DropGuard,
}

/// A part that is kept running.
#[derive(Debug)]
pub struct Part {
    name: &'static str,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

/// How the parts are.
#[derive(Debug)]
struct Board {
    parts: Mutex<BTreeMap<&'static str, State>>,
    restarts: IntCounterVec,
}

#[derive(Debug, Default)]
struct State {
    failures: u64,
    /// When it failed last, and why.
    failed: Option<(Instant, String)>,
    /// Whether it waits for its next start.
    down: bool,
}

impl Supervisor {
    /// A supervisor without parts; it reports to `health` as "parts".
    ///
    /// # Errors
    /// The name of its metric is taken.
    pub fn new(health: &Health, registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "How often a part of the process failed and was started again";
        let restarts = Register(registry).counters("part_restarts_total", help, &["part"])?;
        let board = Arc::new(Board { parts: Mutex::default(), restarts });
        let reporter = health.part("parts", Affects::Health, SILENCE);
        let reporting = CancellationToken::new();
        tokio::spawn(report(board.clone(), reporter, reporting.clone()));
        Ok(Self { board, _reporting: reporting.drop_guard() })
    }

    /// Starts a part, and starts it again whenever it fails. `work` is given the token that tells it to end.
    pub fn keep<W, F, E>(&self, name: &'static str, work: W) -> Part
    where
        W: Fn(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.board.lock().insert(name, State::default());
        self.board.restarts.with_label_values(&[name]);
        let (board, stop) = (self.board.clone(), CancellationToken::new());
        let keeper = tokio::spawn(keep(name, work, board, stop.clone()));
        Part { name, stop, keeper }
    }
}

impl Part {
    /// Tells the part to end, and waits for it.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_WITHIN, self.keeper).await.is_err() {
            // What it does is safe to cut off anywhere: the process may die at any instant.
            warn!(part = self.name, after = ?STOP_WITHIN, "a part did not end when told to; it is left behind");
        }
    }
}

async fn keep<W, F, E>(name: &'static str, work: W, board: Arc<Board>, stop: CancellationToken)
where
    W: Fn(CancellationToken) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let begun = Instant::now();
        let why = explain(tokio::spawn(once(name, work(stop.child_token()))).await);
        if stop.is_cancelled() {
            return;
        }
        if begun.elapsed() >= WELL_AFTER {
            backoff.reset();
        }
        let pause = backoff.pause();
        error!(part = name, why, ?pause, "a part of the process failed; it is started again");
        board.failed(name, why);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        info!(part = name, "starting again");
        board.started(name);
    }
}

/// One run of a part. The failpoint `part.NAME` makes its start fail.
async fn once<E: std::fmt::Display>(
    name: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    failpoint::reached(&format!("part.{name}")).map_err(|error| error.to_string())?;
    work.await.map_err(|error| error.to_string())
}

fn explain(ended: Result<Result<(), String>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "it ended by itself".to_owned(),
        Ok(Err(error)) => error,
        Err(panicked) => panicked.to_string(),
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        // Each change is a few plain assignments, so a poisoned lock still holds whole values.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, name: &'static str, why: String) {
        self.restarts.with_label_values(&[name]).inc();
        if let Some(state) = self.lock().get_mut(name) {
            state.failures += 1;
            state.failed = Some((Instant::now(), why));
            state.down = true;
        }
    }

    fn started(&self, name: &'static str) {
        if let Some(state) = self.lock().get_mut(name) {
            state.down = false;
        }
    }

    /// What is wrong, or how many run.
    fn judge(&self) -> Result<String, String> {
        let parts = self.lock();
        let recent = |state: &State| state.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < WELL_AFTER);
        let faults: Vec<String> = parts
            .iter()
            .filter(|(_, state)| state.down || recent(state))
            .filter_map(|(name, state)| {
                let (at, why) = state.failed.as_ref()?;
                let now = if state.down { "is started again soon" } else { "runs again" };
                Some(format!(
                    "{name} failed {} s ago ({why}) and {now}; {} failures since the process started",
                    at.elapsed().as_secs(),
                    state.failures
                ))
            })
            .collect();
        if faults.is_empty() { Ok(format!("{} parts run", parts.len())) } else { Err(faults.join("; ")) }
    }
}

async fn report(board: Arc<Board>, reporter: Reporter, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match board.judge() {
            Ok(detail) => reporter.well(detail),
            Err(detail) => reporter.unwell(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::telemetry::metrics;

    #[tokio::test]
    async fn a_part_that_fails_in_any_way_is_started_again_and_named() {
        let (health, registry) = (Health::new(), metrics::registry().unwrap());
        let supervisor = Supervisor::new(&health, &registry).unwrap();
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        let part = supervisor.keep("writer", move |stop| {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match start {
                    0 => Err("disk on fire"),
                    1 => Ok(()),
                    #[allow(clippy::panic, reason = "it is what is tested")]
                    2 => panic!("boom"),
                    _ => {
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        while starts.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = supervisor.board.judge().unwrap_err();
        assert!(said.contains("writer failed") && said.contains("3 failures") && said.contains("runs again"), "{said}");
        let exposed = String::from_utf8(metrics::render(&registry).unwrap()).unwrap();
        assert!(exposed.contains("systole_part_restarts_total{part=\"writer\"} 3"));
        part.stop().await;
        assert_eq!(starts.load(Ordering::SeqCst), 4, "what is told to end is not started again");
    }
}
