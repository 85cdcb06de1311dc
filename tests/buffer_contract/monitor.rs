//! The monitor on every backend, and what only a Redis can do to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use systole::buffer::Buffer;
use systole::buffer::monitor::{Metrics, Monitor, Options};
use systole::heartbeat::BatcherId;
use systole::telemetry::health::{Affects, Health, PartHealth};
use tokio_util::sync::CancellationToken;

use crate::backend::{AMPLE, Backend, Embedded, Redis, registered};
use crate::suite::{MINUTE, claim, frame, lease, push};

struct Watched {
    health: Health,
    registry: Registry,
    shutdown: CancellationToken,
}

fn watch(buffer: Arc<dyn Buffer>) -> Watched {
    watch_every(buffer, Duration::from_millis(20))
}

fn watch_every(buffer: Arc<dyn Buffer>, pause: Duration) -> Watched {
    let (health, registry, shutdown) = (Health::new(), Registry::new(), CancellationToken::new());
    let options = Options { monitor_every: pause.into(), ..Options::default() };
    let metrics = Metrics::register(&registry).unwrap();
    let monitor = Monitor::new(buffer, &options, Duration::from_secs(10), Affects::Readiness, &health, metrics);
    tokio::spawn({
        let stop = shutdown.clone();
        async move { monitor.run(stop).await }
    });
    Watched { health, registry, shutdown }
}

impl Watched {
    /// Waits until a part is in the state, and answers it.
    async fn until(&self, name: &str, ok: bool, detail: &str) -> PartHealth {
        let give_up = Instant::now() + Duration::from_secs(14);
        loop {
            let part = self.health.snapshot().into_iter().find(|part| part.name == name).unwrap();
            if part.ok == ok && part.detail.contains(detail) {
                return part;
            }
            assert!(Instant::now() < give_up, "{part:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn gauge(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let matching = |metric: &&prometheus::proto::Metric| {
            labels.iter().all(|wanted| metric.get_label().iter().any(|label| label.value() == *wanted))
        };
        family.get_metric().iter().find(matching).unwrap().get_gauge().get_value()
    }
}

pub async fn health_names_what_is_wrong_and_gets_well_by_itself(backend: &mut dyn Backend) {
    let unregistered = watch(backend.open(AMPLE));
    unregistered.until("buffer", false, "not registered").await;
    let buffer = registered(backend, AMPLE).await;
    unregistered.until("buffer", true, "sync").await;
    unregistered.shutdown.cancel();

    let watched = watch(buffer.clone());
    watched.until("batchers", false, "no batcher is alive").await;
    buffer.announce(BatcherId::new(), MINUTE).await.unwrap();
    watched.until("batchers", true, "1 batcher").await;
    watched.until("drain", true, "").await;

    // The frames of the suite say that they were received long ago.
    push(&*buffer, 1, &frame(1, 5)).await.unwrap();
    watched.until("drain", false, "partition 1: the oldest").await;
    assert!(watched.gauge("buffer_oldest_pending_age_seconds", &["1"]) > 10.0);
    assert_eq!(watched.gauge("buffer_heartbeats", &["1"]), 5.0);
    assert_eq!(watched.gauge("buffer_heartbeats_max", &["1"]), AMPLE.heartbeats as f64 / 2.0);
    assert_eq!(watched.gauge("buffer_ledger_heartbeats", &["1", "pending"]), 5.0);
    let lease = lease(&*buffer, 1).await;
    let claim = claim(&*buffer, &lease).await;
    buffer.ack(&lease, claim.id, &[]).await.unwrap();
    watched.until("drain", true, "").await;
}

/// Time passes only while nothing is done.
#[tokio::test(start_paused = true)]
async fn a_batcher_of_the_same_start_is_seen_long_before_the_next_look() {
    let backend = Embedded::start();
    let buffer = registered(&backend, AMPLE).await;
    let pause = Duration::from_secs(600);
    let (watched, began) = (watch_every(buffer.clone(), pause), tokio::time::Instant::now());
    watched.until("batchers", false, "no batcher is alive").await;
    buffer.announce(BatcherId::new(), MINUTE).await.unwrap();
    watched.until("batchers", true, "1 batcher").await;
    assert!(began.elapsed() < pause / 100, "{:?}", began.elapsed());
}

#[tokio::test]
async fn redis_away_or_hanging_is_unwell_within_15_s_and_well_by_itself() {
    let mut redis = Redis::start();
    let watched = watch(registered(&redis, AMPLE).await);
    watched.until("buffer", true, "always").await;
    redis.server.kill();
    watched.until("buffer", false, "out of reach").await;
    watched.until("drain", false, "unknown").await;
    assert_eq!(watched.gauge("buffer_reachable", &[]), 0.0);
    redis.server.restart();
    watched.until("buffer", true, "always").await;
    redis.server.stop_process();
    watched.until("buffer", false, "").await;
    redis.server.cont();
    watched.until("buffer", true, "always").await;
    assert_eq!(watched.gauge("buffer_reachable", &[]), 1.0);
}

#[tokio::test]
async fn a_full_redis_is_not_ready_and_looked_at_all_the_same() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    let watched = watch(buffer.clone());
    watched.until("buffer", true, "").await;
    assert_eq!(watched.gauge("buffer_accepts", &[]), 1.0);
    redis.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    watched.until("buffer", false, "maxmemory").await;
    // What is found out from now on is found in a buffer that refuses.
    buffer.announce(BatcherId::new(), MINUTE).await.unwrap();
    watched.until("batchers", true, "1 batcher").await;
    watched.until("drain", true, "").await;
    assert_eq!((watched.gauge("buffer_reachable", &[]), watched.gauge("buffer_accepts", &[])), (1.0, 0.0));
    redis.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    watched.until("buffer", true, "").await;
    assert_eq!(watched.gauge("buffer_accepts", &[]), 1.0);
}
