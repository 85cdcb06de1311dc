//! Live reads in one process: while everything moves, nothing that was accepted is missed, doubled or out of order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::print_stderr, reason = "figures for the docs")]

mod batcher_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use batcher_support::{DAY_MS, NOON, PARTITIONS, World, beat, on_every_buffer, user_of};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use systole::buffer::{self, Durability, FrameMark, FramePage, Frames, Reach, Registration};
use systole::compactor::{self, Compactor};
use systole::heartbeat::{Frame, Heartbeat, Partition, partition_of};
use systole::query::{self, Coverage, Error, Options, Position, Query, Reading};
use systole::telemetry::health::Health;
use systole::telemetry::metrics::registry;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far more than a page takes.
const A_PAGE: Duration = Duration::from_secs(30);
/// How long each test lets everything move.
const MOVING: Duration = Duration::from_secs(4);

fn reading(frames: Arc<dyn Frames>, world: &World) -> Reading {
    let metrics = query::Metrics::register(&registry().unwrap()).unwrap();
    Reading::new(frames, Some(world.dataset.clone()), &Options::default(), metrics)
}

fn all_of(user_id: &str) -> Query {
    Query { user_id: user_id.to_owned(), device_id: None, from: None, to: None }
}

/// All that is left of a walk.
async fn walk(reading: &Reading, query: Query, after: Option<Position>, most: usize) -> Result<Vec<Heartbeat>, Error> {
    let mut scan = reading.scan(query, after);
    let mut found = Vec::new();
    while let Some(page) = timeout(A_PAGE, scan.next(most)).await.expect("a page in time")? {
        assert!((1..=most).contains(&page.rows().len()), "{} rows in a page of {most}", page.rows().len());
        found.extend(page.rows().map(|row| row.to_heartbeat()));
    }
    Ok(found)
}

fn positions(rows: &[Heartbeat]) -> Vec<Position> {
    rows.iter().map(|row| Position::of(&row.as_ref())).collect()
}

/// A batcher that claims little and a compactor that publishes and consolidates all the time.
struct Moving {
    shutdown: CancellationToken,
    compactor: tokio::task::JoinHandle<()>,
    batchers: Vec<batcher_support::RunningBatcher>,
}

impl Moving {
    fn start(world: &mut World, batchers: usize) -> Self {
        let ms = |ms| Duration::from_millis(ms).into();
        world.options.max_delay = ms(5);
        world.options.look_every = ms(5);
        world.options.claim_rows = 20;
        let options = compactor::Options {
            publish_after: ms(20),
            publish_scan_every: ms(10),
            max_files: 3,
            small_file_share: 0.0,
            reader_grace: ms(0),
            ..compactor::Options::default()
        };
        let (shutdown, health) = (CancellationToken::new(), Health::new());
        let metrics = compactor::Metrics::register(&registry().unwrap()).unwrap();
        let compactor = Compactor::new(world.dataset.clone(), options, metrics);
        let stop = shutdown.clone();
        let compactor = tokio::spawn(async move { compactor.watch(&health, stop).await.unwrap() });
        Self { shutdown, compactor, batchers: (0..batchers).map(|_| world.batcher()).collect() }
    }

    async fn stop(self) {
        for batcher in self.batchers {
            batcher.stop().await;
        }
        self.shutdown.cancel();
        self.compactor.await.unwrap();
    }
}

/// One user, whom one task writes: so that it knows exactly what was accepted.
struct Author {
    user_id: String,
    dice: StdRng,
    accepted: BTreeMap<Position, Heartbeat>,
    /// Length of a word in the attributes.
    wordy: usize,
}

impl Author {
    fn new(seed: u64) -> Self {
        let user_id = format!("user-{seed}");
        // What every other one of them says is more than is collected at a time.
        let wordy = if seed.is_multiple_of(2) { 30_000 } else { 1 };
        Self { user_id, dice: StdRng::seed_from_u64(seed), accepted: BTreeMap::new(), wordy }
    }

    /// Some new heartbeats of three days; at times one of them is an old one again, as a client's retry.
    fn some(&mut self) -> Vec<Heartbeat> {
        let many = self.dice.random_range(1..6);
        (0..many)
            .map(|_| {
                let n = self.dice.random_range(0..self.accepted.len().max(1));
                match self.accepted.values().nth(n).filter(|_| self.dice.random_ratio(1, 6)) {
                    Some(again) => Heartbeat { received_at: again.received_at + 1, ..again.clone() },
                    None => Heartbeat {
                        user_id: self.user_id.clone(),
                        device_id: format!("device-{}", self.dice.random_range(0..3)),
                        timestamp: NOON + self.dice.random_range(-DAY_MS..DAY_MS),
                        id: self.dice.random_bool(0.3).then(|| format!("{}", self.dice.random::<u32>())),
                        received_at: NOON,
                        attributes: self
                            .dice
                            .random_bool(0.3)
                            .then(|| format!("{{\"a\":\"{}\"}}", "x".repeat(self.wordy))),
                    },
                }
            })
            .collect()
    }

    async fn push(&mut self, buffer: &dyn buffer::Buffer) {
        let rows = self.some();
        let frame = Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap();
        buffer.push(&[(partition_of(&self.user_id, PARTITIONS), frame)]).await.remove(0).unwrap();
        for row in rows {
            self.accepted.entry(Position::of(&row.as_ref())).or_insert(row);
        }
    }

    /// Reads from a place on in pages of some size; answers how many heartbeats had to be there.
    async fn check(&mut self, reading: &Reading) -> u64 {
        let most = if self.dice.random_bool(0.5) { 10_000 } else { self.dice.random_range(1..200) };
        let n = self.dice.random_range(0..2 * self.accepted.len());
        let after = self.accepted.keys().nth(n).cloned();
        let found = walk(reading, all_of(&self.user_id), after.clone(), most).await.unwrap();
        let found_at = positions(&found);
        assert!(found_at.windows(2).all(|pair| pair[0] < pair[1]), "out of order or twice");
        let wanted: Vec<_> = self.accepted.keys().filter(|at| Some(*at) > after.as_ref()).cloned().collect();
        if found_at != wanted {
            let there: BTreeSet<_> = found_at.iter().collect();
            let missed: Vec<_> = wanted.iter().filter(|at| !there.contains(at)).collect();
            panic!("{} of {} missed ({} found), such as {:?}", missed.len(), wanted.len(), found.len(), missed.first());
        }
        wanted.len() as u64
    }
}

async fn what_is_accepted_is_in_the_very_next_answer(mut world: World) {
    let moving = Moving::start(&mut world, 2);
    let reading = reading(world.frames.clone(), &world);
    let (checks, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let until = Instant::now() + MOVING;
    let authors = (0..6).map(|seed| {
        let (buffer, reading) = (world.buffer.clone(), reading.clone());
        let (checks, reads) = (checks.clone(), reads.clone());
        tokio::spawn(async move {
            let mut author = Author::new(seed);
            while Instant::now() < until {
                let most = if author.wordy > 1 { 60 } else { 10 };
                for _ in 0..author.dice.random_range(1..most) {
                    author.push(&*buffer).await;
                }
                checks.fetch_add(author.check(&reading).await, Ordering::Relaxed);
                reads.fetch_add(1, Ordering::Relaxed);
            }
            author
        })
    });
    let authors = futures::future::join_all(authors.collect::<Vec<_>>()).await;
    let (checks, reads) = (checks.load(Ordering::Relaxed), reads.load(Ordering::Relaxed));
    eprintln!("FIGURES live reads: {checks} heartbeats looked for in {reads} reads");
    assert!(checks > 1_000, "{checks} heartbeats in {reads} reads are hardly a test");
    moving.stop().await;
    for author in authors {
        author.unwrap().check(&reading).await;
    }
}

on_every_buffer! {
    what_is_accepted_is_in_the_very_next_answer,
    a_batcher_and_a_publish_between_buffer_and_files_hide_nothing,
    a_walk_that_goes_on_much_later_misses_nothing,
    bounds_of_device_and_time_hold_in_every_stage,
}

/// Does something once the buffer was read to its end.
#[derive(Debug)]
struct Between {
    inner: Arc<dyn Frames>,
    reads: AtomicU64,
    then: Arc<tokio::sync::Notify>,
    done: Arc<tokio::sync::Notify>,
    waits: AtomicBool,
}

#[async_trait]
impl Reach for Between {
    async fn durability(&self) -> buffer::Result<Durability> {
        self.inner.durability().await
    }

    async fn ping(&self) -> buffer::Result<()> {
        self.inner.ping().await
    }

    async fn registration(&self) -> buffer::Result<Option<Registration>> {
        self.inner.registration().await
    }
}

#[async_trait]
impl Frames for Between {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> buffer::Result<FramePage> {
        let page = self.inner.frames(partition, from).await?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        if page.next.is_none() && self.waits.load(Ordering::Relaxed) {
            self.then.notify_one();
            self.done.notified().await;
        }
        Ok(page)
    }
}

/// Publishes all that is staged.
async fn publish(world: &World) {
    let metrics = compactor::Metrics::register(&registry().unwrap()).unwrap();
    let compactor = Compactor::new(world.dataset.clone(), compactor::Options::default(), metrics);
    tokio::task::spawn_blocking(move || compactor.pass(&compactor::Silent, &CancellationToken::new()))
        .await
        .unwrap()
        .unwrap();
}

async fn a_batcher_and_a_publish_between_buffer_and_files_hide_nothing(mut world: World) {
    let user = user_of(0, 0);
    let rows: Vec<Heartbeat> = (0..400).map(|n| beat(0, 0, NOON + n * 500_000)).collect();
    let quarter = |n: usize| vec![rows.iter().skip(n).step_by(4).cloned().collect::<Vec<_>>()];
    world.push(0, &quarter(0)).await;
    let batcher = world.batcher();
    world.drained(0).await;
    publish(&world).await;
    world.push(0, &quarter(1)).await;
    world.drained(0).await;
    batcher.stop().await;
    world.push(0, &quarter(2)).await;
    world.push(0, &quarter(3)).await;
    world.options.max_delay = Duration::from_millis(5).into();

    let (then, done) = <(Arc<tokio::sync::Notify>, Arc<tokio::sync::Notify>)>::default();
    let between = Between {
        inner: world.frames.clone(),
        reads: AtomicU64::new(0),
        then: then.clone(),
        done: done.clone(),
        waits: AtomicBool::new(true),
    };
    let reading = reading(Arc::new(between), &world);
    let asked = tokio::spawn({
        let (reading, user) = (reading.clone(), user.clone());
        async move { walk(&reading, all_of(&user), None, 10_000).await.unwrap() }
    });
    then.notified().await;
    let batcher = world.batcher();
    world.drained(0).await;
    publish(&world).await;
    done.notify_one();
    assert_eq!(positions(&asked.await.unwrap()), positions(&rows));
    batcher.stop().await;
}

async fn a_walk_that_goes_on_much_later_misses_nothing(world: World) {
    let user = user_of(0, 0);
    let rows: Vec<Heartbeat> = (0..300).map(|n| beat(0, 0, NOON + n * 1_000_000)).collect();
    world.push(0, &[rows[..200].to_vec()]).await;
    let reading = reading(world.frames.clone(), &world);
    let mut scan = reading.scan(all_of(&user), None);
    let first = scan.next(10).await.unwrap().unwrap();
    assert_eq!(first.rows().len(), 10);
    world.push(0, &[rows[200..].to_vec()]).await;
    let batcher = world.batcher();
    world.drained(0).await;
    publish(&world).await;
    let mut found: Vec<Heartbeat> = first.rows().map(|row| row.to_heartbeat()).collect();
    while let Some(page) = scan.next(50).await.unwrap() {
        found.extend(page.rows().map(|row| row.to_heartbeat()));
    }
    assert_eq!(positions(&found[..200]), positions(&rows[..200]), "all that was accepted before it began");
    assert!(positions(&found).is_sorted_by(|a, b| a < b));
    assert_eq!(scan.next(50).await.unwrap().map(|page| page.rows().len()), None, "the end stays the end");
    assert_eq!(scan.skipped_frames(), 0);
    batcher.stop().await;
}

async fn bounds_of_device_and_time_hold_in_every_stage(world: World) {
    let user = user_of(0, 0);
    let row = |n: i64| Heartbeat { device_id: format!("d{}", n % 3), ..beat(0, 0, NOON + n * 3_600_000) };
    let rows: Vec<Heartbeat> = (-60..60).map(row).collect();
    let stranger = |n: i64| Heartbeat { user_id: user_of(0, 1), ..row(n) };
    let reading = reading(world.frames.clone(), &world);
    assert_eq!(reading.coverage(), Coverage::All);
    for stage in 0..3 {
        match stage {
            0 => world.push(0, &[rows.clone(), (-60..60).map(stranger).collect()]).await,
            1 => {
                let batcher = world.batcher();
                world.drained(0).await;
                batcher.stop().await;
            }
            _ => publish(&world).await,
        }
        for (device, from, to) in [
            (None, None, None),
            (Some("d1"), None, None),
            (None, Some(NOON), None),
            (None, None, Some(NOON)),
            (Some("d2"), Some(NOON - DAY_MS), Some(NOON + DAY_MS)),
            (None, Some(NOON + 1), Some(NOON + 1)),
            (None, Some(NOON), Some(NOON - 1)),
            (Some("none"), None, None),
        ] {
            let query = Query { user_id: user.clone(), device_id: device.map(str::to_owned), from, to };
            let found = walk(&reading, query, None, 7).await.unwrap();
            let wanted = rows.iter().filter(|row| {
                device.is_none_or(|device| row.device_id == device)
                    && from.is_none_or(|from| row.timestamp >= from)
                    && to.is_none_or(|to| row.timestamp < to)
            });
            assert_eq!(found, wanted.cloned().collect::<Vec<_>>(), "stage {stage}: {device:?} {from:?} {to:?}");
        }
        assert_eq!(walk(&reading, all_of("nobody"), None, 7).await.unwrap(), []);
    }
}

/// More of one user than is collected at a time, over some days.
fn much() -> Vec<Heartbeat> {
    let row = |n: i64| {
        let attributes = Some(format!("{{\"n\":\"{n:-<900}\"}}"));
        Heartbeat { attributes, ..beat(0, 0, NOON + n * 20_000) }
    };
    (0..12_000).map(row).collect()
}

/// More than is collected at a time, of the buffer and of each date.
#[tokio::test(flavor = "multi_thread")]
async fn much_is_given_in_bounded_rounds() {
    let world = World::on(batcher_support::Kind::Embedded).await;
    let rows = much();
    let halves: Vec<Vec<Heartbeat>> = rows.chunks(2_000).map(<[_]>::to_vec).collect();
    let reading = reading(world.frames.clone(), &world);
    world.push(0, &halves).await;
    assert!(walk(&reading, all_of(&user_of(0, 0)), None, 5_000).await.unwrap() == rows, "out of the buffer");
    let batcher = world.batcher();
    world.drained(0).await;
    assert!(walk(&reading, all_of(&user_of(0, 0)), None, 5_000).await.unwrap() == rows, "out of staging");
    publish(&world).await;
    assert!(walk(&reading, all_of(&user_of(0, 0)), None, 5_000).await.unwrap() == rows, "out of published files");
    // Many that stand still between their pages keep no more than their share, and go on all the same.
    world.push(0, &halves).await;
    let mut standing: Vec<_> = (0..12).map(|_| reading.scan(all_of(&user_of(0, 0)), None)).collect();
    for scan in &mut standing {
        assert!(scan.next(100).await.unwrap().is_some());
    }
    let mut last = standing.pop().unwrap();
    let mut found = 100;
    while let Some(page) = last.next(5_000).await.unwrap() {
        let page: Vec<_> = page.rows().map(|row| row.to_heartbeat()).collect();
        assert!(rows[found..found + page.len()] == page, "behind {found}");
        found += page.len();
    }
    assert_eq!(found, rows.len());
    batcher.stop().await;
}

/// More than is collected at a time of the buffer, while some of the same dates stands in files.
#[tokio::test(flavor = "multi_thread")]
async fn much_in_the_buffer_is_given_among_files_of_the_same_dates() {
    let world = World::on(batcher_support::Kind::Embedded).await;
    let rows = much();
    let share = |from: usize, of: usize| -> Vec<Vec<Heartbeat>> {
        let share: Vec<Heartbeat> = rows.iter().skip(from).step_by(of).cloned().collect();
        share.chunks(2_000).map(<[_]>::to_vec).collect()
    };
    let batcher = world.batcher();
    for published in [true, false] {
        world.push(0, &share(usize::from(published), 4)).await;
        world.drained(0).await;
        if published {
            publish(&world).await;
        }
    }
    batcher.stop().await;
    for from in [2, 3] {
        world.push(0, &share(from, 4)).await;
    }
    let reading = reading(world.frames.clone(), &world);
    for most in [700, 5_000] {
        assert!(walk(&reading, all_of(&user_of(0, 0)), None, most).await.unwrap() == rows, "in pages of {most}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_of_one_identity_what_is_published_stands_else_the_lowest() {
    let world = World::on(batcher_support::Kind::Embedded).await;
    let reading = reading(world.frames.clone(), &world);
    let row = |received_at: i64| Heartbeat { received_at, ..beat(0, 0, NOON) };
    let found = async || walk(&reading, all_of(&user_of(0, 0)), None, 9).await.unwrap();
    world.push(0, &[vec![row(7)], vec![row(5), row(6)]]).await;
    assert_eq!(found().await, [row(5)]);
    let batcher = world.batcher();
    world.drained(0).await;
    batcher.stop().await;
    assert_eq!(found().await, [row(5)]);
    publish(&world).await;
    world.push(0, &[vec![row(3)]]).await;
    assert_eq!(found().await, [row(5)], "what is published stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_said_and_never_left_out() {
    let world = World::on(batcher_support::Kind::Embedded).await;
    let reading = reading(world.frames.clone(), &world);
    world.push(0, &[(0..500).map(|n| beat(0, 0, NOON + n)).collect()]).await;
    let batcher = world.batcher();
    world.drained(0).await;
    batcher.stop().await;
    let (bucket, name) = world.fragments(0).remove(0);
    let staged = world.dataset.root().join(format!("staging/{bucket}/{name}"));
    flip(&staged);
    let error = walk(&reading, all_of(&user_of(0, 0)), None, 9).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)) && !error.is_transient(), "{error}");
    let text = error.to_string();
    assert!(text.contains("systole verify") && !text.contains('/'), "{text}");
    publish(&world).await;
    assert_eq!(world.dataset.quarantined(bucket).unwrap().len(), 1);
    assert_eq!(
        walk(&reading, all_of(&user_of(0, 0)), None, 9).await.unwrap(),
        [],
        "what is laid aside is said elsewhere"
    );

    world.push(0, &[(0..500).map(|n| beat(0, 0, NOON + n)).collect()]).await;
    let batcher = world.batcher();
    world.drained(0).await;
    batcher.stop().await;
    publish(&world).await;
    let published = world.dataset.list_published(bucket).unwrap();
    assert_eq!(walk(&reading, all_of(&user_of(0, 0)), None, 600).await.unwrap().len(), 500);
    for name in &published {
        flip(&world.dataset.root().join(format!("heartbeats/{bucket}/{name}")));
    }
    let error = walk(&reading, all_of(&user_of(0, 0)), None, 9).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    // Others are in other files, and are read.
    assert_eq!(walk(&reading, all_of(&user_of(1, 0)), None, 9).await.unwrap(), []);
}

/// Changes a byte near the start of a file, where its first page is.
fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[40] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_cannot_be_decoded_is_passed_over_and_counted() {
    let inner = World::on(batcher_support::Kind::Embedded).await;
    let good = Frame::encode([beat(0, 0, NOON).as_ref()]).unwrap().bytes().clone();
    let mut bad = good.to_vec();
    bad[20] ^= 1;
    let given = |frames: Vec<bytes::Bytes>| Arc::new(Given { frames: Mutex::new(frames) });
    let reading = |frames| reading(given(frames), &inner);
    let mut scan = reading(vec![bad.into(), good.clone()]).scan(all_of(&user_of(0, 0)), None);
    assert_eq!(scan.next(9).await.unwrap().unwrap().rows().len(), 1);
    assert_eq!(scan.skipped_frames(), 1);
    // It is no dead letter, and what it holds is not known here.
    let newer = Frame::from_bytes(newest(&good)).unwrap();
    let error = walk(&reading(vec![newer.bytes().clone()]), all_of(&user_of(0, 0)), None, 9).await.unwrap_err();
    assert!(matches!(error, Error::Newer), "{error}");
}

/// A frame of a version that is not known yet: whole by its checksum, which stands at 9..17 and covers all but itself.
fn newest(frame: &[u8]) -> bytes::Bytes {
    let mut frame = frame.to_vec();
    frame[0] = 9;
    let covered = [&frame[..9], &frame[17..]].concat();
    let checksum = xxhash_rust::xxh3::xxh3_64(&covered);
    frame[9..17].copy_from_slice(&checksum.to_le_bytes());
    frame.into()
}

/// Always the same frames.
#[derive(Debug)]
struct Given {
    frames: Mutex<Vec<bytes::Bytes>>,
}

#[async_trait]
impl Reach for Given {
    async fn durability(&self) -> buffer::Result<Durability> {
        Err(buffer::Error::NotRegistered)
    }

    async fn ping(&self) -> buffer::Result<()> {
        Ok(())
    }

    async fn registration(&self) -> buffer::Result<Option<Registration>> {
        Ok(None)
    }
}

#[async_trait]
impl Frames for Given {
    async fn frames(&self, _: Partition, _: Option<FrameMark>) -> buffer::Result<FramePage> {
        Ok(FramePage { frames: self.frames.lock().unwrap().clone(), next: None })
    }
}

/// Whoever comes when too many read waits a little, and is told.
#[tokio::test(start_paused = true)]
async fn too_many_at_once_wait_a_little_and_are_told() {
    let world = World::on(batcher_support::Kind::Embedded).await;
    let hanging = Between {
        inner: Arc::new(Given { frames: Mutex::default() }),
        reads: AtomicU64::new(0),
        then: Arc::default(),
        done: Arc::default(),
        waits: AtomicBool::new(true),
    };
    let reading = reading(Arc::new(hanging), &world);
    let ask = async || reading.scan(all_of("ada"), None).next(9).await;
    let long = Duration::from_secs(3_600);
    let (first, second) = tokio::join!(timeout(long, ask()), timeout(long, ask()));
    assert!(first.is_err(), "it is under way");
    assert!(matches!(second.unwrap(), Err(error @ Error::Busy { .. }) if error.is_transient()));
}
