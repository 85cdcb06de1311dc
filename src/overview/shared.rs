//! One answer for all who ask at the same time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What was made last, and made again only when somebody asks and it is no longer fresh. At most one is being made at a time,
/// by a task of its own: who asks and goes away, or will not wait any longer, leaves it to the others.
#[derive(Debug)]
pub(super) struct Shared<T> {
    last: watch::Sender<Option<Made<T>>>,
    making: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Made<T> {
    at: Instant,
    /// `None` when it could not be made.
    value: Option<Arc<T>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { last: watch::Sender::new(None), making: Arc::default() }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// What was made within `fresh`, or what `make` now makes; what was made before that when it takes longer than `patience`.
    pub(super) async fn get<F>(&self, fresh: Duration, patience: Duration, make: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        // Before the look, so that what is made in between is noticed.
        let mut made = self.last.subscribe();
        if let Some(last) = made.borrow().as_ref().filter(|last| last.at.elapsed() < fresh) {
            return last.value.clone();
        }
        if !self.making.swap(true, Ordering::AcqRel) {
            let (last, making) = (self.last.clone(), Making(self.making.clone()));
            let work = make();
            tokio::spawn(async move {
                let value = work.await.map(Arc::new);
                last.send_replace(Some(Made { at: Instant::now(), value }));
                drop(making);
            });
        }
        // Whether it came in time or not: what there is.
        let _ = tokio::time::timeout(patience, made.changed()).await;
        made.borrow().as_ref().and_then(|last| last.value.clone())
    }
}

/// Lets the next one be made, also when this one panicked.
struct Making(Arc<AtomicBool>);

impl Drop for Making {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn all_who_ask_at_once_get_one_answer() {
        let (shared, made) = (Arc::new(Shared::<u32>::default()), Arc::new(AtomicU32::new(0)));
        let asked = (0..10).map(|_| {
            let (shared, made) = (shared.clone(), made.clone());
            tokio::spawn(async move {
                let make = || async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Some(made.fetch_add(1, Ordering::SeqCst) + 1)
                };
                shared.get(LONG, LONG, make).await
            })
        });
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.unwrap().as_deref(), Some(&1));
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
        // No longer fresh.
        assert_eq!(shared.get(Duration::ZERO, LONG, || async { Some(7) }).await.as_deref(), Some(&7));
    }

    #[tokio::test]
    async fn who_will_not_wait_gets_what_there_is() {
        let shared = Shared::<u32>::default();
        let (release, held) = tokio::sync::oneshot::channel::<()>();
        let slow = || async move {
            let _ = held.await;
            Some(1)
        };
        assert_eq!(shared.get(LONG, Duration::ZERO, slow).await, None);
        let twice = || async { panic!("made a second time") };
        assert_eq!(shared.get(LONG, Duration::ZERO, twice).await, None);
        release.send(()).unwrap();
        assert_eq!(shared.get(LONG, LONG, twice).await.as_deref(), Some(&1));
    }

    #[tokio::test]
    async fn what_panics_is_made_anew() {
        let shared = Shared::<u32>::default();
        let soon = Duration::from_millis(50);
        assert_eq!(shared.get(LONG, soon, || async { panic!("on purpose") }).await, None);
        assert_eq!(shared.get(LONG, LONG, || async { Some(2) }).await.as_deref(), Some(&2));
    }
}
