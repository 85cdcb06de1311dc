//! The group committer on every backend.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use systole::buffer::committer::{Committer, CommitterHandle, Metrics};
use systole::buffer::options::Options;
use systole::buffer::{Error, Inlet, Intake};
use systole::heartbeat::{Block, Heartbeat, OpenFrame, partition_of};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backend::{AMPLE, Backend, Caps, DATASET, registered};
use crate::gate::Gate;
use crate::suite::{claim, lease, ledger};

fn beat(user: &str, nth: i64) -> Heartbeat {
    let (device_id, id, attributes) = ("d".into(), None, None);
    Heartbeat { user_id: user.into(), device_id, timestamp: nth, id, received_at: 1, attributes }
}

/// A user of partition `wanted`.
fn user_of(wanted: u16) -> String {
    (0..).map(|nth| format!("u{nth}")).find(|user| partition_of(user, DATASET.partitions) == wanted).unwrap()
}

async fn accept(handle: &CommitterHandle, heartbeats: Vec<Heartbeat>) -> Result<(), Error> {
    let partitions = handle.partitions().await?;
    handle.accept(Block::encode_by_partition(heartbeats.iter().map(Heartbeat::as_ref), partitions, 0)).await
}

struct Running {
    handle: CommitterHandle,
    registry: Registry,
    shutdown: CancellationToken,
    service: JoinHandle<()>,
}

fn run(buffer: Arc<dyn Inlet>, options: &Options) -> Running {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    let (handle, mut service) = Committer::start(buffer, options, metrics);
    let shutdown = CancellationToken::new();
    let service = tokio::spawn({
        let stop = shutdown.clone();
        async move { service.run(stop).await }
    });
    Running { handle, registry, shutdown, service }
}

impl Running {
    /// Puts requests into the queue in this order.
    async fn send(&self, requests: Vec<Vec<Heartbeat>>) -> Vec<JoinHandle<Result<(), Error>>> {
        let mut sent = Vec::new();
        for heartbeats in requests {
            let handle = self.handle.clone();
            sent.push(tokio::spawn(async move { accept(&handle, heartbeats).await }));
            // On this single thread the task runs up to its wait for the answer.
            tokio::task::yield_now().await;
        }
        sent
    }

    fn count(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let of = |metric: &prometheus::proto::Metric| {
            metric.get_counter().get_value() as u64 + metric.get_histogram().get_sample_count()
        };
        family.get_metric().iter().map(of).sum()
    }
}

pub async fn what_arrives_during_a_slow_write_goes_with_the_next_one_in_order(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let gate = Gate::before(buffer.clone());
    let running = run(gate.clone(), &Options::default());
    let user = user_of(0);
    accept(&running.handle, vec![beat(&user, 0)]).await.unwrap();
    gate.shut();
    let sent = running.send((1..=101).map(|nth| vec![beat(&user, nth)]).collect()).await;
    gate.open();
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    // The first alone, the one that met the shut gate, and all others together.
    assert_eq!(running.count("push_seconds"), 3);
    assert_eq!(running.count("push_heartbeats_total"), 102);
    let lease = lease(&*buffer, 0).await;
    let claim = claim(&*buffer, &lease).await;
    assert_eq!(claim.frames.len(), 3);
    let order: Vec<i64> = claim
        .frames
        .iter()
        .flat_map(|frame| {
            OpenFrame::open(frame).unwrap().all_rows().unwrap().iter().map(|row| row.timestamp).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(order, (0..=101).collect::<Vec<_>>());
}

pub async fn a_caller_that_gave_up_in_time_is_not_pushed(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let gate = Gate::before(buffer.clone());
    let running = run(gate.clone(), &Options::default());
    let user = user_of(0);
    accept(&running.handle, vec![beat(&user, 0)]).await.unwrap();
    gate.shut();
    let mut sent = running.send((1..=5).map(|nth| vec![beat(&user, nth)]).collect()).await;
    sent.remove(2).abort();
    tokio::task::yield_now().await;
    gate.open();
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(ledger(&*buffer, 0).await.pending, 5);
}

pub async fn a_slow_buffer_is_answered_for_by_the_deadline(backend: &mut dyn Backend) {
    let gate = Gate::before(registered(backend, AMPLE).await);
    let options = Options { push_deadline: Duration::from_millis(300).into(), ..Options::default() };
    let running = run(gate.clone(), &options);
    accept(&running.handle, vec![beat("u", 0)]).await.unwrap();
    gate.shut();
    let begun = std::time::Instant::now();
    let sent = running.send((1..=9).map(|nth| vec![beat("u", nth)]).collect()).await;
    for sent in sent {
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    gate.open();
    accept(&running.handle, vec![beat("u", 10)]).await.unwrap();
    assert_eq!(running.count("push_refused_heartbeats_total"), 9);
}

pub async fn a_request_of_several_partitions_is_kept_whole_or_not_at_all(backend: &mut dyn Backend) {
    let caps = Caps { heartbeats: 20, ..AMPLE };
    let buffer = registered(backend, caps).await;
    let running = run(buffer.clone(), &Options::default());
    let (left, right) = (user_of(0), user_of(1));
    let of = |user: &str, count: i64| (0..count).map(|nth| beat(user, nth)).collect::<Vec<_>>();
    accept(&running.handle, of(&left, 8)).await.unwrap();
    let scattered = [of(&left, 3), of(&right, 3)].concat();
    assert!(matches!(accept(&running.handle, scattered).await, Err(Error::Full { partition: 0 })));
    assert_eq!(ledger(&*buffer, 1).await.accepted, 0, "room was looked for before anything was pushed");
    accept(&running.handle, [of(&left, 2), of(&right, 3)].concat()).await.unwrap();
    assert!(matches!(accept(&running.handle, of(&left, 1)).await, Err(Error::Full { partition: 0 })));
    accept(&running.handle, of(&right, 7)).await.unwrap();
    accept(&running.handle, Vec::new()).await.unwrap();
}

pub async fn nothing_is_accepted_before_the_buffer_is_registered(backend: &mut dyn Backend) {
    let running = run(backend.open(AMPLE), &Options::default());
    assert!(matches!(accept(&running.handle, vec![beat("u", 1)]).await, Err(Error::NotRegistered)));
    registered(backend, AMPLE).await;
    accept(&running.handle, vec![beat("u", 1)]).await.unwrap();
}

pub async fn too_much_at_once_is_refused_at_once(backend: &mut dyn Backend) {
    let gate = Gate::before(registered(backend, AMPLE).await);
    let running = run(gate.clone(), &Options::default());
    accept(&running.handle, vec![beat("u", 1)]).await.unwrap();
    gate.shut();
    let bulk = || (0..10_000).map(|nth| beat("u", nth)).collect::<Vec<_>>();
    let sent = running.send((0..30).map(|_| bulk()).collect()).await;
    let refused = sent.iter().filter(|sent| sent.is_finished()).count();
    gate.open();
    assert_eq!(refused, 10, "twenty bulks may wait");
    let mut kept = 0;
    for sent in sent {
        match sent.await.unwrap() {
            Ok(()) => kept += 1,
            Err(error) => assert!(matches!(&error, Error::Refused { reason } if reason.contains("overloaded"))),
        }
    }
    assert_eq!(kept, 20);
}

pub async fn a_request_larger_than_all_that_may_wait_goes_alone(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let gate = Gate::before(buffer.clone());
    let running = run(gate.clone(), &Options { push_deadline: Duration::from_secs(60).into(), ..Options::default() });
    // More than the twenty largest bulks of the default settings.
    let huge = || (0..200_001).map(|nth| beat("u", nth)).collect::<Vec<_>>();
    accept(&running.handle, huge()).await.unwrap();
    let held = ledger(&*buffer, 0).await.pending + ledger(&*buffer, 1).await.pending;
    assert_eq!(held, 200_001);
    gate.shut();
    // The first is in the writer's hands, and counts until it is answered.
    let sent = running.send(vec![vec![beat("u", 1)], huge()]).await;
    assert!(sent[1].is_finished(), "beside others it would be too much");
    gate.open();
    for (sent, kept) in sent.into_iter().zip([true, false]) {
        assert_eq!(sent.await.unwrap().is_ok(), kept);
    }
}

pub async fn a_request_that_no_wait_could_make_room_for_is_told_apart(backend: &mut dyn Backend) {
    let caps = Caps { heartbeats: 20, ..AMPLE };
    let buffer = registered(backend, caps).await;
    let running = run(buffer.clone(), &caps.options());
    let (left, right) = (user_of(0), user_of(1));
    let of = |user: &str, count: i64| (0..count).map(|nth| beat(user, nth)).collect::<Vec<_>>();
    for refused in [of(&left, 11), [of(&right, 1), of(&left, 11)].concat()] {
        assert!(matches!(accept(&running.handle, refused).await, Err(Error::TooLarge { partition: 0 })));
    }
    assert_eq!(ledger(&*buffer, 0).await.accepted + ledger(&*buffer, 1).await.accepted, 0);
    accept(&running.handle, [of(&left, 10), of(&right, 10)].concat()).await.unwrap();
    assert!(matches!(accept(&running.handle, of(&left, 1)).await, Err(Error::Full { partition: 0 })));

    let running = run(buffer.clone(), &Caps { bytes: 200, ..AMPLE }.options());
    assert!(matches!(accept(&running.handle, of(&left, 10)).await, Err(Error::TooLarge { partition: 0 })));
    assert!(matches!(accept(&running.handle, of(&left, 1)).await, Err(Error::Full { partition: 0 })));
}

pub async fn what_was_accepted_before_the_end_is_written(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let gate = Gate::before(buffer.clone());
    let running = run(gate.clone(), &Options::default());
    accept(&running.handle, vec![beat("u", 0)]).await.unwrap();
    gate.shut();
    let sent = running.send((1..=20).map(|nth| vec![beat("u", nth)]).collect()).await;
    running.shutdown.cancel();
    gate.open();
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    running.service.await.unwrap();
    let late = accept(&running.handle, vec![beat("u", 99)]).await;
    assert!(matches!(&late, Err(Error::Refused { reason }) if reason.contains("shutting down")), "{late:?}");
    let held = ledger(&*buffer, 0).await.pending + ledger(&*buffer, 1).await.pending;
    assert_eq!(held, 21);
}
