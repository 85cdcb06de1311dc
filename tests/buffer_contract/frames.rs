//! Frames for readers: given while they move, none passed over.

use std::collections::BTreeSet;

use bytes::Bytes;
use systole::buffer::{Buffer, ClaimBudget, Error, FrameMark, FramePage, Frames, Registration};
use systole::heartbeat::{ClaimId, DatasetId, Frame};

use crate::backend::{AMPLE, Backend, DATASET, registered};
use crate::suite::{bulky, claim, condemned, frame, lease, ledger, push};

/// What the pages of a walk held together, however often.
type Found = BTreeSet<Bytes>;

/// Pages of the largest walk in here, with room to spare.
const PAGES: usize = 1_000;

async fn walk(frames: &dyn Frames, partition: u16) -> Found {
    let (mut found, mut from) = (Found::new(), None);
    for _ in 0..PAGES {
        let FramePage { frames, next } = frames.frames(partition, from).await.unwrap();
        found.extend(frames);
        match next {
            None => return found,
            next => from = next,
        }
    }
    panic!("the walk does not end");
}

/// Frames of which a few make a page.
async fn push_large(buffer: &dyn Buffer, tags: std::ops::Range<u64>) -> Vec<Bytes> {
    let frames: Vec<Frame> = tags.map(|tag| bulky(tag, "ada", 100, 3_000)).collect();
    for frame in &frames {
        push(buffer, 0, frame).await.unwrap();
    }
    frames.iter().map(|frame| frame.bytes().clone()).collect()
}

fn of(frames: u32) -> ClaimBudget {
    ClaimBudget { rows: u64::MAX, bytes: 1 << 30, frames }
}

pub async fn every_frame_that_is_pending_or_claimed_is_given(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let frames = backend.frames();
    assert_eq!(walk(&*frames, 0).await, Found::new());
    let pushed: Vec<Frame> = (0..2_500).map(|tag| frame(tag, 1)).collect();
    let all: Vec<_> = pushed.iter().map(|frame| (0, frame.clone())).collect();
    assert!(buffer.push(&all).await.iter().all(Result::is_ok));
    push(&*buffer, 1, &frame(9_999, 1)).await.unwrap();
    let expected: Found = pushed.iter().map(|frame| frame.bytes().clone()).collect();
    assert_eq!(walk(&*frames, 0).await, expected);

    let lease = lease(&*buffer, 0).await;
    let claim = claim(&*buffer, &lease).await;
    assert_eq!(walk(&*frames, 0).await, expected, "what is claimed as well");
    let before = ledger(&*buffer, 0).await;
    buffer.ack(&lease, claim.id, &[]).await.unwrap();
    let left: Found = pushed.iter().skip(claim.frames.len()).map(|frame| frame.bytes().clone()).collect();
    assert!(!left.is_empty() && !claim.frames.is_empty());
    assert_eq!(walk(&*frames, 0).await, left, "and nothing that is acknowledged");
    assert_eq!(before.pending, left.len() as u64, "looking changed nothing");
}

/// Between any two pages something moves: it is pushed, claimed, acknowledged, condemned and put back.
pub async fn nothing_that_stays_is_passed_over_while_others_move(backend: &mut dyn Backend) {
    for moves_from in 0..6 {
        backend.clear();
        let buffer = registered(backend, AMPLE).await;
        let frames = backend.frames();
        let first = push_large(&*buffer, 0..30).await;
        let lease = lease(&*buffer, 0).await;
        let standing = buffer.claim(&lease, ClaimId::new(), of(10)).await.unwrap().unwrap();
        let (mut found, mut from, mut page) = (Found::new(), None, 0);
        loop {
            let FramePage { frames, next } = frames.frames(0, from).await.unwrap();
            found.extend(frames);
            match next {
                None => break,
                next => from = next,
            }
            match page - moves_from {
                0 => drop(push_large(&*buffer, 1_000..1_003).await),
                1 => {
                    let (kept, reason) = (Frame::from_bytes(standing.frames[0].clone()).unwrap(), None);
                    let letter = condemned(0, reason, &kept);
                    buffer.condemn(&lease, standing.id, std::slice::from_ref(&letter)).await.unwrap();
                    buffer.ack(&lease, standing.id, &[letter]).await.unwrap();
                }
                2 => drop(buffer.claim(&lease, ClaimId::new(), of(10)).await.unwrap().unwrap()),
                3 => {
                    let letter = buffer.dead_letters(0, None, 1).await.unwrap().remove(0);
                    assert!(buffer.retry_dead_letter(0, letter.id).await.unwrap());
                }
                4 => {
                    let claim = claim(&*buffer, &lease).await;
                    buffer.ack(&lease, claim.id, &[]).await.unwrap();
                    drop(buffer.claim(&lease, ClaimId::new(), of(5)).await.unwrap().unwrap());
                }
                _ => {}
            }
            page += 1;
            assert!(page < 100, "the walk does not end");
        }
        assert!(page > 4, "{page} pages are too few to have moves between them");
        let moved = page - moves_from;
        // The first ten went at the second move, the ten behind them at the fifth.
        let gone = if moved > 4 {
            20
        } else if moved > 1 {
            10
        } else {
            0
        };
        let missed = first[gone..].iter().filter(|frame| !found.contains(*frame)).count();
        assert_eq!(missed, 0, "moves from page {moves_from} on");
        drop(buffer);
    }
}

pub async fn a_walk_ends_while_producers_go_on(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let frames = backend.frames();
    let pushed = push_large(&*buffer, 0..20).await;
    let (mut found, mut from, mut tag) = (Found::new(), None, 1_000);
    let mut pages = 0;
    loop {
        let FramePage { frames, next } = frames.frames(0, from).await.unwrap();
        found.extend(frames);
        pages += 1;
        assert!(pages < 30, "{pages} pages and no end");
        // As much as a page holds.
        push_large(&*buffer, tag..tag + 4).await;
        tag += 4;
        match next {
            None => break,
            next => from = next,
        }
    }
    assert!(pushed.iter().all(|frame| found.contains(frame)));
}

pub async fn what_went_on_its_way_is_left_out_without_an_error(backend: &mut dyn Backend) {
    let buffer = registered(backend, AMPLE).await;
    let frames = backend.frames();
    push_large(&*buffer, 0..20).await;
    let begun = frames.frames(0, None).await.unwrap().next;
    assert!(begun.is_some());
    let lease = lease(&*buffer, 0).await;
    let all = claim(&*buffer, &lease).await;
    buffer.ack(&lease, all.id, &[]).await.unwrap();
    let mut from: Option<FrameMark> = begun;
    while let Some(mark) = from {
        let page = frames.frames(0, Some(mark)).await.unwrap();
        assert_eq!(page.frames, Vec::<Bytes>::new());
        from = page.next;
    }
    assert_eq!(walk(&*frames, 0).await, Found::new());
}

pub async fn an_unregistered_buffer_is_an_error_and_not_empty(backend: &mut dyn Backend) {
    assert!(matches!(backend.frames().frames(0, None).await, Err(Error::NotRegistered)));
    let buffer = registered(backend, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    assert_eq!(walk(&*backend.frames(), 0).await.len(), 1);
    assert!(backend.frames().frames(7, None).await.is_err(), "there is no such partition");
}

#[tokio::test]
async fn an_erased_redis_and_another_one_are_errors_in_the_middle_of_a_walk() {
    let mut backend = crate::backend::Redis::start();
    let buffer = registered(&backend, AMPLE).await;
    let frames = Backend::frames(&backend);
    push_large(&*buffer, 0..10).await;
    let from = frames.frames(0, None).await.unwrap().next;
    assert!(from.is_some());
    backend.clear();
    assert!(matches!(frames.frames(0, from).await, Err(Error::NotRegistered)));
    let other = Registration { dataset: DatasetId::from_u128(0xbad), ..DATASET };
    backend.open(AMPLE).register(other).await.unwrap();
    assert!(matches!(frames.frames(0, from).await, Err(Error::ForeignDataset { .. })));
}

/// Small frames, and behind them large ones: no more of those is copied than a page has room for, or little more.
#[tokio::test]
async fn a_page_takes_little_memory_of_redis_whatever_lies_behind_it() {
    let backend = crate::backend::Redis::start();
    let buffer = registered(&backend, AMPLE).await;
    for tag in 0..60 {
        push(&*buffer, 0, &bulky(tag, "ada", 280, 3_600)).await.unwrap();
    }
    for tag in 100..120 {
        push(&*buffer, 0, &frame(tag, 1)).await.unwrap();
    }
    let memory = |which: &str| -> u64 {
        let info = backend.server.cli(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix(which)).unwrap();
        line.trim().parse().unwrap()
    };
    let before = memory("used_memory:");
    assert!(before > 50 << 20, "{before}");
    let page = Backend::frames(&backend).frames(0, None).await.unwrap();
    assert_eq!(page.frames.len(), 22, "the small ones, and as many large ones as reach the bound");
    let grown = memory("used_memory_peak:") - before;
    assert!(grown < 24 << 20, "{grown} bytes more for a page of 1 MiB");
}

/// A server that was in charge may answer on a connection from before: what it has need not be all that was acknowledged.
#[tokio::test]
async fn a_replica_is_not_asked_what_there_is() {
    let master = crate::backend::Redis::start();
    let buffer = registered(&master, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    let server = crate::redis_server::RedisServer::with().replica_of(master.server.port()).start();
    let replica = crate::backend::Redis { server };
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while replica.server.cli(&["LLEN", "systole:{p0}:pending"]) != "1" {
        assert!(std::time::Instant::now() < give_up, "it does not follow");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let refused = Backend::frames(&replica).frames(0, None).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(walk(&*Backend::frames(&master), 0).await.len(), 1);
}
