//! Devices: when each was last seen, on every backend.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use systole::buffer::options::Options;
use systole::buffer::{Buffer, DEVICES_AT_ONCE, Devices, Error, SeenDevice};
use systole::heartbeat::{Frame, HeartbeatRef};

use crate::backend::{Backend, DATASET};
use crate::suite::{claim, lease, next_owner, push};

const SECOND: i64 = 1_000;
const DAY: i64 = 86_400 * SECOND;
const EVER: i64 = i64::MAX;

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// User, device, timestamp, arrival.
type Beat<'a> = (&'a str, &'a str, i64, i64);

fn frame(beats: &[Beat<'_>]) -> Frame {
    let rows = beats.iter().map(|&(user_id, device_id, timestamp, received_at)| HeartbeatRef {
        user_id,
        device_id,
        timestamp,
        received_at,
        id: None,
        attributes: None,
    });
    Frame::encode(rows).unwrap()
}

/// A frame of devices of one user that were seen as they beat.
fn seen(user: &str, devices: &[(String, i64)]) -> Frame {
    frame(&devices.iter().map(|(device, at)| (user, device.as_str(), *at, *at)).collect::<Vec<_>>())
}

async fn registered(backend: &dyn Backend, options: &Options) -> (Arc<dyn Buffer>, Arc<dyn Devices>) {
    let (buffer, devices) = backend.remembering(options);
    buffer.register(DATASET).await.unwrap();
    (buffer, devices)
}

fn device(user: &str, device: &str, last_seen: i64) -> SeenDevice {
    SeenDevice { last_seen, user_id: user.into(), device_id: device.into() }
}

async fn of(devices: &dyn Devices, user: &str) -> Vec<(String, i64)> {
    let found = devices.devices_of(1, user, None, 1_000).await.unwrap();
    found.into_iter().map(|device| (device.device_id, device.last_seen)).collect()
}

async fn unseen(devices: &dyn Devices) -> Vec<SeenDevice> {
    devices.devices_unseen(1, EVER, None, 1_000).await.unwrap()
}

pub async fn a_device_was_last_seen_at_its_latest_heartbeat_or_its_arrival(backend: &mut dyn Backend) {
    let (buffer, devices) = registered(backend, &Options::default()).await;
    let now = now();
    let beats = [
        ("u", "late", now - 9 * SECOND, now - 8 * SECOND),
        ("u", "ahead", now + 60 * SECOND, now),
        ("u", "late", now - 20 * SECOND, now - 8 * SECOND),
        ("other", "late", now - 5 * SECOND, now),
    ];
    push(&*buffer, 1, &frame(&beats)).await.unwrap();
    let late = [("u", "late", now - 3 * DAY, now), ("u", "old", now - 3 * DAY, now)];
    push(&*buffer, 1, &frame(&late)).await.unwrap();
    let expected = [("ahead", now), ("late", now - 9 * SECOND), ("old", now - 3 * DAY)];
    assert_eq!(of(&*devices, "u").await, expected.map(|(device, at)| (device.to_owned(), at)));
    push(&*buffer, 1, &frame(&[("u", "late", now - SECOND, now)])).await.unwrap();
    let expected = [
        device("u", "old", now - 3 * DAY),
        device("other", "late", now - 5 * SECOND),
        device("u", "late", now - SECOND),
        device("u", "ahead", now),
    ];
    assert_eq!(unseen(&*devices).await, expected);
    assert_eq!(buffer.status(1).await.unwrap().devices, 4);
    assert_eq!(devices.devices_unseen(0, EVER, None, 9).await.unwrap(), [], "the other partition");
}

pub async fn a_refused_frame_leaves_no_device(backend: &mut dyn Backend) {
    let options = Options { buffer_max_heartbeats: 6, ..Options::default() };
    let (buffer, devices) = registered(backend, &options).await;
    let now = now();
    let (fits, too_much) = (frame(&[("u", "a", now, now), ("u", "b", now, now)]), frame(&[("u", "c", now, now); 2]));
    let last = frame(&[("u", "d", now, now)]);
    let answers = buffer.push(&[(1, fits), (1, too_much), (1, last)]).await;
    assert!(matches!(&answers[..], [Ok(()), Err(Error::Full { partition: 1 }), Ok(())]), "{answers:?}");
    assert_eq!(of(&*devices, "u").await, ["a", "b", "d"].map(|device| (device.to_owned(), now)));
}

pub async fn devices_of_a_user_come_in_pages_by_their_ids_and_are_nobody_elses(backend: &mut dyn Backend) {
    let (buffer, devices) = registered(backend, &Options::default()).await;
    let now = now();
    let users = ["a", "a*", "ab", r"a*b?[c]\", "a*b?", "ä"];
    let own: Vec<(String, i64)> = (0..25).map(|nth| (format!("device-{nth:02}"), now - 25 + nth)).collect();
    let mut shuffled = own.clone();
    shuffled.sort_by_key(|(_, at)| (at * 7) % 25);
    for user in users {
        push(&*buffer, 1, &seen(user, &shuffled)).await.unwrap();
    }
    for user in users {
        let (mut found, mut pages): (Vec<(String, i64)>, u32) = (Vec::new(), 0);
        loop {
            let after = found.last().map(|(device, _)| device.as_str());
            let page = devices.devices_of(1, user, after, 7).await.unwrap();
            assert!(page.iter().all(|device| device.user_id == user));
            pages += 1;
            found.extend(page.iter().map(|device| (device.device_id.clone(), device.last_seen)));
            if page.len() < 7 {
                break;
            }
        }
        assert_eq!((&found, pages), (&own, 4), "{user}");
    }
    assert_eq!(of(&*devices, "nobody").await, []);
    assert_eq!(devices.devices_of(1, "a", None, 0).await.unwrap(), []);
}

pub async fn the_longest_unseen_come_first_in_pages_that_stay_right_under_change(backend: &mut dyn Backend) {
    let (buffer, devices) = registered(backend, &Options::default()).await;
    let now = now();
    // Many at one time, so that names must order them.
    let all: BTreeSet<SeenDevice> =
        (0..40).map(|nth| device(&format!("u{}", nth % 3), &format!("d{nth}"), now - SECOND * (1 + nth % 4))).collect();
    let beats: Vec<_> = all
        .iter()
        .map(|device| (device.user_id.as_str(), device.device_id.as_str(), device.last_seen, device.last_seen))
        .collect();
    push(&*buffer, 1, &frame(&beats)).await.unwrap();
    assert_eq!(unseen(&*devices).await, Vec::from_iter(all.clone()));
    let before = now - 2 * SECOND;
    let expected: Vec<_> = all.iter().filter(|device| device.last_seen < before).cloned().collect();
    assert_eq!(devices.devices_unseen(1, before, None, 1_000).await.unwrap(), expected);

    let (mut found, mut moved) = (Vec::<SeenDevice>::new(), BTreeSet::new());
    loop {
        let page = devices.devices_unseen(1, EVER, found.last(), 7).await.unwrap();
        found.extend(page.clone());
        if page.len() < 7 || found.len() > all.len() {
            break;
        }
        // The one that the next page begins behind beats meanwhile, and so does one that is still to come.
        let to_come = all.iter().find(|device| !found.contains(device));
        for SeenDevice { user_id, device_id, .. } in page.last().into_iter().chain(to_come) {
            moved.insert((user_id.clone(), device_id.clone()));
            push(&*buffer, 1, &frame(&[(user_id, device_id, now, now)])).await.unwrap();
        }
    }
    let stayed = |device: &&SeenDevice| !moved.contains(&(device.user_id.clone(), device.device_id.clone()));
    let found_once: Vec<_> = found.iter().filter(stayed).collect();
    assert_eq!(found_once, all.iter().filter(stayed).collect::<Vec<_>>());
    assert!(found.is_sorted() && moved.len() > 5);
}

pub async fn the_longest_unseen_are_forgotten_beyond_the_cap(backend: &mut dyn Backend) {
    let options = Options { max_devices: 8, ..Options::default() };
    let (buffer, devices) = registered(backend, &options).await;
    let now = now();
    for nth in 0..10 {
        push(&*buffer, 1, &seen("u", &[(format!("d{nth}"), now - 10 + nth)])).await.unwrap();
    }
    // Older than all that are known: it gives way itself.
    push(&*buffer, 1, &seen("u", &[("late".to_owned(), now - DAY)])).await.unwrap();
    let left: Vec<_> = (6..10).map(|nth| (format!("d{nth}"), now - 10 + nth)).collect();
    assert_eq!(of(&*devices, "u").await, left);
    let status = buffer.status(1).await.unwrap();
    assert_eq!((status.devices, status.devices_forgotten), (4, 7));
    let many: Vec<_> = (0..3_000).map(|nth| (format!("m{nth:04}"), now - 3_000 + nth)).collect();
    push(&*buffer, 1, &seen("many", &many)).await.unwrap();
    assert_eq!(unseen(&*devices).await.len(), 4);

    let (buffer, devices) = backend.remembering(&Options { max_devices: 0, ..Options::default() });
    push(&*buffer, 0, &seen("u", &[("unremembered".to_owned(), now)])).await.unwrap();
    assert_eq!(devices.devices_unseen(0, EVER, None, 9).await.unwrap(), []);
}

pub async fn a_device_is_forgotten_in_time(backend: &mut dyn Backend) {
    let (buffer, _) = registered(backend, &Options::default()).await;
    let now = now();
    push(&*buffer, 1, &seen("u", &[("old".into(), now - 5 * DAY), ("new".into(), now)])).await.unwrap();
    let short = Options { remember_devices: Duration::from_secs(3 * 86_400).into(), ..Options::default() };
    let (buffer, devices) = backend.remembering(&short);
    assert_eq!(of(&*devices, "u").await, [("new".to_owned(), now)]);
    assert_eq!(unseen(&*devices).await, [device("u", "new", now)]);
    // A thousand heartbeats later, or when their claim is settled, its place is free.
    let many = frame(&[("u", "busy", now, now); 1_000]);
    push(&*buffer, 1, &many).await.unwrap();
    let lease = lease(&*buffer, 1).await;
    let claim = claim(&*buffer, &lease).await;
    buffer.ack(&lease, claim.id, &[]).await.unwrap();
    let status = buffer.status(1).await.unwrap();
    assert_eq!((status.devices, status.devices_forgotten), (2, 0));
}

pub async fn devices_survive_restarts_before_and_after_their_frames_are_gone(backend: &mut dyn Backend) {
    let (buffer, _) = registered(backend, &Options::default()).await;
    let now = now();
    let at = |nth: i64| now - 10 * SECOND + nth;
    push(&*buffer, 1, &seen("u", &[("a".into(), at(0)), ("b".into(), at(0))])).await.unwrap();
    drop(buffer);
    backend.crash_and_restart();
    let (buffer, devices) = backend.remembering(&Options::default());
    assert_eq!(of(&*devices, "u").await, [("a".to_owned(), at(0)), ("b".to_owned(), at(0))]);

    let owner = lease(&*buffer, 1).await;
    let claim = claim(&*buffer, &owner).await;
    push(&*buffer, 1, &seen("u", &[("b".into(), at(5)), ("c".into(), at(5))])).await.unwrap();
    buffer.ack(&owner, claim.id, &[]).await.unwrap();
    push(&*buffer, 1, &seen("u", &[("c".into(), at(3)), ("d".into(), at(6))])).await.unwrap();
    let expected = [("a", at(0)), ("b", at(5)), ("c", at(5)), ("d", at(6))].map(|(name, at)| (name.to_owned(), at));
    for drained in [false, true] {
        let (buffer, _) = backend.remembering(&Options::default());
        if drained {
            let owner = next_owner(&*buffer, &owner).await;
            while let Some(claim) =
                buffer.claim(&owner, systole::heartbeat::ClaimId::new(), crate::suite::ALL).await.unwrap()
            {
                buffer.ack(&owner, claim.id, &[]).await.unwrap();
            }
        }
        drop(buffer);
        backend.crash_and_restart();
        let (_, devices) = backend.remembering(&Options::default());
        assert_eq!(of(&*devices, "u").await, expected, "drained: {drained}");
    }
}

pub async fn many_devices_are_kept_and_told_in_bounded_pages(backend: &mut dyn Backend) {
    let (buffer, _) = registered(backend, &Options::default()).await;
    let now = now();
    let all: Vec<_> = (0..12_000).map(|nth| (format!("device-{nth:05}"), now - nth)).collect();
    for some in all.chunks(2_500) {
        push(&*buffer, 1, &seen("u", some)).await.unwrap();
    }
    drop(buffer);
    backend.crash_and_restart();
    let (_, devices) = backend.remembering(&Options::default());
    let mut found: Vec<(String, i64)> = Vec::new();
    loop {
        let after = found.last().map(|(device, _)| device.as_str());
        let page = devices.devices_of(1, "u", after, u32::MAX).await.unwrap();
        found.extend(page.iter().map(|device| (device.device_id.clone(), device.last_seen)));
        if page.len() < DEVICES_AT_ONCE as usize {
            break;
        }
        assert_eq!(page.len(), DEVICES_AT_ONCE as usize);
    }
    assert!(found == all, "{} of {}", found.len(), all.len());
    let oldest = devices.devices_unseen(1, EVER, None, u32::MAX).await.unwrap();
    assert_eq!(oldest.len(), DEVICES_AT_ONCE as usize);
    assert_eq!(oldest[0], device("u", "device-11999", now - 11_999));
}

pub async fn an_unknown_buffer_or_partition_is_no_list_without_devices(backend: &mut dyn Backend) {
    let (_, devices) = backend.remembering(&Options::default());
    assert!(matches!(devices.devices_of(0, "u", None, 9).await, Err(Error::NotRegistered)));
    assert!(matches!(devices.devices_unseen(0, EVER, None, 9).await, Err(Error::NotRegistered)));
    let (buffer, devices) = registered(backend, &Options::default()).await;
    assert!(buffer.ping().await.is_ok());
    assert!(matches!(devices.devices_unseen(7, EVER, None, 9).await, Err(Error::NotRegistered)));
    assert!(matches!(devices.devices_of(7, "u", None, 9).await, Err(Error::NotRegistered)));
}
