//! The devices of several partitions in one order, the longest unseen first.
//!
//! Constraint: what is in memory is one page of each partition, however many devices there are.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{TryStreamExt, stream};

use super::{DEVICES_AT_ONCE, Devices, Result, SeenDevice};
use crate::heartbeat::Partition;

/// Devices that are in memory at the same time, about: some hundred bytes each.
const IN_MEMORY: u32 = 16_000;
/// Partitions that are asked at the same time: fewer than the connections of a process.
const CALLS_AT_ONCE: usize = 4;
/// So many are asked for at a time at least, where somebody wants that many.
const LEAST_AT_ONCE: u32 = 32;

/// Devices that were last seen before some time. See the module.
#[derive(Debug)]
pub struct Unseen {
    devices: Arc<dyn Devices>,
    before: i64,
    at_once: u32,
    feeds: Vec<Feed>,
}

/// One partition.
#[derive(Debug)]
struct Feed {
    partition: Partition,
    waiting: VecDeque<SeenDevice>,
    last: Option<SeenDevice>,
    ended: bool,
}

impl Unseen {
    /// Those of some partitions that were last seen before `before` (ms since the Unix epoch), behind `after`. About `wanted`
    /// of them will be asked for.
    pub fn new(
        devices: Arc<dyn Devices>,
        partitions: impl IntoIterator<Item = Partition>,
        before: i64,
        after: Option<&SeenDevice>,
        wanted: u32,
    ) -> Self {
        let feed = |partition| Feed { partition, waiting: VecDeque::new(), last: after.cloned(), ended: false };
        let feeds: Vec<Feed> = partitions.into_iter().map(feed).collect();
        let share = IN_MEMORY / u32::try_from(feeds.len().max(1)).unwrap_or(u32::MAX);
        let at_once = wanted.min(share).clamp(LEAST_AT_ONCE, DEVICES_AT_ONCE);
        Self { devices, before, at_once, feeds }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// Those of the buffer.
    pub async fn next(&mut self) -> Result<Option<SeenDevice>> {
        let (devices, before, at_once) = (&*self.devices, self.before, self.at_once);
        let empty = self.feeds.iter_mut().filter(|feed| feed.waiting.is_empty() && !feed.ended);
        stream::iter(empty.map(Ok))
            .try_for_each_concurrent(CALLS_AT_ONCE, |feed| feed.fill(devices, before, at_once))
            .await?;
        let first = self.feeds.iter_mut().filter(|feed| !feed.waiting.is_empty());
        Ok(first.min_by(|one, other| one.waiting.front().cmp(&other.waiting.front())).and_then(Feed::take))
    }
}

impl Feed {
    async fn fill(&mut self, devices: &dyn Devices, before: i64, at_once: u32) -> Result<()> {
        let page = devices.devices_unseen(self.partition, before, self.last.as_ref(), at_once).await?;
        self.ended = page.len() < at_once as usize;
        self.waiting = page.into();
        self.last = self.waiting.back().cloned();
        Ok(())
    }

    fn take(&mut self) -> Option<SeenDevice> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::super::{Durability, Error, Reach, Registration};
    use super::*;

    /// Partition p has every device whose number leaves p.
    #[derive(Debug)]
    struct Numbers(u32, AtomicUsize);

    fn device(nth: u32) -> SeenDevice {
        // Two at each time.
        SeenDevice { last_seen: i64::from(nth / 2), user_id: "u".into(), device_id: format!("{nth:05}") }
    }

    #[async_trait]
    impl Reach for Numbers {
        async fn durability(&self) -> Result<Durability> {
            Err(Error::NotRegistered)
        }

        async fn ping(&self) -> Result<()> {
            Ok(())
        }

        async fn registration(&self) -> Result<Option<Registration>> {
            Ok(None)
        }
    }

    #[async_trait]
    impl Devices for Numbers {
        async fn devices_of(&self, _: Partition, _: &str, _: Option<&str>, _: u32) -> Result<Vec<SeenDevice>> {
            Ok(Vec::new())
        }

        async fn devices_unseen(
            &self,
            partition: Partition,
            before: i64,
            after: Option<&SeenDevice>,
            limit: u32,
        ) -> Result<Vec<SeenDevice>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            let own = (0..self.0).filter(|nth| nth % 3 == u32::from(partition)).map(device);
            let wanted = own.filter(|one| one.last_seen < before && after.is_none_or(|after| one > after));
            Ok(wanted.take(limit as usize).collect())
        }
    }

    #[tokio::test]
    async fn partitions_come_together_in_one_order_page_by_page() {
        let numbers = Arc::new(Numbers(1_000, AtomicUsize::new(0)));
        let after = device(99);
        let mut unseen = Unseen::new(numbers.clone(), 0..3, 450, Some(&after), 7);
        let mut found = Vec::new();
        while let Some(next) = unseen.next().await.unwrap() {
            assert!(unseen.feeds.iter().all(|feed| feed.waiting.len() <= LEAST_AT_ONCE as usize));
            found.push(next);
        }
        assert_eq!(found, (100..900).map(device).collect::<Vec<_>>());
        assert!((25..=30).contains(&numbers.1.load(Ordering::Relaxed)), "{numbers:?}");
        assert_eq!(unseen.next().await.unwrap(), None);
    }
}
