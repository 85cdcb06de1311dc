//! Threads that give way: what a reader takes of the CPU, the door must not lack.
//!
//! Each slice of work has a thread of its own, which lowers its own priority first. Threads of a pool that others use as well
//! would keep the lower one: only root may raise it again.

use tokio::sync::oneshot;

use super::Error;

/// How far they give way: against one of the usual priority, 0, such a thread gets a tenth of a core that both want.
const NICENESS: i32 = 10;

/// Runs `work`, which may block, on such a thread. It goes on where nobody waits for it any more.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let (tell, told) = oneshot::channel();
    let run = move || {
        // Where that is refused, it reads as everything else does.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        // Whoever asked may be gone.
        let _ = tell.send(work());
    };
    let cut_off = |reason: String| Error::CutOff { reason };
    std::thread::Builder::new()
        .name("systole-read".into())
        .spawn(run)
        .map_err(|error| cut_off(format!("no thread: {error}")))?;
    told.await.map_err(|_| cut_off("its thread ended early".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_at_a_lower_priority_which_nobody_else_gets() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let own = priority();
        assert_eq!(aside(priority).await.unwrap(), (own + NICENESS).clamp(NICENESS, 19));
        assert_eq!(priority(), own);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_read() {
        let ended = aside(|| assert_eq!(1, 2, "as it should be")).await;
        assert!(matches!(ended, Err(Error::CutOff { .. })));
    }
}
