//! Outgrowing the machine: what waits in the embedded buffer of a killed `systole up` is moved into Redis by `systole drain`,
//! and everything that was answered 202 is published once, wherever the drain itself was killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use support::systole::Finished;
use support::{Beats, Buffer, Launch, Producers, RedisServer, SOON, World, failpoints, wait};

/// A collector whose `up` was killed with claims standing and heartbeats waiting.
struct Outgrown {
    world: World,
    beats: Arc<Beats>,
    accepted: u64,
}

impl Outgrown {
    fn new() -> Self {
        let (world, beats) = (World::on(Buffer::Redis), Arc::new(Beats::new(50, 2)));
        // No fragment can be written: the first claims stand, and what comes behind them waits.
        let mut up = world.up().failpoints("fragment.created=error").start();
        up.await_status("/health/ready", 200, SOON);
        let client = world.client(&up);
        client.must_keep(&beats.take(200));
        let ledger = |column: &str| {
            let of = |labels: &std::collections::BTreeMap<String, String>| labels["column"] == column;
            up.metrics().sum_where("systole_buffer_ledger_heartbeats", of).unwrap_or(0.0)
        };
        wait::until("standing claims", SOON, || ledger("claimed") > 0.0);
        (0..10).for_each(|_| client.must_keep(&beats.take(100)));
        wait::until("heartbeats behind them", SOON, || ledger("accepted") == 1_200.0 && ledger("pending") > 0.0);
        up.sigkill();
        Self { world, beats, accepted: 1_200 }
    }

    fn drain(&self) -> Launch {
        self.drain_to(self.world.redis())
    }

    fn drain_to(&self, redis: &RedisServer) -> Launch {
        let place = [format!("--buffer={}", redis.url()), format!("--data={}", self.world.dataset().display())];
        self.world.launch("drain").args(place).args(["--json"])
    }

    /// `up` cannot go on with it, and says in one line why.
    fn assert_up_refuses(&self, because: &str) {
        let Finished { stderr, .. } = self.world.up().run().expect_code(2);
        let said = stderr.lines().find(|line| line.starts_with("systole: ")).unwrap_or_default();
        assert!(said.contains(because), "{stderr}");
    }

    /// The parts apart go on with the same data: nothing that was accepted is missing or doubled.
    fn go_on(&self) {
        let (serve, batch) = self.world.serve_and_batch();
        let watch = self.world.watch().start();
        self.world.client(&serve).must_keep(&self.beats.take(50));
        self.world.await_published(2 * SOON);
        self.world.await_drained(SOON);
        [serve, batch, watch].into_iter().for_each(support::Systole::stop);
        self.world.audit();
        self.world.verify();
    }
}

#[test]
fn what_waited_in_the_embedded_buffer_is_published_by_the_parts_on_redis() {
    let outgrown = Outgrown::new();
    let moved = outgrown.drain().run().expect_code(0).json();
    assert_eq!(moved["heartbeats"], outgrown.accepted);
    assert_eq!(
        (&moved["partitions"], &moved["dead_letters"], &moved["already"]),
        (&4.into(), &0.into(), &false.into())
    );
    assert!(moved["claims"].as_u64().unwrap() > 0, "{moved}");
    assert_eq!(outgrown.world.held("accepted"), outgrown.accepted);

    outgrown.assert_up_refuses("belongs to a buffer in Redis");
    let again = outgrown.drain().run().expect_code(0).json();
    assert_eq!((&again["already"], &again["heartbeats"]), (&true.into(), &0.into()));
    std::fs::remove_dir_all(moved["folder"].as_str().unwrap()).unwrap();
    outgrown.go_on();
}

#[test]
fn a_kill_at_every_step_and_another_try_lose_and_double_nothing() {
    let mut steps: BTreeSet<String> = failpoints::in_part("buffer/drain");
    steps.extend(failpoints::in_part("app/drain"));
    assert!(steps.len() >= 7, "{steps:?}");
    let later = ["drain.page_copied+3", "drain.partition_finished+2", "drain.partition_finished+3"].map(String::from);
    for step in steps.into_iter().chain(later) {
        let outgrown = Outgrown::new();
        let (name, skip) = step.split_once('+').unwrap_or((&step, "0"));
        let killed = outgrown.drain().failpoints(&format!("{name}=kill+{skip}")).run();
        assert!(killed.was_killed(), "{step} was not reached: {}", killed.stderr);
        let over = step == "drain.recorded";
        outgrown.assert_up_refuses(if over { "belongs to a buffer in Redis" } else { "systole drain" });
        let moved = outgrown.drain().run().expect_code(0).json();
        assert_eq!(moved["already"], over, "{step}");
        outgrown.go_on();
    }
}

#[test]
fn what_runs_on_that_redis_already_waits_and_then_goes_on_by_itself() {
    let outgrown = Outgrown::new();
    let world = &outgrown.world;
    let (serve, batch, watch) = (world.serve().start(), world.batch().start(), world.watch().start());
    let health = batch.await_status("/health", 503, SOON);
    wait::until("the batcher to say what it waits for", SOON, || {
        batch.get("/health").is_some_and(|health| health.text.contains("systole drain"))
    });
    assert_eq!(serve.await_status("/health/ready", 503, SOON).status, health.status);
    let producers = Producers::start(vec![world.client(&serve)], outgrown.beats.clone(), 20);

    // All is in Redis, but the dataset does not know it yet: the door opens, the batcher still waits.
    let killed = outgrown.drain().failpoints("drain.compared=kill").run();
    assert!(killed.was_killed(), "{}", killed.stderr);
    producers.await_kept(200, SOON);
    assert_eq!(world.held("acked"), 0);
    let moved = outgrown.drain().run().expect_code(0).json();
    assert_eq!(moved["heartbeats"], outgrown.accepted);
    producers.await_kept(200, SOON);
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    [serve, batch, watch].into_iter().for_each(support::Systole::stop);
    world.audit();
}

#[test]
fn what_cannot_be_moved_is_said_in_one_line_and_left_as_it_was() {
    let refused = |launch: Launch, code: i32, words: &[&str]| {
        let stderr = launch.run().expect_code(code).stderr;
        let said: Vec<&str> = stderr.lines().filter(|line| line.starts_with("systole: ")).collect();
        assert!(said.len() == 1 && words.iter().all(|word| said[0].contains(word)), "{words:?}: {stderr}");
    };
    let mut outgrown = Outgrown::new();
    let data = format!("--data={}", outgrown.world.dataset().display());
    refused(outgrown.world.launch("drain").args([data]), 2, &["--buffer"]);

    let foreign = World::on(Buffer::Redis);
    foreign.register();
    refused(outgrown.drain_to(foreign.redis()), 2, &["belongs to dataset"]);
    refused(foreign.launch("adopt").args(adopt(&outgrown.world)), 2, &["systole drain"]);
    let forgetful = RedisServer::with().appendonly("no").start();
    refused(outgrown.drain_to(&forgetful), 2, &["appendonly yes"]);
    outgrown.world.redis_mut().kill();
    refused(outgrown.drain(), 3, &["out of reach", "run `systole drain` again"]);
    outgrown.world.redis_mut().restart();

    // None of that has touched it.
    let up = outgrown.world.up().failpoints("fragment.created=error").start();
    up.await_status("/health/ready", 200, SOON);
    refused(outgrown.drain(), 3, &["in use by process", &up.pid().to_string()]);
    up.stop();

    outgrown.world.redis().cli(&["CONFIG", "SET", "maxmemory", "1"]);
    refused(outgrown.drain(), 3, &["maxmemory", "run `systole drain` again"]);
    outgrown.assert_up_refuses("systole drain");
    outgrown.world.redis().cli(&["CONFIG", "SET", "maxmemory", "0"]);
    outgrown.drain().run().expect_code(0);
    outgrown.go_on();
}

/// The flags of an `adopt` of this world's dataset.
fn adopt(world: &World) -> [String; 2] {
    [format!("--buffer={}", world.redis().url()), format!("--data={}", world.dataset().display())]
}
