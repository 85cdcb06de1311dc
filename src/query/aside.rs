//! Threads that give way: what a reader takes of the CPU, the door must not lack.
//!
//! They lower their own priority, which only root may raise again: so they are of their own, and none of a pool that others
//! use. And they are few and live on. A thread that is new has used up nothing of its share, so the kernel lets it run first:
//! one for each slice of work would have slices that are done before it ever gives way.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;

use super::Error;

/// How far they give way: against one of the usual priority, 0, such a thread gets a tenth of a core that both want.
const NICENESS: i32 = 10;

/// Some such threads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Aside {
    threads: usize,
    /// None until something is read: most processes never do.
    pool: Arc<Mutex<Option<Arc<ThreadPool>>>>,
}

impl Aside {
    pub(super) fn new(threads: u16) -> Self {
        Self { threads: threads.max(1).into(), pool: Arc::default() }
    }

    /// Runs `work`, which may block, on one of them. It goes on where nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        self.pool()?.spawn_fifo(move || {
            // Whoever asked may be gone.
            let _ = tell.send(work());
        });
        told.await.map_err(|_| cut_off("its thread panicked"))
    }

    fn pool(&self) -> Result<Arc<ThreadPool>, Error> {
        // Nothing below can panic halfway through a change, so a poisoned lock still holds a whole pool or none.
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        let built = ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|_| "systole-read".into())
            .start_handler(|_| {
                // Where that is refused, they read as everything else does.
                let _ = rustix::process::setpriority_process(None, NICENESS);
            })
            // It is an error of that read, and the hook has logged it.
            .panic_handler(|_| {})
            .build()
            .map_err(|error| cut_off(&format!("no thread: {error}")))?;
        Ok(pool.insert(Arc::new(built)).clone())
    }
}

fn cut_off(reason: &str) -> Error {
    Error::CutOff { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_at_a_lower_priority_which_nobody_else_gets() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let own = priority();
        let aside = Aside::new(2);
        for _ in 0..4 {
            assert_eq!(aside.run(priority).await.unwrap(), (own + NICENESS).clamp(NICENESS, 19));
        }
        assert_eq!(priority(), own);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_read_alone() {
        let aside = Aside::new(1);
        let ended = aside.run(|| assert_eq!(1, 2, "as it should be")).await;
        assert!(matches!(ended, Err(Error::CutOff { .. })));
        assert_eq!(aside.run(|| 7).await.unwrap(), 7);
    }
}
