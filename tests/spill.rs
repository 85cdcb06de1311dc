//! The spill: Redis away means 202 from this host's disk, and when it is back everything goes in by itself, once. A Redis
//! that is there and says no is a 503, never a spill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use support::{Answer, Beats, Buffer, Client, Launch, RedisServer, SOON, Systole, World, failpoints, wait};

/// The directory of the spill.
fn spill_dir(world: &World) -> PathBuf {
    world.dataset().parent().unwrap().join("spill")
}

/// `systole serve` with a spill.
fn serve(world: &World) -> Launch {
    world.serve().args([format!("--spill-dir={}", spill_dir(world).display()), "--spill-after=500ms".to_owned()])
}

/// The same with a batcher beside it, ready.
fn serve_and_batch(world: &World) -> (Systole, Systole) {
    let batch = world.batch().start();
    let serve = serve(world).start();
    serve.await_status("/health", 200, SOON);
    (serve, batch)
}

/// Waits until a part of `/health` says `words`, and answers its whole detail.
fn await_part(serve: &Systole, name: &str, ok: bool, words: &str) -> String {
    wait::value(&format!("`{name}` to say `{words}`"), SOON, || {
        let answer = serve.get("/health").ok_or("no answer")?;
        let parts = answer.body["parts"].as_array().cloned().unwrap_or_default();
        let part = parts.into_iter().find(|part| part["name"] == name).ok_or_else(|| answer.text.clone())?;
        let detail = part["detail"].as_str().unwrap_or_default().to_owned();
        if part["ok"] == ok && detail.contains(words) { Ok(detail) } else { Err(answer.text) }
    })
}

/// Waits until `/health` says that it spills, and so many heartbeats at least wait.
fn await_spilling(serve: &Systole, least: u64) {
    wait::value(&format!("{least} heartbeats in the spill"), SOON, || {
        let detail = await_part(serve, "spill", false, "degraded: spilling, ");
        let numbers: Vec<u64> = detail.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        let [waiting, bytes] = numbers[..] else { return Err(detail) };
        if waiting >= least && bytes >= 20 * waiting { Ok(()) } else { Err(detail) }
    });
    let health = serve.await_status("/health", 503, SOON);
    assert!(health.text.contains("degraded"), "{}", health.text);
    assert_eq!(serve.get("/health/ready").unwrap().status, 200);
}

/// Waits until the spill is empty and says so.
fn await_empty(serve: &Systole) {
    await_part(serve, "spill", true, "nothing waits");
    assert_eq!(metric(serve, "systole_spill_waiting_heartbeats"), 0);
    assert_eq!(metric(serve, "systole_spill_waiting_bytes"), 0);
}

fn metric(serve: &Systole, name: &str) -> u64 {
    serve.metrics().sum(name).unwrap_or_else(|| panic!("no metric {name}")) as u64
}

/// Everything that was answered 202 is published, once, and the books balance.
fn judge(world: &World) {
    world.await_drained(SOON);
    world.publish();
    world.audit();
    world.verify();
}

/// Threads that post, and fail at the first answer that is no 202.
struct Steady {
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Steady {
    fn start(client: &Client, threads: usize, beats: &Arc<Beats>) -> Self {
        let (stop, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |_| {
            let (client, beats, stop, kept) = (client.clone(), beats.clone(), stop.clone(), kept.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.must_keep(&beats.take(10));
                    kept.fetch_add(10, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..threads).map(start).collect();
        Self { stop, kept, threads }
    }

    fn await_kept(&self, more: u64) {
        let goal = self.kept.load(Ordering::Relaxed) + more;
        wait::until(&format!("{more} more heartbeats answered 202"), SOON, || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a producer was not answered 202");
            self.kept.load(Ordering::Relaxed) >= goal
        });
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.threads.into_iter().all(|thread| thread.join().is_ok()), "a producer was not answered 202");
    }
}

/// What stands where Redis was and, as one that still reads its file, answers LOADING to everything.
struct Loading {
    port: u16,
    /// How often somebody began to judge whether it is fit.
    looks: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Loading {
    fn at(port: u16) -> Self {
        let listener = wait::value("the port of Redis", SOON, || {
            TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())
        });
        let (looks, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (looks.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let (counter, end) = (counter.clone(), end.clone());
                std::thread::spawn(move || answer_loading(&connection, &counter, &end));
            }
        });
        Self { port, looks, ended, thread }
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.thread.join().unwrap();
    }
}

/// Reads commands as Redis does (`*n`, then n times `$length` and so many bytes) until the other side goes.
fn answer_loading(connection: &TcpStream, looks: &AtomicU64, ended: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let number = |reader: &mut BufReader<&TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.trim_end().get(1..)?.parse::<usize>().ok()
    };
    while !ended.load(Ordering::Relaxed) {
        for _ in 0..number(&mut reader)? {
            let length = number(&mut reader)?;
            let mut word = vec![0; length + 2];
            reader.read_exact(&mut word).ok()?;
            looks.fetch_add((word == b"INFO\r\n").into(), Ordering::Relaxed);
        }
        (&mut &*connection).write_all(b"-LOADING Redis is loading the dataset in memory\r\n").ok()?;
    }
    None
}

/// Redis goes away twice under load and comes back; no producer notices.
fn no_producer_notices(world: &mut World, leave: fn(&mut RedisServer), come_back: fn(&mut RedisServer)) {
    let (serve, _batch) = serve_and_batch(world);
    let steady = Steady::start(&world.client(&serve), 4, &Arc::new(Beats::new(50, 2)));
    for _ in 0..2 {
        steady.await_kept(500);
        leave(world.redis_mut());
        steady.await_kept(500);
        await_spilling(&serve, 300);
        come_back(world.redis_mut());
        await_empty(&serve);
    }
    steady.await_kept(300);
    steady.stop();
    serve.await_status("/health", 200, SOON);
    let spilled = metric(&serve, "systole_spill_heartbeats_total");
    assert!(spilled >= 600, "{spilled}");
    assert_eq!(metric(&serve, "systole_spill_injected_heartbeats_total"), spilled);
    judge(world);
}

#[test]
fn a_redis_that_dies_under_load_is_not_noticed_by_producers() {
    no_producer_notices(&mut World::on(Buffer::Redis), RedisServer::kill, RedisServer::restart);
}

#[test]
fn a_redis_that_hangs_under_load_is_not_noticed_by_producers() {
    no_producer_notices(&mut World::on(Buffer::Redis), |redis| redis.stop_process(), |redis| redis.cont());
}

#[test]
fn a_redis_that_still_loads_its_file_is_as_good_as_away() {
    let mut world = World::on(Buffer::Redis);
    let (serve, _batch) = serve_and_batch(&world);
    let steady = Steady::start(&world.client(&serve), 2, &Arc::new(Beats::new(50, 2)));
    world.redis_mut().kill();
    let loading = Loading::at(world.redis().port());
    wait::until("Redis to be looked at twice", SOON, || loading.looks.load(Ordering::Relaxed) >= 2);
    steady.await_kept(100);
    await_spilling(&serve, 100);
    loading.end();
    world.redis_mut().restart();
    steady.await_kept(100);
    steady.stop();
    await_empty(&serve);
    judge(&world);
}

#[test]
fn an_absence_is_seen_without_any_producer() {
    let mut world = World::on(Buffer::Redis);
    let (serve, _batch) = serve_and_batch(&world);
    world.redis_mut().kill();
    await_spilling(&serve, 0);
    world.redis_mut().restart();
    serve.await_status("/health", 200, SOON);
    assert_eq!(metric(&serve, "systole_spill_heartbeats_total"), 0);
}

#[test]
fn a_serve_killed_while_it_spills_goes_on_spilling_and_loses_nothing() {
    let mut world = World::on(Buffer::Redis);
    let (mut first, _batch) = serve_and_batch(&world);
    let beats = Beats::new(50, 2);
    world.redis_mut().kill();
    (0..10).for_each(|_| world.client(&first).must_keep(&beats.take(20)));
    first.sigkill();

    let second = serve(&world).start();
    second.await_status("/health/ready", 200, SOON);
    world.client(&second).must_keep(&beats.take(20));
    await_spilling(&second, 220);
    world.redis_mut().restart();
    await_empty(&second);
    second.await_status("/health", 200, SOON);
    judge(&world);
}

#[test]
fn a_serve_stopped_in_order_leaves_its_spill_to_the_next() {
    let mut world = World::on(Buffer::Redis);
    let (first, _batch) = serve_and_batch(&world);
    world.redis_mut().kill();
    world.client(&first).must_keep(&Beats::new(50, 2).take(200));
    first.stop();
    world.redis_mut().restart();
    let second = serve(&world).start();
    await_empty(&second);
    assert_eq!(metric(&second, "systole_spill_injected_heartbeats_total"), 200);
    judge(&world);
}

#[test]
fn a_serve_killed_anywhere_while_the_spill_goes_in_loses_and_doubles_nothing() {
    let points = failpoints::in_part("buffer/spill");
    assert!(points.contains("spill.pushed"), "{points:?}");
    let mut world = World::on(Buffer::Redis);
    let (mut serving, _batch) = serve_and_batch(&world);
    let beats = Beats::new(50, 2);
    for point in &points {
        world.redis_mut().kill();
        (0..5).for_each(|_| world.client(&serving).must_keep(&beats.take(40)));
        serving.sigkill();
        world.redis_mut().restart();
        // At the first partition, and once more in the middle of the others.
        for skip in [0, 1] {
            let mut dying = serve(&world).failpoints(&format!("{point}=kill+{skip}")).spawn();
            dying.await_killed(SOON);
        }
        serving = serve(&world).start();
        await_empty(&serving);
    }
    judge(&world);
}

#[test]
fn a_step_that_fails_while_the_spill_goes_in_is_tried_again() {
    let points = failpoints::in_part("buffer/spill");
    let errors: Vec<String> = points.iter().map(|point| format!("{point}=error+1*3")).collect();
    let mut world = World::on(Buffer::Redis);
    let _batch = world.batch().start();
    let serve = serve(&world).failpoints(&errors.join(";")).start();
    serve.await_status("/health", 200, SOON);
    world.redis_mut().kill();
    world.client(&serve).must_keep(&Beats::new(50, 2).take(200));
    world.redis_mut().restart();
    await_empty(&serve);
    judge(&world);
}

/// More posts than fill anything here.
const MANY: usize = 2_000;

/// Posts bulks until five in a row were refused, each with a 503 that says when to come again.
fn post_until_refused(client: &Client, beats: &Beats, bulk: usize) -> Answer {
    let mut refused = Vec::new();
    for _ in 0..MANY {
        let answer = client.post_all(&beats.take(bulk));
        match answer.status {
            202 => refused.clear(),
            503 => refused.push(answer),
            other => panic!("{other}: {}", answer.text),
        }
        if refused.len() == 5 {
            assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()));
            return refused.pop().unwrap();
        }
    }
    panic!("{MANY} bulks of {bulk} were taken");
}

#[test]
fn a_full_spill_is_503_and_takes_again_once_redis_is_back() {
    const BOUND: u64 = 64 * 1024;
    let mut world = World::on(Buffer::Redis);
    let _batch = world.batch().start();
    let serve = serve(&world).args([format!("--spill-max-bytes={BOUND}B")]).start();
    serve.await_status("/health", 200, SOON);
    let client = world.client(&serve);
    let beats = Beats::new(50, 2);
    world.redis_mut().kill();
    let refused = post_until_refused(&client, &beats, 20);
    assert!(refused.text.contains("buffer-full"), "{}", refused.text);
    let not_ready = serve.await_status("/health/ready", 503, SOON);
    assert!(not_ready.text.contains("the spill is full"), "{}", not_ready.text);
    await_part(&serve, "spill", false, "degraded: spilling, ");
    let held = metric(&serve, "systole_spill_waiting_bytes");
    assert!(held <= BOUND && held > BOUND * 8 / 10, "{held}");

    world.redis_mut().restart();
    await_empty(&serve);
    serve.await_status("/health", 200, SOON);
    client.must_keep(&beats.take(20));
    world.redis_mut().kill();
    client.must_keep(&beats.take(20));
    await_spilling(&serve, 20);
    world.redis_mut().restart();
    await_empty(&serve);
    judge(&world);
}

#[test]
fn a_redis_at_its_cap_is_503_and_never_a_spill() {
    let world = World::on(Buffer::Redis);
    world.register();
    let serve = serve(&world).args(["--buffer-max-heartbeats=400"]).start();
    serve.await_status("/health/ready", 200, SOON);
    let (client, beats) = (world.client(&serve), Beats::new(50, 2));
    post_until_refused(&client, &beats, 20);
    // One by one they are not asked about beforehand: the push itself is refused.
    post_until_refused(&client, &beats, 1);
    assert_eq!(metric(&serve, "systole_spill_heartbeats_total"), 0);
    let _batch = world.batch().start();
    judge(&world);
}

#[test]
fn a_redis_out_of_memory_is_503_and_never_a_spill() {
    let world = World::on_redis(RedisServer::with().maxmemory("3mb").start());
    world.register();
    let serve = serve(&world).start();
    serve.await_status("/health/ready", 200, SOON);
    let (client, beats) = (world.client(&serve), Beats::new(50, 2));
    wait::until("Redis to be full", SOON, || client.post_all(&beats.take(500)).status == 503);
    assert_eq!(metric(&serve, "systole_spill_heartbeats_total"), 0);
    assert_eq!(serve.get("/health/ready").unwrap().status, 200);
    let _batch = world.batch().start();
    world.await_drained(SOON);
    wait::until("room again", SOON, || client.post_all(&beats.take(20)).status == 202);
    judge(&world);
}

#[test]
fn a_redis_that_comes_back_full_keeps_the_spill_waiting_and_is_not_filled_with_the_same_again() {
    let mut world = World::on(Buffer::Redis);
    world.register();
    let serve = serve(&world).args(["--buffer-max-heartbeats=400"]).start();
    serve.await_status("/health/ready", 200, SOON);
    let (client, beats) = (world.client(&serve), Beats::new(50, 2));
    client.must_keep(&beats.take(200));
    world.redis_mut().kill();
    (0..60).for_each(|_| client.must_keep(&beats.take(10)));
    world.redis_mut().restart();
    let said = await_part(&serve, "spill", false, "is full");
    assert!(said.contains("waiting"), "{said}");
    // There the door is open, for whom there is room.
    assert_eq!(serve.get("/health/ready").unwrap().status, 200);

    let _batch = world.batch().start();
    await_empty(&serve);
    world.await_drained(SOON);
    assert_eq!(world.held("accepted"), 800, "each went in once");
    judge(&world);
}

#[test]
fn an_erased_redis_that_comes_back_gets_nothing_until_it_is_adopted() {
    let mut world = World::on(Buffer::Redis);
    let (serve, batch) = serve_and_batch(&world);
    let (client, beats) = (world.client(&serve), Beats::new(50, 2));
    client.must_keep(&beats.take(50));
    world.await_drained(SOON);
    world.redis_mut().kill();
    client.must_keep(&beats.take(50));
    await_spilling(&serve, 50);

    world.redis_mut().restart_empty();
    await_part(&serve, "spill", false, "not registered");
    serve.await_status("/health/ready", 503, SOON);
    let refused = client.post_all(&beats.take(10));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(metric(&serve, "systole_spill_waiting_heartbeats"), 50);
    assert_eq!(world.redis().cli(&["EXISTS", "systole:{p0}:pending", "systole:{p1}:pending"]), "0");

    drop(batch);
    world.books(&["adopt"]).run().expect_code(0);
    let _batch = world.batch().start();
    await_empty(&serve);
    serve.await_status("/health", 200, SOON);
    client.must_keep(&beats.take(10));
    world.await_drained(SOON);
    world.publish();
}

#[test]
fn a_redis_that_comes_back_forgetful_gets_nothing_until_it_is_mended() {
    let mut world = World::on(Buffer::Redis);
    let (serve, _batch) = serve_and_batch(&world);
    let client = world.client(&serve);
    let beats = Beats::new(50, 2);
    world.redis_mut().kill();
    client.must_keep(&beats.take(50));
    await_spilling(&serve, 50);

    // `serve` finds it changed already.
    serve.sigstop();
    world.redis_mut().restart();
    assert_eq!(world.redis().cli(&["CONFIG", "SET", "appendonly", "no"]), "OK");
    serve.cont();
    await_part(&serve, "spill", false, "`appendonly yes`");
    serve.await_status("/health/ready", 503, SOON);
    assert_eq!(client.post_all(&beats.take(5)).status, 503);
    assert_eq!(metric(&serve, "systole_spill_waiting_heartbeats"), 50);
    assert_eq!(world.held("accepted"), 0);

    world.redis().cli(&["CONFIG", "SET", "appendonly", "yes"]);
    await_empty(&serve);
    judge(&world);
}

#[test]
fn without_a_spill_dir_there_is_no_spill() {
    let mut world = World::on(Buffer::Redis);
    let (serve, _batch) = world.serve_and_batch();
    world.redis_mut().kill();
    assert_eq!(world.client(&serve).post_all(&Beats::new(5, 1).take(5)).status, 503);
    let health = serve.await_status("/health", 503, SOON);
    assert!(!health.text.contains("spill"), "{}", health.text);
    serve.await_status("/health/ready", 503, SOON);
}

#[test]
fn a_new_spill_takes_nothing_before_redis_was_seen_once() {
    let mut world = World::on(Buffer::Redis);
    world.register();
    world.redis_mut().kill();
    let serve = serve(&world).start();
    let (client, beats) = (world.client(&serve), Beats::new(50, 2));
    assert_eq!(client.post_all(&beats.take(5)).status, 503);
    serve.await_status("/health/ready", 503, SOON);

    world.redis_mut().restart();
    serve.await_status("/health/ready", 200, SOON);
    world.redis_mut().kill();
    client.must_keep(&beats.take(5));
    world.redis_mut().restart();
    let _batch = world.batch().start();
    await_empty(&serve);
    judge(&world);
}

#[test]
fn two_serves_on_one_spill_are_refused_in_one_line() {
    let world = World::on(Buffer::Redis);
    let (first, _batch) = serve_and_batch(&world);
    serve(&world).refused(3, &["spill-dir", &format!("process {}:", first.pid())]);
}

#[test]
fn a_spill_in_the_folder_of_a_dataset_is_refused_in_one_line() {
    let world = World::on(Buffer::Redis);
    world.register();
    for folder in ["", "buffer", "staging/deep/spill"] {
        let dir = format!("--spill-dir={}", world.dataset().join(folder).display());
        serve(&world).args([dir]).refused(2, &["spill-dir", "lies in the dataset in"]);
    }
    assert!(!world.dataset().join("buffer").exists());
}

#[test]
fn the_spill_of_another_dataset_is_refused_in_one_line() {
    let world = World::on(Buffer::Redis);
    drop(serve_and_batch(&world));
    let other = World::on(Buffer::Redis);
    other.register();
    serve(&other)
        .args([format!("--spill-dir={}", spill_dir(&world).display())])
        .refused(2, &["spill-dir", "another directory"]);
}

#[test]
fn a_spill_that_begins_too_late_is_refused_in_one_line() {
    let world = World::on(Buffer::Redis);
    serve(&world).args(["--spill-after=2s"]).refused(2, &["spill-after: 2s must be shorter than push-deadline"]);
}

/// How long a producer may wait at most for the first push into the spill: `spill-after`, and time to spare.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn only_the_first_push_waits_for_a_redis_that_hangs() {
    let world = World::on(Buffer::Redis);
    let (serve, _batch) = serve_and_batch(&world);
    let (client, beats) = (world.client(&serve), Beats::new(50, 2));
    world.redis().stop_process();
    let begun = std::time::Instant::now();
    client.must_keep(&beats.take(10));
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    (0..20).for_each(|_| client.must_keep(&beats.take(10)));
    // Twenty times the wait for Redis would be ten seconds.
    assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    world.redis().cont();
    await_empty(&serve);
    judge(&world);
}
