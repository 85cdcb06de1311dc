//! `systole up` as a command: how it begins, what it refuses and how it says so, how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::net::TcpListener;
use std::sync::Arc;

use support::{Beat, Beats, Buffer, Producers, RedisServer, SOON, World, wait};

/// A world whose dataset belongs to its embedded buffer, with some heartbeats published and nothing running.
fn settled() -> World {
    let world = World::on(Buffer::Embedded);
    let mut collector = world.collector().start();
    collector.client().must_keep(&Beats::new(10, 1).take(20));
    world.await_published(SOON);
    world.await_drained(SOON);
    collector.stop();
    drop(collector);
    world
}

#[test]
fn a_newcomer_is_told_where_it_listens_where_the_data_is_what_to_try_and_how_to_stop() {
    let world = World::on(Buffer::Embedded);
    // Without a command, and with the settings that users have.
    let data = format!("--data={}", world.dataset().display());
    let mut up = world.launch("").args(["--listen=127.0.0.1:0".to_owned(), data]).start();
    let wanted =
        [format!("curl -i {}/v1/heartbeats", up.url()), world.dataset().display().to_string(), "Ctrl-C".into()];
    wait::value("the welcome", SOON, || {
        let said = up.said();
        wanted
            .iter()
            .find(|words| !said.contains(*words))
            .map_or(Ok(()), |words| Err(format!("no `{words}` in {said}")))
    });
    up.await_status("/health", 200, SOON);
    world.client(&up).must_keep(&[Beat::of("ada", "laptop")]);
    // With default settings, too, the first row is there within seconds.
    world.await_published(SOON);
    up.interrupt();
    assert!(up.wait_exit(SOON).success());
}

#[test]
fn a_second_one_on_the_same_folder_is_told_who_was_first() {
    let world = World::on(Buffer::Embedded);
    let collector = world.collector().start();
    let first = format!("process {}", collector.door().pid());
    world.up().refused(3, &[&first, "in use"]);
    // Which harms the first in nothing.
    collector.client().must_keep(&Beats::new(10, 1).take(20));
    world.await_published(SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn a_dataset_that_belongs_to_redis_is_refused_and_left_alone() {
    let world = World::on(Buffer::Redis);
    world.register();
    let mut collector = world.collector().without_batcher().start();
    collector.client().must_keep(&Beats::new(10, 1).take(20));
    world.up().refused(2, &["Redis", "systole serve"]);
    assert!(!world.dataset().join("buffer").exists());
    collector.start_batcher();
    world.await_published(SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn a_buffer_that_is_gone_is_an_alarm_and_never_a_fresh_start() {
    let world = settled();
    let buffer = world.dataset().join("buffer");
    let kept = world.dataset().join("elsewhere");
    std::fs::rename(&buffer, &kept).unwrap();
    for _ in 0..2 {
        world.up().refused(2, &["buffer", "gone", "systole adopt"]);
    }
    // One that is empty is no better.
    let store = kept.join("store");
    std::fs::create_dir(&buffer).unwrap();
    for _ in 0..2 {
        world.up().refused(2, &["systole adopt"]);
    }
    std::fs::remove_dir_all(&buffer).unwrap();

    // Put back, it goes on where it was.
    assert!(store.is_dir());
    std::fs::rename(&kept, &buffer).unwrap();
    let collector = world.collector().start();
    collector.client().must_keep(&Beats::new(10, 1).named("later").take(20));
    world.await_published(SOON);
    world.await_drained(SOON);
    assert_eq!(world.held("accepted"), 40);
    world.audit();
}

#[test]
fn a_buffer_that_goes_while_it_runs_is_503_and_never_202() {
    let world = World::on(Buffer::Embedded);
    let collector = world.collector().start();
    let (client, beats) = (collector.client(), Beats::new(10, 1));
    client.must_keep(&beats.take(20));
    world.await_published(SOON);
    std::fs::rename(world.dataset().join("buffer"), world.dataset().join("elsewhere")).unwrap();
    let refused = client.post(&beats.next());
    assert_eq!(refused.status, 503, "{}", refused.text);
    collector.door().await_status("/health/ready", 503, SOON);
    std::fs::rename(world.dataset().join("elsewhere"), world.dataset().join("buffer")).unwrap();
    collector.await_ready();
    client.must_keep(&beats.take(20));
    world.await_published(SOON);
}

#[test]
fn a_batcher_of_redis_waits_before_a_dataset_of_the_embedded_buffer_and_says_so() {
    let world = settled();
    let redis = RedisServer::start();
    let place = [
        "--listen=127.0.0.1:0".to_owned(),
        format!("--buffer={}", redis.url()),
        format!("--data={}", world.dataset().display()),
    ];
    let batch = world.launch("batch").args(place).start();
    let unwell = batch.await_status("/health", 503, SOON);
    wait::until("it to be said", SOON, || {
        batch.get("/health").is_some_and(|answer| answer.text.contains("belongs to its embedded buffer"))
    });
    assert_eq!(batch.get("/health/live").unwrap().status, 200, "{}", unwell.text);
    assert_eq!(redis.cli(&["KEYS", "*"]), "", "it has registered a Redis");
    // The owner is not held up by that.
    let collector = world.collector().start();
    collector.client().must_keep(&Beats::new(10, 1).named("later").take(20));
    world.await_published(SOON);
    batch.stop();
}

#[test]
fn what_is_wrong_is_named_in_one_line() {
    let world = World::on(Buffer::Embedded);
    let up = || world.launch("up");
    up().args(["--nonsense"]).refused(2, &["--nonsense", "--help"]);
    world.launch("").args(["--nonsense"]).refused(2, &["--nonsense", "--help"]);
    up().args(["--buffer=redis://127.0.0.1:6379"]).refused(2, &["--buffer"]);
    up().args(["--listen=8080"]).refused(2, &["--listen", "8080", "ADDR:PORT"]);
    up().args(["--max-delay=20s"]).refused(2, &["max-delay", "drain-lag", "20s"]);
    up().args(["--min-free=1GiB"]).refused(2, &["buffer-min-free", "min-free"]);
    up().env("SYSTOLE_BUFFER_MIN_FREE", "much").refused(2, &["--buffer-min-free", "much"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    world.up().args([format!("--listen={}", taken.local_addr().unwrap())]).refused(3, &["cannot listen on"]);
    let file = world.dataset().parent().unwrap().join("file");
    std::fs::write(&file, "in the way").unwrap();
    world.up().args([format!("--data={}", file.display())]).refused(3, &["file"]);
    world.up().args([format!("--data={}", file.join("data").display())]).refused(3, &["file"]);
    // A port that was taken leaves a dataset behind that can be used.
    drop(world.collector().start());
}

#[test]
fn it_ends_in_order_under_load_and_goes_on_when_started_again() {
    let world = World::on(Buffer::Embedded);
    let mut collector = world.collector().start();
    let load = Producers::start(vec![collector.client(); 4], Arc::new(Beats::new(50, 2)), 20);
    for _ in 0..4 {
        load.await_kept(200, SOON);
        collector.stop();
        collector.resume();
    }
    load.stop();
    world.await_published(SOON);
    world.await_drained(SOON);
    world.verify();
    world.audit();
}
