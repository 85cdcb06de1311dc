//! What rules left behind in the buffer, where no rule is left: it is taken back without a word.
//!
//! A watcher does so itself for the rules that it does not have ([`super::Watcher`]); without any rule none runs. Then what was
//! raised would be ended with an event, and told as old news, the day that a rule of that name comes back.
//!
//! Constraints:
//! - It never comes in between: nothing is touched while another process holds the watch, or looked within [`patience`], which
//!   is time enough for one to be started again. Processes that have the rules and such as do not may run side by side.
//! - Done once, it asks for nothing any more. Dying in the middle leaves the rest to the next start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Options;
use crate::buffer::{Alarms, Change, Error, MAX_CHANGES, Raised, Result, Watch, WatcherId};

/// The shortest pause between two tries.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the watch is held for one page: the longest that the buffer takes for a step, and more.
const TTL: Duration = Duration::from_secs(15);
/// How long an end waits for giving the watch back.
const LAST_STEP: Duration = Duration::from_secs(1);
/// Devices and events of one call.
const PAGE: u32 = 500;

/// How long nobody must have watched, where another process may have the rules: it may miss two looks, die, and be started again.
pub fn patience(options: &Options) -> Duration {
    4 * options.ttl()
}

/// See the module.
#[derive(Debug)]
pub struct Leftovers {
    id: WatcherId,
    alarms: Arc<dyn Alarms>,
    patience: Duration,
}

impl Leftovers {
    /// `patience` is zero where no other process can have the rules.
    pub fn new(alarms: Arc<dyn Alarms>, patience: Duration) -> Self {
        Self { id: WatcherId::new(), alarms, patience }
    }

    /// Takes back what there is, and waits to be told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            while !self.are_gone().await {
                sleep(self.patience.max(PAUSE)).await;
            }
        };
        if stop.run_until_cancelled(work).await.is_none() {
            // Where this fails, what may be held still runs out by itself.
            let _ = timeout(LAST_STEP, self.alarms.unwatch(self.id)).await;
        }
        stop.cancelled().await;
    }

    async fn are_gone(&self) -> bool {
        let outcome = self.take_back().await;
        let _ = self.alarms.unwatch(self.id).await;
        outcome.unwrap_or_else(|error| {
            debug!(%error, "cannot take back what rules about silence left behind");
            false
        })
    }

    /// Whether nothing is left.
    async fn take_back(&self) -> Result<bool> {
        let Watch::Taken { now, looked, .. } = self.alarms.watch(self.id, TTL, None).await? else { return Ok(false) };
        let unwatched = looked.map(|looked| u128::try_from(now.saturating_sub(looked)).unwrap_or(0));
        if unwatched.is_some_and(|ms| ms < self.patience.as_millis()) {
            return Ok(false);
        }
        // First: whatever comes of the rest, a rule that comes back is a new one.
        self.alarms.rules(self.id, &[]).await?;
        let (devices, events) = (self.lower_all().await?, self.empty_outbox().await?);
        if devices + events > 0 {
            info!(devices, events, "closed what was raised by rules that are no more");
        }
        Ok(true)
    }

    async fn lower_all(&self) -> Result<usize> {
        let (mut count, mut last): (usize, Option<Raised>) = (0, None);
        loop {
            let page = self.alarms.raised(last.as_ref(), PAGE).await?;
            let Some(end) = page.last().cloned() else { return Ok(count) };
            count += page.len();
            let changes: Vec<Change> = page.into_iter().map(Change::Forget).collect();
            for some in changes.chunks(MAX_CHANGES) {
                self.alarms.mark(self.id, some).await?;
            }
            last = Some(end);
            self.go_on().await?;
        }
    }

    async fn empty_outbox(&self) -> Result<usize> {
        let (mut count, mut last) = (0, None);
        loop {
            let page = self.alarms.outbox(last, PAGE).await?;
            let Some(end) = page.last().map(|queued| queued.number) else { return Ok(count) };
            count += page.len();
            let numbers: Vec<u64> = page.iter().map(|queued| queued.number).collect();
            self.alarms.settle(self.id, &numbers).await?;
            last = Some(end);
            self.go_on().await?;
        }
    }

    async fn go_on(&self) -> Result<()> {
        match self.alarms.watch(self.id, TTL, None).await? {
            Watch::Taken { began: false, .. } => Ok(()),
            _ => Err(Error::Unwatched),
        }
    }
}
