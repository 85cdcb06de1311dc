//! The behaviours. Each takes a fresh backend.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use systole::buffer::{
    Buffer, Claim, ClaimBudget, Condemned, DeadLetterId, Error, Lease, LeaseAnswer, Ledger, Registration, Room,
};
use systole::heartbeat::{BatcherId, ClaimId, DatasetId, Frame, FrameHeader, HeartbeatRef};

use crate::backend::{AMPLE, Backend, Caps, DATASET, registered};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const ALL: ClaimBudget = ClaimBudget { rows: 1_000_000, bytes: 1 << 30, frames: 1_000 };

/// A frame of `rows` heartbeats that are told apart by `tag`.
pub fn frame(tag: u64, rows: u32) -> Frame {
    let users: Vec<String> = (0..rows).map(|row| format!("user-{tag}-{row}")).collect();
    let rows = users.iter().map(|user| HeartbeatRef {
        user_id: user,
        timestamp: 1,
        device_id: "d",
        id: None,
        received_at: 1_700_000_000_000,
        attributes: None,
    });
    Frame::encode(rows).unwrap()
}

/// Letters without a pattern, so that packing them saves nothing.
pub fn noise(seed: u64, len: usize) -> String {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    };
    std::iter::repeat_with(&mut letter).take(len).collect()
}

/// A frame of so many rows with so many bytes of attributes each, and not much shorter.
pub fn bulky(seed: u64, user_id: &str, rows: u64, attributes: usize) -> Frame {
    let attributes: Vec<String> =
        (0..rows).map(|row| noise(seed.wrapping_mul(1_000).wrapping_add(row), attributes)).collect();
    let rows = attributes.iter().map(|attributes| HeartbeatRef {
        user_id,
        timestamp: 1,
        device_id: "d",
        id: None,
        received_at: 1_700_000_000_000,
        attributes: Some(attributes),
    });
    Frame::encode(rows).unwrap()
}

pub async fn push(buffer: &dyn Buffer, partition: u16, frame: &Frame) -> Result<(), Error> {
    buffer.push(&[(partition, frame.clone())]).await.remove(0)
}

pub async fn lease(buffer: &dyn Buffer, partition: u16) -> Lease {
    match buffer.lease(partition, BatcherId::new(), MINUTE).await.unwrap() {
        LeaseAnswer::Taken(lease) => lease,
        held => panic!("{held:?}"),
    }
}

/// Another owner, after the one before it has died.
pub async fn next_owner(buffer: &dyn Buffer, dead: &Lease) -> Lease {
    buffer.renew(dead, Duration::ZERO).await.unwrap();
    lease(buffer, dead.partition).await
}

pub async fn claim(buffer: &dyn Buffer, lease: &Lease) -> Claim {
    buffer.claim(lease, ClaimId::new(), ALL).await.unwrap().unwrap()
}

pub async fn ledger(buffer: &dyn Buffer, partition: u16) -> Ledger {
    let ledger = buffer.status(partition).await.unwrap().ledger;
    assert!(ledger.balances(), "{ledger:?}");
    ledger
}

pub fn condemned(frame: u32, row: Option<u32>, kept: &Frame) -> Condemned {
    let (id, reason) = (DeadLetterId::new(), "the checksum does not match".to_owned());
    Condemned { id, frame, row, rows: kept.rows(), reason, bytes: kept.bytes().clone() }
}

pub async fn an_unregistered_buffer_takes_nothing(backend: &mut dyn Backend) {
    let buffer = backend.open(AMPLE);
    assert_eq!(buffer.registration().await.unwrap(), None);
    assert!(matches!(push(&*buffer, 0, &frame(1, 1)).await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.room(&[(0, 1, 1)]).await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.lease(0, BatcherId::new(), MINUTE).await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.status(0).await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.ping().await, Err(Error::NotRegistered)));
}

pub async fn registering_is_idempotent_and_refuses_another_dataset(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 1, &frame(1, 3)).await.unwrap();
    buffer.register(DATASET).await.unwrap();
    assert_eq!(ledger(&*buffer, 1).await.pending, 3, "registering again changes nothing");

    let stranger = backend.open(AMPLE);
    let other = Registration { dataset: DatasetId::from_u128(0xbad), partitions: 2 };
    assert!(matches!(stranger.register(other).await, Err(Error::ForeignDataset { .. })));
    let larger = Registration { partitions: 3, ..DATASET };
    assert!(stranger.register(larger).await.is_err(), "the number of partitions is fixed");
    assert_eq!(stranger.registration().await.unwrap(), Some(DATASET));
    stranger.ping().await.unwrap();
}

pub async fn a_push_is_kept_in_order(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let frames: Vec<Frame> = (0..20).map(|tag| frame(tag, 1 + tag as u32 % 3)).collect();
    let answers = buffer.push(&frames.iter().map(|frame| (0, frame.clone())).collect::<Vec<_>>()).await;
    assert!(answers.iter().all(Result::is_ok) && answers.len() == 20);
    let lease = lease(&*buffer, 0).await;
    let claim = claim(&*buffer, &lease).await;
    assert_eq!(claim.frames, frames.iter().map(|frame| frame.bytes().clone()).collect::<Vec<_>>());
    assert_eq!(claim.rows, frames.iter().map(|frame| u64::from(frame.rows())).sum::<u64>());
    assert!(!claim.standing && claim.deaths == 0 && claim.in_hand.is_none() && claim.condemned.is_empty());
    let bytes: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
    let expected = Ledger { accepted: claim.rows, claimed: claim.rows, bytes: bytes as u64, ..Ledger::default() };
    assert_eq!(ledger(&*buffer, 0).await, expected);
}

pub async fn the_cap_is_exact_under_fifty_producers(backend: &mut dyn Backend) {
    // 500 a partition; frames of 3 leave a rest of 2 that single ones fill.
    let buffer = registered(backend, Caps { heartbeats: 1_000, ..AMPLE }).await;
    let (kept, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let sampler = tokio::spawn({
        let (buffer, done) = (buffer.clone(), done.clone());
        async move {
            let mut samples = 0;
            while !done.load(Ordering::Relaxed) {
                let status = buffer.status(0).await.unwrap();
                assert!(status.ledger.pending <= 500, "{status:?}");
                assert_eq!(status.cap_rows, 500);
                samples += 1;
            }
            samples
        }
    });
    let producers = (0..50_u64).map(|producer| {
        let (buffer, kept, refused) =
            (backend.open(Caps { heartbeats: 1_000, ..AMPLE }), kept.clone(), refused.clone());
        tokio::spawn(async move {
            for beat in 0..20 {
                let frame = frame(producer * 100 + beat, if beat < 5 { 3 } else { 1 });
                match push(&*buffer, 0, &frame).await {
                    Ok(()) => kept.fetch_add(frame.rows().into(), Ordering::Relaxed),
                    Err(Error::Full { partition: 0 }) => refused.fetch_add(frame.rows().into(), Ordering::Relaxed),
                    Err(error) => panic!("{error}"),
                };
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(sampler.await.unwrap() > 0);
    assert_eq!(kept.load(Ordering::Relaxed), 500);
    assert_eq!(refused.load(Ordering::Relaxed), 50 * (5 * 3 + 15) - 500);
    assert_eq!(ledger(&*buffer, 0).await.pending, 500);
}

pub async fn the_byte_cap_is_exact(backend: &mut dyn Backend) {
    let one = frame(1, 1);
    let size = one.bytes().len() as u64;
    let buffer = registered(backend, Caps { bytes: 2 * (3 * size + size - 1), ..AMPLE }).await;
    for _ in 0..3 {
        push(&*buffer, 1, &one).await.unwrap();
    }
    assert!(matches!(push(&*buffer, 1, &one).await, Err(Error::Full { partition: 1 })));
    assert_eq!(ledger(&*buffer, 1).await.bytes, 3 * size);
    let lease = lease(&*buffer, 1).await;
    let claim = claim(&*buffer, &lease).await;
    assert!(matches!(push(&*buffer, 1, &one).await, Err(Error::Full { .. })), "what is claimed still counts");
    buffer.ack(&lease, claim.id, &[]).await.unwrap();
    assert_eq!(ledger(&*buffer, 1).await.bytes, 0);
    push(&*buffer, 1, &one).await.unwrap();
}

pub async fn room_is_judged_against_what_is_held(backend: &mut dyn Backend) {
    let buffer = registered(backend, Caps { heartbeats: 20, ..AMPLE }).await;
    push(&*buffer, 0, &frame(1, 7)).await.unwrap();
    let room = buffer.room(&[(0, 3, 10), (1, 10, 10), (0, 4, 10), (1, 11, 10), (0, 1, AMPLE.bytes)]).await.unwrap();
    assert_eq!(room, [Room::Fits, Room::Fits, Room::Full, Room::Full, Room::Full]);
    assert_eq!(buffer.room(&[]).await.unwrap(), []);
}

pub async fn a_claim_ends_at_its_budget(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let lease = lease(&*buffer, 0).await;
    assert_eq!(buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap(), None);
    // What is counted is what the rows take once they are opened.
    let size = FrameHeader::peek(frame(0, 10).bytes()).unwrap().raw.into();
    for (budget, frames) in [
        (ClaimBudget { rows: 15, ..ALL }, 2),
        (ClaimBudget { rows: 20, ..ALL }, 2),
        (ClaimBudget { bytes: size, ..ALL }, 1),
        (ClaimBudget { bytes: size + 1, ..ALL }, 2),
        (ClaimBudget { frames: 3, ..ALL }, 3),
        (ClaimBudget { rows: 0, bytes: 0, frames: 0 }, 1),
        (ALL, 5),
    ] {
        for tag in 0..5 {
            push(&*buffer, 0, &frame(tag, 10)).await.unwrap();
        }
        let claim = buffer.claim(&lease, ClaimId::new(), budget).await.unwrap().unwrap();
        assert_eq!((claim.frames.len(), claim.rows), (frames, frames as u64 * 10), "{budget:?}");
        buffer.ack(&lease, claim.id, &[]).await.unwrap();
        while let Some(rest) = buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap() {
            buffer.ack(&lease, rest.id, &[]).await.unwrap();
        }
        assert_eq!(ledger(&*buffer, 0).await.pending, 0);
    }
}

pub async fn two_claims_at_once_never_share_a_frame(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    for tag in 0..200 {
        push(&*buffer, 0, &frame(tag, 1)).await.unwrap();
    }
    let seen = Arc::new(std::sync::Mutex::new(Vec::<Bytes>::new()));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (buffer, seen, batcher) = (backend.open(AMPLE), seen.clone(), BatcherId::new());
            tokio::spawn(async move {
                loop {
                    let lease = match buffer.lease(0, batcher, MINUTE).await.unwrap() {
                        LeaseAnswer::Taken(lease) => lease,
                        LeaseAnswer::Held { .. } => {
                            tokio::task::yield_now().await;
                            continue;
                        }
                    };
                    let budget = ClaimBudget { frames: 7, ..ALL };
                    let claim = buffer.claim(&lease, ClaimId::new(), budget).await.unwrap();
                    if let Some(claim) = &claim {
                        buffer.ack(&lease, claim.id, &[]).await.unwrap();
                        seen.lock().unwrap().extend(claim.frames.clone());
                    }
                    buffer.release(&lease).await.unwrap();
                    if claim.is_none() {
                        return;
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 200);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(ledger(&*buffer, 0).await.acked, 200);
}

pub async fn a_standing_claim_comes_back_identical(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    for tag in 0..5 {
        push(&*buffer, 0, &frame(tag, 2)).await.unwrap();
    }
    let first = lease(&*buffer, 0).await;
    let claimed = buffer.claim(&first, ClaimId::new(), ClaimBudget { frames: 3, ..ALL }).await.unwrap().unwrap();
    push(&*buffer, 0, &frame(9, 2)).await.unwrap();
    let second = next_owner(&*buffer, &first).await;
    assert!(second.epoch > first.epoch);
    let again = claim(&*backend.open(AMPLE), &second).await;
    assert_eq!(again, Claim { standing: true, deaths: 1, ..claimed.clone() });
    let status = buffer.status(0).await.unwrap();
    let standing = status.claim.unwrap();
    assert_eq!((standing.id, standing.rows, standing.deaths), (claimed.id, 6, 1));
    assert_eq!((status.ledger.claimed, status.ledger.pending, status.owner), (6, 6, Some(second.batcher)));
    buffer.ack(&second, claimed.id, &[]).await.unwrap();
    assert_eq!(claim(&*buffer, &second).await.frames.len(), 3, "then what was behind it");
}

pub async fn a_lost_reply_is_no_death(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 2)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let first = claim(&*buffer, &lease).await;
    buffer.take_in_hand(&lease, first.id, Some(0)).await.unwrap();
    for _ in 0..3 {
        let again = claim(&*buffer, &lease).await;
        assert_eq!((again.id, again.standing, again.deaths, again.in_hand), (first.id, true, 0, None));
    }
}

pub async fn each_owner_lost_counts_a_death_with_the_frame_in_hand(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    for tag in 0..3 {
        push(&*buffer, 0, &frame(tag, 1)).await.unwrap();
    }
    let mut owner = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &owner).await.id;
    // Dies with frame 1, then with none, then with frame 2 after frame 1 went well, then with frame 1 again.
    for (in_hand, expected) in [
        (&[Some(1)][..], Some((1, 1))),
        (&[Some(0), None], None),
        (&[Some(1), Some(2)], Some((2, 1))),
        (&[], None),
        (&[Some(1)], Some((1, 2))),
    ] {
        for frame in in_hand {
            buffer.take_in_hand(&owner, id, *frame).await.unwrap();
        }
        let deaths = buffer.status(0).await.unwrap().claim.unwrap().deaths;
        owner = next_owner(&*buffer, &owner).await;
        let again = claim(&*buffer, &owner).await;
        assert_eq!(again.deaths, deaths + 1);
        assert_eq!(again.in_hand.map(|hand| (hand.frame, hand.deaths)), expected, "{in_hand:?}");
    }
    buffer.ack(&owner, id, &[]).await.unwrap();
    push(&*buffer, 0, &frame(9, 1)).await.unwrap();
    let fresh = claim(&*buffer, &owner).await;
    assert_eq!((fresh.deaths, fresh.in_hand), (0, None), "the next claim starts clean");
}

pub async fn a_claim_left_on_purpose_is_no_death(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    let first = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &first).await.id;
    buffer.take_in_hand(&first, id, Some(0)).await.unwrap();
    buffer.release(&first).await.unwrap();
    assert!(
        matches!(buffer.ack(&first, id, &[]).await, Err(Error::Fenced { partition: 0 })),
        "what was given back is gone"
    );
    buffer.release(&first).await.unwrap();
    let second = lease(&*buffer, 0).await;
    let again = claim(&*buffer, &second).await;
    assert_eq!((again.id, again.deaths, again.in_hand), (id, 0, None));
    // The second dies; a third only passes by, without ever asking for the claim: the death must still count.
    let third = next_owner(&*buffer, &second).await;
    buffer.release(&third).await.unwrap();
    let fourth = lease(&*buffer, 0).await;
    assert_eq!(claim(&*buffer, &fourth).await.deaths, 1);
}

pub async fn an_older_epoch_is_refused(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    let old = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &old).await.id;
    let new = next_owner(&*buffer, &old).await;
    let fenced =
        |outcome: Result<(), Error>| assert!(matches!(outcome, Err(Error::Fenced { partition: 0 })), "{outcome:?}");
    fenced(buffer.renew(&old, MINUTE).await);
    fenced(buffer.claim(&old, ClaimId::new(), ALL).await.map(drop));
    fenced(buffer.take_in_hand(&old, id, Some(0)).await);
    fenced(buffer.condemn(&old, id, &[condemned(0, None, &frame(1, 1))]).await);
    fenced(buffer.ack(&old, id, &[]).await);
    buffer.release(&old).await.unwrap();
    buffer.renew(&new, MINUTE).await.unwrap();
    buffer.ack(&new, claim(&*buffer, &new).await.id, &[]).await.unwrap();
    let impostor = Lease { batcher: BatcherId::new(), ..new };
    fenced(buffer.renew(&impostor, MINUTE).await);
}

pub async fn a_lease_is_held_until_it_expires(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let holder = lease(&*buffer, 0).await;
    let other = BatcherId::new();
    match buffer.lease(0, other, MINUTE).await.unwrap() {
        LeaseAnswer::Held { by, expires_in } => assert!(by == holder.batcher && expires_in <= MINUTE),
        taken => panic!("{taken:?}"),
    }
    assert!(matches!(buffer.lease(1, other, MINUTE).await.unwrap(), LeaseAnswer::Taken(_)), "partitions are apart");
    let LeaseAnswer::Taken(again) = buffer.lease(0, holder.batcher, MINUTE).await.unwrap() else { panic!() };
    assert_eq!(again.epoch, holder.epoch + 1, "one's own may be taken again");
    buffer.renew(&again, Duration::ZERO).await.unwrap();
    assert_eq!(buffer.status(0).await.unwrap().owner, None);
    buffer.renew(&again, MINUTE).await.unwrap();
    assert_eq!(buffer.status(0).await.unwrap().owner, Some(holder.batcher), "expired, but nobody took it");
    let after = next_owner(&*buffer, &again).await;
    assert_eq!(after.epoch, again.epoch + 1);
}

pub async fn an_ack_is_done_once(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 4)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &lease).await.id;
    assert!(matches!(buffer.ack(&lease, ClaimId::new(), &[]).await, Err(Error::NotStanding)));
    buffer.ack(&lease, id, &[]).await.unwrap();
    let after = ledger(&*buffer, 0).await;
    assert_eq!(after, Ledger { accepted: 4, acked: 4, ..Ledger::default() });
    push(&*buffer, 0, &frame(2, 1)).await.unwrap();
    let next = claim(&*buffer, &lease).await;
    assert!(matches!(buffer.ack(&lease, id, &[]).await, Err(Error::NotStanding)));
    assert!(matches!(buffer.take_in_hand(&lease, id, Some(0)).await, Err(Error::NotStanding)));
    assert!(matches!(buffer.condemn(&lease, id, &[]).await, Err(Error::NotStanding)));
    assert_eq!(claim(&*buffer, &lease).await.id, next.id, "a late ack must not close the claim after it");
}

pub async fn what_is_condemned_survives_its_owner_and_becomes_dead_letters(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let frames = [frame(1, 5), frame(2, 3)];
    for frame in &frames {
        push(&*buffer, 0, frame).await.unwrap();
    }
    let first = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &first).await.id;
    let row = condemned(0, Some(4), &frame(7, 1));
    let whole = condemned(1, None, &frames[1]);
    buffer.condemn(&first, id, std::slice::from_ref(&row)).await.unwrap();
    buffer.condemn(&first, id, &[condemned(0, Some(4), &frame(8, 1)), whole.clone()]).await.unwrap();
    let beyond = buffer.condemn(&first, id, &[condemned(2, None, &frames[1])]).await;
    assert!(matches!(beyond, Err(Error::Corrupt { .. })), "the claim has two frames: {beyond:?}");

    let second = next_owner(&*buffer, &first).await;
    assert_eq!(claim(&*buffer, &second).await.condemned, [row.clone(), whole.clone()], "what stood first stays");
    assert_eq!(buffer.dead_letters(0, None, 10).await.unwrap(), [], "nothing is a dead letter before the ack");
    buffer.ack(&second, id, &[whole.clone(), row.clone()]).await.unwrap();

    let letters = buffer.dead_letters(0, None, 10).await.unwrap();
    let kept: Vec<_> = letters.iter().map(|letter| (letter.id, letter.rows, letter.claim, &letter.bytes)).collect();
    assert_eq!(kept, [(row.id, 1, id, &row.bytes), (whole.id, 3, id, &whole.bytes)]);
    assert!(letters.iter().all(|letter| letter.reason == row.reason && letter.since > 1_700_000_000_000));
    let bytes = (row.bytes.len() + whole.bytes.len()) as u64;
    assert_eq!(ledger(&*buffer, 0).await, Ledger { accepted: 8, acked: 4, dead: 4, bytes, ..Ledger::default() });
    push(&*buffer, 0, &frame(3, 1)).await.unwrap();
    assert_eq!(claim(&*buffer, &second).await.condemned, [], "the next claim starts clean");
}

/// Else a buffer that came back older, without the list, would take along what was left out because of it.
pub async fn a_claim_is_not_closed_by_one_who_left_out_other_rows(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 5)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &lease).await.id;
    let [first, second, whole] = [Some(0), Some(1), None].map(|row| condemned(0, row, &frame(7, 1)));
    let refused =
        async |left_out: &[Condemned]| matches!(buffer.ack(&lease, id, left_out).await, Err(Error::NotStanding));
    assert!(refused(std::slice::from_ref(&first)).await, "the claim knows of none");
    buffer.condemn(&lease, id, std::slice::from_ref(&first)).await.unwrap();
    for other in [&[][..], std::slice::from_ref(&second), &[whole], &[first.clone(), second.clone()]] {
        assert!(refused(other).await, "{other:?}");
    }
    assert_eq!(ledger(&*buffer, 0).await.claimed, 5, "nothing was changed");
    assert_eq!(claim(&*buffer, &lease).await.condemned, std::slice::from_ref(&first));
    buffer.ack(&lease, id, &[first]).await.unwrap();
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.dead, after.acked), (1, 4));
}

pub async fn a_condemned_frame_swallows_its_rows(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 5)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &lease).await.id;
    let rows: Vec<Condemned> = (0..2).map(|row| condemned(0, Some(row), &frame(7, 1))).collect();
    buffer.condemn(&lease, id, &rows).await.unwrap();
    let whole = condemned(0, None, &frame(1, 5));
    buffer.condemn(&lease, id, std::slice::from_ref(&whole)).await.unwrap();
    buffer.condemn(&lease, id, &rows).await.unwrap();
    assert_eq!(claim(&*buffer, &lease).await.condemned, std::slice::from_ref(&whole));
    buffer.ack(&lease, id, &[whole]).await.unwrap();
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.dead, after.acked), (5, 0));
}

/// Makes dead letters of frames of one row each, and answers their ids in order of age.
async fn dead_letters(buffer: &dyn Buffer, partition: u16, count: u64) -> Vec<DeadLetterId> {
    let lease = lease(buffer, partition).await;
    for tag in 0..count {
        push(buffer, partition, &frame(tag, 1)).await.unwrap();
    }
    let id = claim(buffer, &lease).await.id;
    let entries: Vec<_> = (0..count).map(|tag| condemned(tag as u32, None, &frame(tag, 1))).collect();
    buffer.condemn(&lease, id, &entries).await.unwrap();
    buffer.ack(&lease, id, &entries).await.unwrap();
    buffer.release(&lease).await.unwrap();
    entries.into_iter().map(|entry| entry.id).collect()
}

pub async fn dead_letters_are_listed_shown_retried_and_dropped(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let mut ids = dead_letters(&*buffer, 0, 5).await;
    ids.sort();
    let list = |after, limit| {
        let buffer = buffer.clone();
        async move {
            let letters = buffer.dead_letters(0, after, limit).await.unwrap();
            letters.into_iter().map(|letter| letter.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(None, 2).await, ids[..2]);
    assert_eq!(list(Some(ids[1]), 10).await, ids[2..]);
    assert_eq!(list(Some(ids[4]), 10).await, []);
    assert_eq!(list(None, 0).await, []);
    let newest = async |limit| {
        let notes = buffer.newest_dead_letters(0, limit).await.unwrap();
        notes.into_iter().map(|note| note.id).collect::<Vec<_>>()
    };
    assert_eq!(newest(2).await, [ids[4], ids[3]]);
    assert_eq!(newest(10).await, ids.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(newest(0).await, []);
    assert_eq!(buffer.newest_dead_letters(1, 10).await.unwrap(), [], "they are another partition's");
    let shown = buffer.dead_letter(0, ids[3]).await.unwrap().unwrap();
    let note = buffer.newest_dead_letters(0, 2).await.unwrap().remove(1);
    assert_eq!(note, shown.clone().into());
    assert_eq!((shown.id, shown.rows), (ids[3], 1));
    assert_eq!(buffer.dead_letter(1, ids[3]).await.unwrap(), None, "it is another partition's");

    assert!(buffer.retry_dead_letter(0, ids[3]).await.unwrap());
    assert!(!buffer.retry_dead_letter(0, ids[3]).await.unwrap(), "it is pending now");
    assert!(buffer.drop_dead_letter(0, ids[0]).await.unwrap());
    assert!(!buffer.drop_dead_letter(0, ids[0]).await.unwrap());
    assert!(!buffer.drop_dead_letter(0, DeadLetterId::new()).await.unwrap());
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.accepted, after.pending, after.dead, after.dropped), (5, 1, 3, 1));
    let lease = lease(&*buffer, 0).await;
    let claim = claim(&*buffer, &lease).await;
    assert_eq!(claim.frames, [shown.bytes], "the frame is what it was");
    buffer.ack(&lease, claim.id, &[]).await.unwrap();
    assert_eq!(list(None, 10).await, [ids[1], ids[2], ids[4]]);
}

pub async fn dead_letters_count_against_the_cap(backend: &mut dyn Backend) {
    let buffer = registered(backend, Caps { heartbeats: 8, ..AMPLE }).await;
    let ids = dead_letters(&*buffer, 0, 4).await;
    assert!(matches!(push(&*buffer, 0, &frame(9, 1)).await, Err(Error::Full { .. })));
    // Its cap was lowered meanwhile: nothing more goes into the queue.
    let smaller = backend.open(Caps { heartbeats: 6, ..AMPLE });
    assert!(matches!(smaller.retry_dead_letter(0, ids[0]).await, Err(Error::Full { partition: 0 })));
    assert!(buffer.retry_dead_letter(0, ids[0]).await.unwrap(), "moving it adds nothing to what is held");
    assert!(buffer.drop_dead_letter(0, ids[1]).await.unwrap());
    push(&*buffer, 0, &frame(9, 1)).await.unwrap();
    assert!(matches!(push(&*buffer, 0, &frame(10, 1)).await, Err(Error::Full { .. })));
}

pub async fn the_living_are_known_and_the_retired_forgotten(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let (one, two) = (BatcherId::new(), BatcherId::new());
    assert_eq!(buffer.announce(one, MINUTE).await.unwrap(), [one]);
    let alive: BTreeSet<_> = buffer.announce(two, MINUTE).await.unwrap().into_iter().collect();
    assert_eq!(alive, BTreeSet::from([one, two]));
    assert!(buffer.batchers().await.unwrap().iter().all(|(_, silent)| *silent < MINUTE));
    buffer.retire(one).await.unwrap();
    let left: Vec<_> = buffer.batchers().await.unwrap().into_iter().map(|(batcher, _)| batcher).collect();
    assert_eq!(left, [two]);
    // By a shorter time to live the silent count as dead, oneself never.
    let mut alive = buffer.announce(one, Duration::from_millis(1)).await.unwrap();
    while alive.len() > 1 {
        alive = buffer.announce(one, Duration::from_millis(1)).await.unwrap();
    }
    assert_eq!(alive, [one]);
}

pub async fn a_restart_keeps_everything(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    dead_letters(&*buffer, 0, 2).await;
    for tag in 0..50 {
        push(&*buffer, (tag % 2) as u16, &frame(tag, 2)).await.unwrap();
    }
    let lease = lease(&*buffer, 0).await;
    let before = buffer.claim(&lease, ClaimId::new(), ClaimBudget { frames: 5, ..ALL }).await.unwrap().unwrap();
    buffer.condemn(&lease, before.id, &[condemned(3, None, &frame(6, 2))]).await.unwrap();
    buffer.take_in_hand(&lease, before.id, Some(3)).await.unwrap();
    let statuses = [buffer.status(0).await.unwrap().ledger, buffer.status(1).await.unwrap().ledger];
    let letters = buffer.dead_letters(0, None, 10).await.unwrap();

    backend.crash_and_restart();
    let after = backend.open(AMPLE);
    assert_eq!(after.registration().await.unwrap(), Some(DATASET));
    assert_eq!([ledger(&*after, 0).await, ledger(&*after, 1).await], statuses);
    assert_eq!(after.dead_letters(0, None, 10).await.unwrap(), letters);
    let next = next_owner(&*after, &lease).await;
    let again = claim(&*after, &next).await;
    assert_eq!((again.id, &again.frames), (before.id, &before.frames));
    assert_eq!((again.condemned.len(), again.in_hand.map(|hand| hand.frame)), (1, Some(3)));
    // The buffer that saw the store die goes on by itself.
    while let Err(error) = buffer.ping().await {
        assert!(error.is_transient(), "{error}");
    }
    push(&*buffer, 1, &frame(99, 1)).await.unwrap();
}
