//! A simulated process: it lives until it is killed, by others or at a step of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio_util::sync::CancellationToken;

/// A cheap handle.
#[derive(Debug, Clone)]
pub struct Life {
    /// Another one for each process of a play.
    pub number: u64,
    dead: CancellationToken,
    /// Changes of the disk left until it dies; below zero it dies of nothing.
    left: Arc<AtomicI64>,
}

impl Life {
    pub fn new(number: u64) -> Self {
        Self { number, dead: CancellationToken::new(), left: Arc::new(AtomicI64::new(-1)) }
    }

    pub fn kill(&self) {
        self.dead.cancel();
    }

    /// Lets it die after so many more changes of the disk.
    pub fn kill_after(&self, steps: i64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Resolves once it is dead.
    pub async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// Whether it lives to take this step.
    pub fn step(&self) -> bool {
        if self.left.load(Ordering::SeqCst) >= 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.kill();
        }
        !self.is_dead()
    }
}
