//! Moving the embedded buffer into Redis: whatever it holds comes over as it was, however often the move is cut off.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::test_runner::{Config, TestRunner};
use systole::buffer::drain::{Progress, drain};
use systole::buffer::embedded::EmbeddedBuffer;
use systole::buffer::options::Options;
use systole::buffer::redis::RedisBuffer;
use systole::buffer::{
    Buffer, Claim, Condemned, DeadLetter, Error, Inlet, Inspect, Lease, PartitionStatus, Reach, Registration,
};
use systole::heartbeat::{ClaimId, DatasetId, Frame};
use tempfile::TempDir;

use crate::backend::{AMPLE, Backend, Caps, DATASET, Embedded, Redis, copy, open, own_options};
use crate::model::{CAPS, Pair, Step, step};
use crate::suite::{ALL, bulky, claim, condemned, frame, lease, ledger, next_owner, push};

/// All that can be seen of a partition without changing it, but for ages and owners.
#[derive(Debug, PartialEq)]
struct View {
    status: PartitionStatus,
    letters: Vec<DeadLetter>,
}

async fn view(buffer: &dyn Buffer, partition: u16) -> View {
    let mut status = buffer.status(partition).await.unwrap();
    (status.owner, status.oldest_pending) = (None, status.oldest_pending.map(|_| Duration::ZERO));
    if let Some(claim) = &mut status.claim {
        claim.age = Duration::ZERO;
    }
    (status.cap_rows, status.cap_bytes) = (0, 0);
    let mut letters = Vec::new();
    loop {
        let page =
            buffer.dead_letters(partition, letters.last().map(|letter: &DeadLetter| letter.id), 1_000).await.unwrap();
        if page.is_empty() {
            return View { status, letters };
        }
        letters.extend(page);
    }
}

async fn views(buffer: &dyn Buffer) -> [View; 2] {
    [view(buffer, 0).await, view(buffer, 1).await]
}

/// Works a partition off: the standing claim, then all frames behind it in their order.
async fn work_off(buffer: &dyn Buffer, partition: u16) -> (Option<Claim>, Vec<Bytes>) {
    let lease = lease(buffer, partition).await;
    let (mut standing, mut frames) = (None, Vec::new());
    while let Some(claim) = buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap() {
        buffer.ack(&lease, claim.id, &claim.condemned).await.unwrap();
        if claim.standing {
            standing = Some(claim);
        } else {
            frames.extend(claim.frames);
        }
    }
    (standing, frames)
}

/// What both hold is the same, as far as it can be seen and as far as it can be worked off.
async fn assert_same(one: &dyn Buffer, other: &dyn Buffer) {
    assert_eq!(views(one).await, views(other).await);
    for partition in 0..2 {
        let (left, right) = (work_off(one, partition).await, work_off(other, partition).await);
        // Not printed whole: that would be megabytes.
        let counts = (left.1.len(), right.1.len());
        assert!(left == right, "partition {partition} holds other frames, {counts:?} behind the standing claim");
        assert_eq!(ledger(one, partition).await, ledger(other, partition).await);
    }
}

/// Opens a copy of a folder in which nobody writes.
fn opened(folder: &TempDir) -> Embedded {
    let dir = tempfile::tempdir().unwrap();
    copy(folder.path(), dir.path());
    Embedded { buffer: open(dir.path()), dir, left: Vec::new() }
}

fn to(redis: &Redis, caps: Caps) -> RedisBuffer {
    RedisBuffer::connect(&caps.options(), &redis.place()).unwrap()
}

async fn moved(from: &EmbeddedBuffer, redis: &Redis) -> Result<Progress, Error> {
    drain(from, &to(redis, AMPLE), false, |_| {}).await
}

/// The folder of an embedded buffer with everything in it that there can be, in more than one page each.
async fn filled() -> TempDir {
    let Embedded { buffer, dir, .. } = Embedded::start();
    let buffer = &buffer;
    buffer.register(DATASET).await.unwrap();
    let many: Vec<(u16, Frame)> = (0..1_200).map(|tag| (0, frame(tag, 2))).collect();
    assert!(buffer.push(&many).await.iter().all(Result::is_ok));
    let lease = lease(buffer, 0).await;
    let first = claim(buffer, &lease).await;
    let of = |frames: std::ops::Range<u32>| -> Vec<Condemned> {
        frames.map(|at| condemned(at % 1_000, Some(at / 1_000), &frame(9_000 + u64::from(at), 1))).collect()
    };
    buffer.condemn(&lease, first.id, &of(0..1_100)).await.unwrap();
    buffer.ack(&lease, first.id, &of(0..1_100)).await.unwrap();
    assert!(buffer.push(&many).await.iter().all(Result::is_ok));
    let second = claim(buffer, &lease).await;
    buffer.condemn(&lease, second.id, &of(0..1_050)).await.unwrap();
    buffer.condemn(&lease, second.id, &[condemned(7, None, &frame(7, 2))]).await.unwrap();
    buffer.take_in_hand(&lease, second.id, Some(3)).await.unwrap();
    let lease = next_owner(buffer, &lease).await;
    claim(buffer, &lease).await;
    buffer.take_in_hand(&lease, second.id, Some(5)).await.unwrap();
    assert!(buffer.push(&many).await.iter().all(Result::is_ok));
    let large: Vec<(u16, Frame)> = (0..40).map(|tag| (1, large(tag))).collect();
    assert!(buffer.push(&large).await.iter().all(Result::is_ok));
    dir
}

/// A frame of a quarter of a megabyte.
fn large(tag: u64) -> Frame {
    bulky(tag, "u", 64, 4_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_over_as_it_was() {
    let (folder, redis) = (filled().await, Redis::start());
    let (embedded, twin) = (opened(&folder), opened(&folder));
    let before = views(&embedded.buffer).await;
    let mut told = Vec::new();
    let moved = drain(&embedded.buffer, &to(&redis, AMPLE), false, |progress| told.push(progress)).await.unwrap();
    let held = before.iter().map(|view| view.status.ledger).map(|it| it.pending + it.claimed + it.dead).sum::<u64>();
    assert_eq!((moved.partitions, moved.heartbeats, moved.claims, moved.dead_letters), (2, held, 1, 1_100));
    assert_eq!((told.len(), told.last()), (2, Some(&moved)));
    let after = redis.open(AMPLE);
    assert_eq!(after.registration().await.unwrap(), Some(DATASET));
    assert_eq!(views(&*after).await, before);
    assert_same(&twin.buffer, &*after).await;
}

#[test]
fn after_any_steps_it_goes_on_in_redis_where_it_was() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 30, failure_persistence: None, ..Config::default() });
    let redis = RefCell::new(Redis::start());
    let steps = || proptest::collection::vec(step(), 1..40);
    runner
        .run(&(steps(), steps()), |(before, after)| {
            let redis = &mut *redis.borrow_mut();
            redis.clear();
            runtime.block_on(move_between(redis, before, after));
            Ok(())
        })
        .unwrap();
}

async fn move_between(redis: &Redis, before: Vec<Step>, after: Vec<Step>) {
    let embedded = Embedded::start();
    let mut pair = Pair::new(&embedded).await;
    for step in before {
        pair.take(step).await;
    }
    let twin = opened(&embedded.dir);
    moved(&embedded.buffer, redis).await.unwrap();
    let there = redis.open(CAPS);
    assert_eq!(views(&*there).await, views(&embedded.buffer).await);

    let epoch = pair.lease.epoch;
    pair.buffer = there.clone();
    pair.agree().await;
    pair.lease = lease(&*there, 0).await;
    assert!(pair.lease.epoch > epoch, "no lease of before can be in force again");
    // What the next owner is told is what it would have been told without the move, the frame in hand and all.
    let told = |buffer: Arc<dyn Buffer>, lease| async move { buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap() };
    if there.status(0).await.unwrap().claim.is_some() {
        pair.take(Step::Claim { frames: 1 }).await;
        let stayed: Arc<dyn Buffer> = Arc::new(twin.buffer.clone());
        let without_move = lease(&*stayed, 0).await;
        assert_eq!(told(there.clone(), pair.lease).await, told(stayed, without_move).await);
    }
    for step in after {
        pair.take(step).await;
        pair.agree().await;
    }
}

#[test]
fn cut_off_anywhere_and_run_again_it_is_the_same() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (folder, redis) = (runtime.block_on(filled()), RefCell::new(Redis::start()));
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::collection::vec(0..120_u64, 1..8), |patience_ms| {
            let redis = &mut *redis.borrow_mut();
            redis.clear();
            let Embedded { buffer: from, dir, .. } = opened(&folder);
            runtime.block_on(async {
                let before = views(&from).await;
                for patience in patience_ms {
                    // Dropped where it stands, as a kill would, with an answer that nobody reads on its way.
                    let _ = tokio::time::timeout(Duration::from_millis(patience), moved(&from, redis)).await;
                }
                moved(&from, redis).await.unwrap();
                let there = redis.open(AMPLE);
                assert_eq!(views(&*there).await, before);
                assert_same(&opened(&folder).buffer, &*there).await;
            });
            drop((from, dir));
            Ok(())
        })
        .unwrap();
}

/// The error of every step that changes something.
async fn refusals(buffer: &EmbeddedBuffer, lease: &Lease, id: ClaimId) -> Vec<Option<Error>> {
    let letter = buffer.dead_letters(0, None, 1).await.unwrap().remove(0).id;
    vec![
        push(buffer, 0, &frame(1, 1)).await.err(),
        buffer.ping().await.err(),
        buffer.lease(0, lease.batcher, Duration::from_secs(9)).await.err(),
        buffer.renew(lease, Duration::from_secs(9)).await.err(),
        buffer.release(lease).await.err(),
        buffer.claim(lease, ClaimId::new(), ALL).await.err(),
        buffer.take_in_hand(lease, id, None).await.err(),
        buffer.condemn(lease, id, &[]).await.err(),
        buffer.ack(lease, id, &[]).await.err(),
        buffer.retry_dead_letter(0, letter).await.err(),
        buffer.drop_dead_letter(0, letter).await.err(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_begun_neither_side_takes_a_step_before_it_is_finished() {
    let (embedded, redis) = (opened(&filled().await), Redis::start());
    let before = views(&embedded.buffer).await;
    let standing = before[0].status.claim.unwrap().id;
    let lease = lease(&embedded.buffer, 0).await;

    // Partition 1 goes first; Redis is full on the way.
    let used: u64 = used_memory(&redis);
    redis.server.cli(&["CONFIG", "SET", "maxmemory", &(used + (6 << 20)).to_string()]);
    let error = moved(&embedded.buffer, &redis).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("maxmemory"), "{error}");
    let came: u32 = redis.server.cli(&["LLEN", "systole:{p1}:pending"]).parse().unwrap();
    assert!(came > 0 && came < 40, "{came}");

    for (at, refusal) in refusals(&embedded.buffer, &lease, standing).await.into_iter().enumerate() {
        assert!(matches!(refusal, Some(Error::BeingMoved)), "{at}: {refusal:?}");
    }
    let Embedded { buffer, dir, .. } = embedded;
    drop(buffer);
    let refused = EmbeddedBuffer::open(dir.path(), &Options::default(), &own_options()).unwrap_err();
    assert!(refused.to_string().contains("systole drain"), "{refused}");
    let buffer = EmbeddedBuffer::open_to_move(dir.path(), &Options::default(), &own_options()).unwrap();
    assert_eq!(views(&buffer).await, before);

    redis.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    let there = redis.open(AMPLE);
    assert_eq!(there.registration().await.unwrap(), None);
    assert!(matches!(push(&*there, 1, &frame(1, 1)).await, Err(Error::NotRegistered)));
    for dataset in [DATASET, Registration { dataset: DatasetId::from_u128(0xbad), partitions: 2 }] {
        assert!(matches!(there.register(dataset).await, Err(Error::BeingMoved)), "nobody makes it its own meanwhile");
    }

    moved(&buffer, &redis).await.unwrap();
    assert_eq!(views(&*redis.open(AMPLE)).await, before);
    for refusal in refusals(&buffer, &lease, standing).await {
        assert!(matches!(refusal, Some(Error::BeingMoved)), "after the move as well: {refusal:?}");
    }
}

fn used_memory(redis: &Redis) -> u64 {
    let info = redis.server.cli(&["INFO", "memory"]);
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_not_new_is_refused_and_nothing_is_marked() {
    let embedded = Embedded::start();
    let other = Registration { dataset: DatasetId::from_u128(0xbad), partitions: 4 };
    assert!(matches!(moved(&embedded.buffer, &Redis::start()).await, Err(Error::NotRegistered)));
    embedded.buffer.register(DATASET).await.unwrap();

    let foreign = Redis::start();
    foreign.open(AMPLE).register(other).await.unwrap();
    assert!(matches!(moved(&embedded.buffer, &foreign).await, Err(Error::ForeignDataset { .. })));
    let ours = Redis::start();
    ours.open(AMPLE).register(DATASET).await.unwrap();
    assert!(matches!(moved(&embedded.buffer, &ours).await, Err(Error::Unsafe { .. })));
    let begun = Redis::start();
    begun.server.cli(&["HSET", "systole:{p1}:state", "dataset", &other.dataset.to_string(), "partitions", "4"]);
    assert!(matches!(moved(&embedded.buffer, &begun).await, Err(Error::ForeignDataset { .. })));
    let littered = Redis::start();
    littered.server.cli(&["RPUSH", "systole:{p0}:pending", "x"]);
    assert!(matches!(moved(&embedded.buffer, &littered).await, Err(Error::Unsafe { .. })));
    let forgetful = Redis { server: crate::redis_server::RedisServer::with().appendonly("no").start() };
    assert!(matches!(moved(&embedded.buffer, &forgetful).await, Err(Error::Unsafe { .. })));
    let mut gone = Redis::start();
    gone.server.kill();
    assert!(matches!(moved(&embedded.buffer, &gone).await, Err(Error::Unreachable { .. })));

    push(&embedded.buffer, 0, &frame(1, 1)).await.unwrap();
    assert_eq!(ours.open(AMPLE).registration().await.unwrap(), Some(DATASET));
    let another = Embedded::start();
    another.buffer.register(DATASET).await.unwrap();
    let taken = Redis::start();
    moved(&another.buffer, &taken).await.unwrap();
    assert!(matches!(moved(&embedded.buffer, &taken).await, Err(Error::Unsafe { .. })), "by another drain");
    push(&embedded.buffer, 0, &frame(2, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_new_redis_will_do_until_the_first_may_take_heartbeats_in() {
    let embedded = opened(&filled().await);
    let (first, second, third) = (Redis::start(), Redis::start(), Redis::start());
    let before = views(&embedded.buffer).await;
    first.server.cli(&["CONFIG", "SET", "maxmemory", &(used_memory(&first) + (6 << 20)).to_string()]);
    moved(&embedded.buffer, &first).await.unwrap_err();
    moved(&embedded.buffer, &second).await.unwrap();
    assert_eq!(views(&*second.open(AMPLE)).await, before);

    // Whoever serves on it pushes from now on; running it again finds that, and nothing to do.
    let there = second.open(AMPLE);
    push(&*there, 1, &frame(1, 5)).await.unwrap();
    let again = moved(&embedded.buffer, &second).await.unwrap();
    assert_eq!(again.partitions, 2);
    assert_eq!(ledger(&*there, 1).await.accepted, before[1].status.ledger.accepted + 5);

    for other in [&first, &third] {
        other.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        let error = moved(&embedded.buffer, other).await.unwrap_err();
        assert!(matches!(&error, Error::Unsafe { advice } if advice.contains("--abandon-other")), "{error}");
    }
    assert_eq!(third.server.cli(&["DBSIZE"]), "0");
    drain(&embedded.buffer, &to(&third, AMPLE), true, |_| {}).await.unwrap();
    assert_eq!(views(&*third.open(AMPLE)).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_lost_of_it_is_noticed() {
    let (embedded, redis) = (opened(&filled().await), Redis::start());
    moved(&embedded.buffer, &redis).await.unwrap();
    redis.server.cli(&["HINCRBY", "systole:{p1}:state", "accepted", "-64"]);
    redis.server.cli(&["HINCRBY", "systole:{p1}:state", "pending", "-64"]);
    let error = moved(&embedded.buffer, &redis).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { detail } if detail.contains("partition 1")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_came_back_older_is_filled_up_again() {
    let (folder, redis) = (filled().await, Redis::start());
    let (embedded, twin) = (opened(&folder), opened(&folder));
    let before = views(&embedded.buffer).await;
    moved(&embedded.buffer, &redis).await.unwrap();
    // As if its last moments had not reached the disk: partition 0 begun only, partition 1 short of its end.
    let drain = redis.server.cli(&["HGET", "systole:{p0}:state", "drain"]);
    for key in ["state", "processing", "dead"] {
        redis.server.cli(&["DEL", &format!("systole:{{p0}}:{key}")]);
    }
    redis.server.cli(&["LTRIM", "systole:{p0}:pending", "0", "99"]);
    redis.server.cli(&["DEL", "systole:{p1}:state"]);
    redis.server.cli(&["RPOP", "systole:{p1}:pending", "7"]);
    for partition in [0, 1] {
        redis.server.cli(&["HSET", &format!("systole:{{p{partition}}}:state"), "drain", &drain]);
    }
    moved(&embedded.buffer, &redis).await.unwrap();
    let there = redis.open(AMPLE);
    assert_eq!(views(&*there).await, before);
    assert_same(&twin.buffer, &*there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_of_the_move_never_becomes_part_of_a_partition() {
    let (embedded, redis) = (opened(&filled().await), Redis::start());
    redis.server.cli(&["CONFIG", "SET", "maxmemory", &(used_memory(&redis) + (6 << 20)).to_string()]);
    moved(&embedded.buffer, &redis).await.unwrap_err();
    redis.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.server.cli(&["ZADD", "systole:{p1}:dead", "0", "x"]);
    let error = moved(&embedded.buffer, &redis).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt { detail } if detail.contains("dead holds 1 of the 0")), "{error}");
    assert_eq!(redis.open(AMPLE).registration().await.unwrap(), None);
}
