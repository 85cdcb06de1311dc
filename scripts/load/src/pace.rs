//! A constant rate.
//!
//! Each request is due at a moment that does not depend on how the ones before it fare, and its time counts from that
//! moment: a server that stalls is charged for all that would have been sent meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Lets requests go when they are due. tokio's own timers are a millisecond apart, so a thread does the waiting.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// Between two requests.
    interval: Duration,
    taken: AtomicU64,
    due: Semaphore,
}

impl Pace {
    pub fn new(began: Instant, requests_per_s: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / requests_per_s);
        Self { began, interval, taken: 0.into(), due: Semaphore::new(0) }
    }

    /// Runs until `until` or until it is stopped. Nobody waits on after that.
    pub fn run(&self, until: Instant) {
        let mut released = 0;
        while !self.due.is_closed() {
            let now = Instant::now();
            if now >= until {
                return self.stop();
            }
            let due = (now - self.began).as_nanos() / self.interval.as_nanos().max(1) + 1;
            let due = u64::try_from(due).unwrap_or(u64::MAX);
            self.due.add_permits((due - released) as usize);
            released = due;
            std::thread::sleep(self.due_at(released).saturating_duration_since(Instant::now()));
        }
    }

    pub fn stop(&self) {
        self.due.close();
    }

    /// Waits until the next request is due; when that was. `None` after the end.
    pub async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        Some(self.due_at(self.taken.fetch_add(1, Ordering::Relaxed)))
    }

    fn due_at(&self, request: u64) -> Instant {
        let nanos = self.interval.as_nanos() * u128::from(request);
        self.began + Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
    }
}
