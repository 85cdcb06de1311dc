//! What is kept of silence: who watches, what is raised, which events wait; on every backend.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use systole::buffer::{
    Alarms, Change, Error, Event, EventId, EventKind, MAX_CHANGES, MAX_QUEUED, Marked, Queued, Raised, Watch, WatcherId,
};
use systole::heartbeat::{Frame, HeartbeatRef};

use crate::backend::{AMPLE, Backend, registered};

const LONG: Duration = Duration::from_secs(600);

fn raised(device: &str) -> Raised {
    let (rule, user_id, device_id) = ("fleet after 5m".to_owned(), "ada \u{e9}".to_owned(), device.to_owned());
    Raised { rule, user_id, device_id, id: EventId::new(), last_seen: 1_700_000_000_000, raised_at: 1_700_000_300_001 }
}

fn cleared(raised: &Raised) -> Change {
    let event = Event::beating(raised, EventId::new(), raised.last_seen + 400_000, raised.raised_at + 100_000);
    Change::Clear(raised.clone(), event)
}

async fn take(alarms: &dyn Alarms, watcher: WatcherId) -> Watch {
    alarms.watch(watcher, LONG, None).await.unwrap()
}

async fn all_raised(alarms: &dyn Alarms) -> Vec<Raised> {
    let (mut all, mut last): (Vec<Raised>, Option<Raised>) = (Vec::new(), None);
    loop {
        let page = alarms.raised(last.as_ref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(end) = page.last() else { break };
        last = Some(end.clone());
        all.extend(page);
    }
    all.sort();
    all
}

async fn mark(alarms: &dyn Alarms, watcher: WatcherId, changes: &[Change]) -> Vec<Marked> {
    alarms.mark(watcher, changes).await.unwrap().marked
}

pub async fn one_process_watches_at_a_time_and_no_other_changes_anything(backend: &mut dyn Backend) {
    let (alarms, one, two) = (backend.alarms(), WatcherId::new(), WatcherId::new());
    assert!(matches!(take(&*alarms, one).await, Watch::Taken { began: true, looked: None, raised: 0, queued: 0, .. }));
    let again = alarms.watch(one, LONG, Some(1_700_000_000_000)).await.unwrap();
    assert!(matches!(again, Watch::Taken { began: false, .. }), "{again:?}");
    let held = take(&*alarms, two).await;
    assert!(matches!(held, Watch::Held { expires_in, .. } if expires_in > LONG / 2 && expires_in <= LONG), "{held:?}");
    // Both backends of the tests go by this machine's clock.
    let apart =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().abs_diff(held.now().try_into().unwrap());
    assert!(apart < 60_000, "{held:?}");
    let change = [Change::Raise(raised("d"))];
    assert_eq!(alarms.mark(two, &change).await.unwrap_err(), Error::Unwatched);
    assert_eq!(alarms.rules(two, &["a".into()]).await.unwrap_err(), Error::Unwatched);
    assert_eq!(alarms.settle(two, &[1]).await.unwrap_err(), Error::Unwatched);
    alarms.unwatch(two).await.unwrap();
    assert!(matches!(take(&*alarms, two).await, Watch::Held { .. }), "only its own can be given back");

    alarms.unwatch(one).await.unwrap();
    let taken = take(&*alarms, two).await;
    assert!(matches!(taken, Watch::Taken { began: true, looked: Some(1_700_000_000_000), .. }), "{taken:?}");
    assert_eq!(alarms.mark(one, &change).await.unwrap_err(), Error::Unwatched);
    assert_eq!(all_raised(&*alarms).await, []);
}

pub async fn a_watch_that_is_not_gone_on_with_runs_out(backend: &mut dyn Backend) {
    let (alarms, one, two) = (backend.alarms(), WatcherId::new(), WatcherId::new());
    alarms.watch(one, Duration::from_millis(50), None).await.unwrap();
    let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
    while matches!(take(&*alarms, two).await, Watch::Held { .. }) {
        assert!(tokio::time::Instant::now() < give_up, "it does not run out");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn a_change_and_its_event_are_made_once_and_together(backend: &mut dyn Backend) {
    let (alarms, watcher) = (backend.alarms(), WatcherId::new());
    take(&*alarms, watcher).await;
    let (a, b) = (raised("a"), raised("a\u{1}b"));
    let marks = alarms.mark(watcher, &[Change::Raise(a.clone()), Change::Raise(b.clone())]).await.unwrap();
    assert_eq!((marks.marked, marks.dropped), (vec![Marked::Done, Marked::Done], 0));
    // The same silence is not raised under another event, and one that was not raised is not cleared.
    assert_eq!(mark(&*alarms, watcher, &[Change::Raise(raised("a")), cleared(&raised("b"))]).await, [Marked::Stood; 2]);
    let mut expected = [a.clone(), b.clone()];
    expected.sort();
    assert_eq!(all_raised(&*alarms).await, expected);
    let clear = cleared(&a);
    assert_eq!(mark(&*alarms, watcher, std::slice::from_ref(&clear)).await, [Marked::Done]);
    assert_eq!(mark(&*alarms, watcher, &[clear, cleared(&raised("a\u{1}b"))]).await, [Marked::Stood; 2]);
    assert_eq!(mark(&*alarms, watcher, &[Change::Forget(b.clone())]).await, [Marked::Done]);
    assert_eq!(all_raised(&*alarms).await, []);

    let outbox = alarms.outbox(None, 100).await.unwrap();
    let kinds: Vec<_> = outbox.iter().map(|queued| (queued.number, queued.event.kind)).collect();
    assert_eq!(kinds, [(1, EventKind::Silent), (2, EventKind::Silent), (3, EventKind::Beating)]);
    assert_eq!(outbox[0].event, Event::silent(&a));
    assert_eq!((outbox[2].event.ends, outbox[2].event.id == a.id), (Some(a.id), false));
    assert!(matches!(take(&*alarms, watcher).await, Watch::Taken { raised: 0, queued: 3, .. }));
}

pub async fn events_wait_in_order_until_they_are_settled(backend: &mut dyn Backend) {
    let (alarms, watcher) = (backend.alarms(), WatcherId::new());
    take(&*alarms, watcher).await;
    let changes: Vec<Change> = (0..5).map(|n| Change::Raise(raised(&n.to_string()))).collect();
    mark(&*alarms, watcher, &changes).await;
    let numbers = |page: Vec<Queued>| page.into_iter().map(|queued| queued.number).collect::<Vec<_>>();
    assert_eq!(numbers(alarms.outbox(None, 2).await.unwrap()), [1, 2]);
    assert_eq!(numbers(alarms.outbox(Some(2), 100).await.unwrap()), [3, 4, 5]);
    alarms.settle(watcher, &[2, 4, 4, 77]).await.unwrap();
    alarms.settle(watcher, &[]).await.unwrap();
    assert_eq!(numbers(alarms.outbox(None, 100).await.unwrap()), [1, 3, 5]);
    assert!(matches!(take(&*alarms, watcher).await, Watch::Taken { queued: 3, .. }));
    mark(&*alarms, watcher, &[Change::Raise(raised("next"))]).await;
    assert_eq!(numbers(alarms.outbox(Some(5), 100).await.unwrap()), [6]);
}

pub async fn of_too_many_events_the_oldest_give_way(backend: &mut dyn Backend) {
    let (alarms, watcher) = (backend.alarms(), WatcherId::new());
    take(&*alarms, watcher).await;
    let chunk = MAX_CHANGES as u64;
    let (mut made, mut dropped) = (0, 0);
    while dropped == 0 {
        assert!(made <= MAX_QUEUED, "nothing is dropped");
        let changes: Vec<Change> = (0..chunk).map(|n| Change::Raise(raised(&(made + n).to_string()))).collect();
        let marks = alarms.mark(watcher, &changes).await.unwrap();
        made += chunk;
        dropped = marks.dropped;
        assert_eq!(marks.oldest, Some(dropped + 1));
    }
    assert_eq!(made - dropped, MAX_QUEUED);
    assert_eq!(alarms.outbox(None, 1).await.unwrap()[0].number, dropped + 1);
    assert!(matches!(take(&*alarms, watcher).await, Watch::Taken { queued: MAX_QUEUED, .. }));
}

pub async fn a_rule_is_in_force_since_it_was_first_named_without_a_break(backend: &mut dyn Backend) {
    let (alarms, watcher) = (backend.alarms(), WatcherId::new());
    take(&*alarms, watcher).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let first = alarms.rules(watcher, &names(&["a", "b \u{e9}"])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(alarms.rules(watcher, &names(&["b \u{e9}"])).await.unwrap(), first[1..]);
    let again = alarms.rules(watcher, &names(&["b \u{e9}", "a"])).await.unwrap();
    assert!(again[0] == first[1] && again[1] > first[0], "{first:?} {again:?}");
    assert_eq!(alarms.rules(watcher, &[]).await.unwrap(), [0i64; 0]);
}

pub async fn what_is_raised_and_waits_survives_a_restart(backend: &mut dyn Backend) {
    let (alarms, watcher) = (backend.alarms(), WatcherId::new());
    take(&*alarms, watcher).await;
    let since = alarms.rules(watcher, &["a".into()]).await.unwrap();
    let kept = raised("kept");
    mark(&*alarms, watcher, &[Change::Raise(kept.clone()), Change::Raise(raised("gone"))]).await;
    let gone = all_raised(&*alarms).await.into_iter().find(|found| found.device_id == "gone").unwrap();
    mark(&*alarms, watcher, &[Change::Forget(gone)]).await;
    alarms.settle(watcher, &[2]).await.unwrap();
    alarms.unwatch(watcher).await.unwrap();
    drop(alarms);
    backend.crash_and_restart();
    let (alarms, other) = (backend.alarms(), WatcherId::new());
    assert!(matches!(take(&*alarms, other).await, Watch::Taken { raised: 1, queued: 1, .. }));
    assert_eq!(all_raised(&*alarms).await, std::slice::from_ref(&kept));
    assert_eq!(alarms.outbox(None, 9).await.unwrap(), [Queued { number: 1, event: Event::silent(&kept) }]);
    assert_eq!(alarms.rules(other, &["a".into()]).await.unwrap(), since);
}

pub async fn it_is_told_when_raised_devices_were_last_seen(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let seen = raised("seen");
    let row = HeartbeatRef {
        user_id: &seen.user_id,
        device_id: &seen.device_id,
        timestamp: now - 5,
        id: None,
        received_at: now,
        attributes: None,
    };
    buffer.push(&[(1, Frame::encode([row]).unwrap())]).await.pop().unwrap().unwrap();
    let alarms = backend.alarms();
    let last = alarms.last_seen(1, &[raised("never"), seen.clone()]).await.unwrap();
    assert_eq!(last, [None, Some(now - 5)]);
    assert_eq!(alarms.last_seen(0, &[seen]).await.unwrap(), [None]);
}
