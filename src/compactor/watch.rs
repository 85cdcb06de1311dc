//! `systole compact --watch`: two jobs side by side, so that a long consolidation of an old day never keeps fresh rows
//! from being published. They meet only in a bucket's `.compact.lock`, like two processes.
//!
//! Each job sweeps over the buckets, on a thread that may block, and pauses. A sweep tells health that it is alive, and so
//! does every few thousand rows of a merge; a job that hangs stops telling and is unwell after [`SILENT_FOR`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Job};
use super::visit::{Watcher, Work};
use super::{Compactor, Error, Progress, Summary, policy};
use crate::dataset::Bucket;
use crate::telemetry::health::{Affects, Health, Reporter};

/// Longest silence of a job that is well. Greater than the longest step between two signs of life: waiting for a bucket's
/// lock (`lock_deadline`, 10 s), or hashing one published file (seconds for a gigabyte).
const SILENT_FOR: Duration = Duration::from_secs(60);
/// How often buckets are looked at for consolidation. Nothing waits for it but tidiness.
const CONSOLIDATE_EVERY: Duration = Duration::from_secs(10);
/// How often every bucket is visited, due or not, to finish and clean what a crash left where nothing happens any more.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// A pause is so many times as long as the look that came before it: a dataset of many years costs no more than a 20th of
/// a core to watch.
const PAUSE_PER_LOOK: u32 = 19;
/// However long the look, the next comes no later than this after it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Compactor {
    /// Publishes and consolidates what becomes due until `shutdown`, reporting to `health` as `publishing` and
    /// `consolidating`. Ends between two steps.
    ///
    /// # Errors
    /// [`Error::JobFailed`], once both jobs have ended. Whatever befalls a bucket is retried, and named on `/health`.
    pub async fn watch(self, health: &Health, shutdown: CancellationToken) -> Result<(), Error> {
        let compactor = Arc::new(self);
        let board = Arc::new(Board::default());
        if !compactor.dataset.capabilities().exchange {
            tracing::warn!(
                "the file system cannot exchange folders: published files are right, but stay as many as they are"
            );
        }
        // When one job fails, the other ends as well: whoever runs them starts both anew.
        let stop = shutdown.child_token();
        let job = |job: Job| {
            let pulse = Pulse {
                reporter: health.part(job.to_string(), Affects::Health, SILENT_FOR),
                board: Arc::clone(&board),
                job,
                last: Mutex::new(None),
            };
            Sweeper { compactor: Arc::clone(&compactor), pulse, stop: stop.clone(), tidied: None }
        };
        let (published, consolidated) = tokio::join!(job(Job::Publish).run(), job(Job::Consolidate).run());
        published.and(consolidated)
    }
}

/// A job's sign of life: repeats to health what the board says, at most once a second.
#[derive(Debug)]
struct Pulse {
    reporter: Reporter,
    board: Arc<Board>,
    job: Job,
    last: Mutex<Option<Instant>>,
}

impl Pulse {
    fn report(&self) {
        match self.board.judge(self.job) {
            Ok(detail) => self.reporter.well(detail),
            Err(detail) => self.reporter.unwell(detail),
        }
    }

    fn beat(&self) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the first look there is nothing to repeat.
        if last.is_some_and(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            *last = Some(now);
            self.report();
        }
    }

    fn report_now(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.report();
    }
}

impl Progress for Pulse {
    fn rows(&self, _rows: u64) {
        self.beat();
    }

    fn bucket_done(&self, _bucket: Bucket) {
        self.beat();
    }
}

/// One job.
#[derive(Debug)]
struct Sweeper {
    compactor: Arc<Compactor>,
    pulse: Pulse,
    stop: CancellationToken,
    tidied: Option<Instant>,
}

impl Sweeper {
    async fn run(mut self) -> Result<(), Error> {
        let _the_other_too = self.stop.clone().drop_guard();
        let job = self.pulse.job;
        let every = match job {
            Job::Publish => *self.compactor.options.publish_scan_every,
            Job::Consolidate => CONSOLIDATE_EVERY,
        };
        while !self.stop.is_cancelled() {
            let swept = tokio::task::spawn_blocking(move || {
                let looked_for = self.sweep();
                (self, looked_for)
            });
            let looked_for;
            (self, looked_for) = match swept.await {
                Ok(back) => back,
                // Visits catch panics, so this is one of the sweep itself.
                Err(error) => return Err(Error::JobFailed { message: format!("{job} failed: {error}") }),
            };
            let pause = every.max(looked_for.saturating_mul(PAUSE_PER_LOOK).min(LONGEST_PAUSE));
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Answers how long it took to see what is due.
    fn sweep(&mut self) -> Duration {
        let started = Instant::now();
        let due = match self.pulse.job {
            Job::Publish => self.due_to_publish(),
            Job::Consolidate => self.due_to_consolidate(),
        };
        let looked_for = started.elapsed();
        let job = self.pulse.job;
        match due {
            Ok(due) => {
                self.pulse.board.set_blind(job, None);
                // Before the work, which may be long when a backlog waits.
                self.pulse.report_now();
                self.visit_all(due);
            }
            Err(error) => self.pulse.board.set_blind(job, Some(format!("cannot look at the buckets: {error}"))),
        }
        self.pulse.report_now();
        looked_for
    }

    fn visit_all(&self, buckets: Vec<Bucket>) {
        let work = match self.pulse.job {
            Job::Publish => Work::PublishOne,
            Job::Consolidate => Work::Consolidate,
        };
        let watcher = Watcher { progress: &self.pulse, stop: &self.stop };
        for bucket in buckets {
            if self.stop.is_cancelled() {
                return;
            }
            if self.pulse.board.may_try(self.pulse.job, bucket, Instant::now()) {
                let outcome = self.compactor.visit(bucket, work, watcher, &mut Summary::default());
                self.note(bucket, &outcome);
            }
            self.pulse.beat();
        }
    }

    fn note(&self, bucket: Bucket, outcome: &Result<(), Error>) {
        let (board, metrics) = (&self.pulse.board, &self.compactor.metrics);
        if outcome.as_ref().is_err_and(|error| !matches!(error, Error::Stopped | Error::Busy)) {
            metrics.failures.inc();
        }
        board.note(self.pulse.job, bucket, outcome, Instant::now());
        metrics.held_back.set(gauge(board.held_back() as u64));
    }

    fn due_to_publish(&self) -> Result<Vec<Bucket>, Error> {
        let scan = self.compactor.scan()?;
        let (board, metrics) = (&self.pulse.board, &self.compactor.metrics);
        metrics.staged_fragments.set(gauge(scan.fragments));
        metrics.staged_rows.set(gauge(scan.rows));
        metrics.staged_oldest_age.set(gauge(scan.oldest_age.as_secs()));
        let words = format!(
            "{} fragments with {} rows wait, the oldest for {} s",
            scan.fragments,
            scan.rows,
            scan.oldest_age.as_secs()
        );
        board.set_words(Job::Publish, words);
        board.retain(Job::Publish, |bucket| scan.staged.contains(&bucket));
        for (bucket, error) in scan.failed {
            self.note(bucket, &Err(error));
        }
        Ok(scan.due)
    }

    fn due_to_consolidate(&mut self) -> Result<Vec<Bucket>, Error> {
        let compactor = &self.compactor;
        let tidy = self.tidied.is_none_or(|last| last.elapsed() >= TIDY_EVERY);
        let (mut due, mut failed, mut files) = (Vec::new(), Vec::new(), 0);
        let buckets = compactor.dataset.buckets()?;
        for &bucket in buckets.iter().rev() {
            if self.stop.is_cancelled() {
                return Ok(Vec::new());
            }
            self.pulse.beat();
            match compactor.look_after(bucket) {
                Ok(seen) => {
                    files += seen.files;
                    self.pulse.board.set_quarantined(bucket, seen.quarantined);
                    if seen.due || tidy {
                        due.push(bucket);
                    }
                }
                Err(error) => {
                    self.note(bucket, &Err(error));
                    failed.push(bucket);
                }
            }
        }
        self.pulse.board.retain(Job::Consolidate, |bucket| due.contains(&bucket) || failed.contains(&bucket));
        if tidy {
            self.tidied = Some(Instant::now());
        }
        compactor.metrics.published_files.set(gauge(files as u64));
        compactor.metrics.quarantined.set(gauge(self.pulse.board.quarantined() as u64));
        let words = if compactor.dataset.capabilities().exchange {
            format!("{files} published files in {} buckets", buckets.len())
        } else {
            format!("{files} published files, never consolidated: the file system cannot exchange folders")
        };
        self.pulse.board.set_words(Job::Consolidate, words);
        Ok(due)
    }
}

/// What a bucket looks like to the consolidating job.
struct Seen {
    files: usize,
    quarantined: usize,
    due: bool,
}

impl Compactor {
    fn look_after(&self, bucket: Bucket) -> Result<Seen, Error> {
        let names = self.dataset.list_published(bucket)?;
        let outlived = |retired: &crate::dataset::Retired| retired.age >= *self.options.reader_grace;
        let mut due = self.dataset.retired(bucket)?.iter().any(outlived);
        if !due && names.len() > 1 && self.dataset.capabilities().exchange {
            let facts = names.iter().map(|name| self.records.facts(&self.dataset, bucket, name));
            let facts = facts.collect::<Result<Vec<_>, _>>()?;
            due = policy::consolidation(&self.options, bucket.date, &facts, Timestamp::now()).is_some();
        }
        Ok(Seen { files: names.len(), quarantined: self.dataset.quarantined(bucket)?.len(), due })
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
