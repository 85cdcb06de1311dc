//! Rules about silence: each silence is told once, each end of one is told once, and nothing false is told at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::fake_clock::FakeClock;
use support::proxy::{Proxy, Weather};
use support::tls::Authority;
use support::{Beat, Buffer, Collector, Delivery, Receiver, SOON, Systole, World, on_every_buffer, wait};
use tempfile::TempDir;

/// The rules' `after`.
const AFTER: Duration = Duration::from_secs(2);
/// What a second watcher waits for, when the first has died: three looks and three seconds.
const TAKEN_OVER: Duration = Duration::from_secs(20);
/// When a server without rules takes back what others have left: four times three looks and three seconds, and more.
const TAKEN_BACK: Duration = Duration::from_secs(20);
/// In which nothing that was to come would fail to come.
const QUIET: Duration = Duration::from_millis(1_500);
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

on_every_buffer!(
    a_silence_is_told_once_and_its_end_once,
    who_dies_before_marking_leaves_the_event_to_the_next,
    who_dies_after_marking_leaves_the_event_to_be_delivered_by_the_next,
    who_dies_before_settling_has_the_same_event_delivered_again,
    who_falls_silent_just_when_the_buffer_fails_is_told_later,
    late_heartbeats_tell_nothing,
    time_in_which_the_collector_was_down_counts_for_nobody,
    a_webhook_that_answers_500_is_asked_again_and_a_redirect_is_not_followed,
    the_last_rule_takes_back_what_it_raised_and_is_a_new_one_when_it_returns,
);

/// A file of settings with one rule for each pattern, all of them to this receiver.
struct Rules {
    folder: TempDir,
}

impl Rules {
    fn new(receiver: &Receiver, patterns: &[&str]) -> Self {
        let rules = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(rules.folder.path().join("key"), format!("{KEY}\n")).unwrap();
        rules.write(&patterns.iter().map(|pattern| (*pattern, receiver)).collect::<Vec<_>>());
        rules
    }

    fn write(&self, rules: &[(&str, &Receiver)]) {
        let key = self.folder.path().join("key");
        let rule = |(pattern, receiver): &(&str, &Receiver)| {
            let url = receiver.url("/hook?secret=s3cret");
            format!(
                "[[silence]]\nmatch = {pattern:?}\nafter = \"{}s\"\nwebhook = {url:?}\nsecret-file = {key:?}\nname = \"about {pattern}\"\n",
                AFTER.as_secs()
            )
        };
        std::fs::write(self.file(), rules.iter().map(rule).collect::<String>()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("systole.toml")
    }

    fn flags(&self) -> [String; 2] {
        [format!("--config={}", self.file().display()), "--silence-every=200ms".to_owned()]
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn watched<'w>(world: &'w World, rules: &Rules) -> Collector<'w> {
    world.collector().door_args(rules.flags()).without_batcher().without_compactor().start()
}

/// Whether the process that has the door watches, too.
fn await_watch(door: &Systole) {
    wait::until("the watch", TAKEN_OVER, || door.metrics().sum("systole_silence_watching") == Some(1.0));
}

fn devices(deliveries: &[Delivery]) -> Vec<(String, String)> {
    let name = |delivery: &Delivery| delivery.event()["device_id"].as_str().unwrap().to_owned();
    deliveries.iter().map(|delivery| (delivery.kind(), name(delivery))).collect()
}

fn told(kind: &str, device: &str) -> (String, String) {
    (format!("device.{kind}"), device.to_owned())
}

/// Sends a heartbeat of now for each of these devices, again and again, for so long.
fn keep_beating(collector: &Collector<'_>, user: &str, devices: &[&str], span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        let beats: Vec<Beat> = devices.iter().map(|device| Beat::of(user, device)).collect();
        collector.client().must_keep(&beats);
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn a_silence_is_told_once_and_its_end_once(buffer: Buffer) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    let rules = Rules::new(&receiver, &["fleet-*"]);
    let collector = watched(&world, &rules);
    await_watch(collector.door());
    let last = now_ms();
    collector.client().must_keep(&[
        Beat::of("fleet-7", "dies"),
        Beat::of("fleet-7", "lives"),
        Beat::of("other", "dies"),
    ]);
    keep_beating(&collector, "fleet-7", &["lives"], AFTER + QUIET + QUIET);
    let came = receiver.await_deliveries(1, SOON);
    assert_eq!(devices(&came), [told("silent", "dies")]);
    let event = came[0].event();
    assert_eq!((event["rule"].as_str(), event["user_id"].as_str()), (Some("about fleet-*"), Some("fleet-7")));
    let (seen, raised) = (event["last_seen"].as_i64().unwrap(), event["raised_at"].as_i64().unwrap());
    assert!((last..last + 2_000).contains(&seen) && raised - seen >= 2_000 && raised - seen < 15_000, "{event}");
    assert_eq!(collector.door().metrics().sum("systole_silence_raised"), Some(1.0));

    collector.client().must_keep(&[Beat::of("fleet-7", "dies")]);
    let came = receiver.await_deliveries(2, SOON);
    assert_eq!(devices(&came), [told("silent", "dies"), told("beating", "dies")]);
    assert_eq!(came[1].event()["ends"], event["id"]);
    assert_ne!(came[1].event()["id"], event["id"]);
    keep_beating(&collector, "fleet-7", &["lives", "dies"], QUIET);
    assert_eq!(receiver.deliveries().len(), 2);
    let metrics = collector.door().metrics();
    let count = |name: &str, label: &str, value: &str| {
        metrics.sum_where(name, |labels| labels.get(label).is_some_and(|found| found == value))
    };
    assert_eq!(count("systole_silence_events_total", "kind", "silent"), Some(1.0));
    assert_eq!(count("systole_silence_events_total", "kind", "beating"), Some(1.0));
    assert_eq!(count("systole_webhook_deliveries_total", "outcome", "delivered"), Some(2.0));
    assert!(collector.door().part("silence").0);
    let log = collector.door().log().join("\n");
    assert!(log.contains("a device has fallen silent") && log.contains("about fleet-*"), "{log}");
    assert!(!log.contains("s3cret") && !log.contains("fleet-7"), "{log}");
}

fn who_dies_before_marking_leaves_the_event_to_the_next(buffer: Buffer) {
    dies_at("silence.marking", buffer, 0);
}

fn who_dies_after_marking_leaves_the_event_to_be_delivered_by_the_next(buffer: Buffer) {
    dies_at("silence.marked", buffer, 0);
}

fn who_dies_before_settling_has_the_same_event_delivered_again(buffer: Buffer) {
    dies_at("silence.delivered", buffer, 1);
}

/// The watcher dies at this step, with so many deliveries made; then there is one more, and all are of one event.
fn dies_at(step: &str, buffer: Buffer, before: usize) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    // The buffer's dataset is made by another process.
    world.collector().without_batcher().without_compactor().start().kill();
    let door = || match buffer {
        Buffer::Redis => world.serve().args(rules.flags()),
        Buffer::Embedded => world.up().args(rules.flags()),
    };
    let mut dying = door().failpoints(&format!("{step}=kill")).start();
    dying.await_status("/health/ready", 200, SOON);
    await_watch(&dying);
    world.client(&dying).must_keep(&[Beat::of("ada", "dies")]);
    dying.await_killed(SOON);
    assert_eq!(receiver.deliveries().len(), before);

    let next = door().start();
    let came = receiver.await_deliveries(before + 1, TAKEN_OVER + AFTER);
    wait::holds_for("nothing more comes", QUIET, || {
        let count = receiver.deliveries().len();
        if count == before + 1 { Ok(()) } else { Err(format!("{count} came")) }
    });
    let ids: BTreeSet<String> = came.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "{came:?}");
    assert!(came.iter().all(|one| one.kind() == "device.silent" && one.event()["id"] == one.header("webhook-id")));
    next.stop();
}

fn who_falls_silent_just_when_the_buffer_fails_is_told_later(buffer: Buffer) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let collector = world.collector().door_args(rules.flags()).without_batcher().without_compactor();
    let collector = collector.failpoints("silence.marking=error*1").start();
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let came = receiver.await_deliveries(1, SOON);
    assert_eq!(devices(&came), [told("silent", "dies")]);
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let came = receiver.await_deliveries(2, SOON);
    assert_eq!(devices(&came), [told("silent", "dies"), told("beating", "dies")]);
}

fn late_heartbeats_tell_nothing(buffer: Buffer) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let collector = watched(&world, &rules);
    await_watch(collector.door());
    let day = 86_400_000;
    let late: Vec<Beat> = (0..40)
        .map(|n| {
            // Three days, an hour, and such as have just become too late for the rule.
            let ages = [3 * day, day / 24, 2_050 + 150 * n, 60_000];
            Beat::at("ada", &format!("late-{n}"), now_ms() - ages[usize::try_from(n).unwrap() % 4])
        })
        .collect();
    collector.client().must_keep(&late);
    // One that does fall silent shows that somebody looked.
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let came = receiver.await_deliveries(1, SOON);
    assert_eq!(devices(&came), [told("silent", "dies")]);
    // Nor do they tell that it beats again.
    collector.client().must_keep(&[Beat::at("ada", "dies", now_ms() - 10 * 2_000)]);
    wait::holds_for("nothing more is told", AFTER + QUIET, || {
        let all = devices(&receiver.deliveries());
        if all.len() == 1 { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

fn time_in_which_the_collector_was_down_counts_for_nobody(buffer: Buffer) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let mut collector = watched(&world, &rules);
    await_watch(collector.door());
    keep_beating(&collector, "ada", &["lives", "dies"], 2 * QUIET / 3);
    collector.kill();
    std::thread::sleep(AFTER + QUIET);
    collector.resume();
    await_watch(collector.door());
    // They have `after` again, from when somebody watches: one of them comes back within it.
    keep_beating(&collector, "ada", &["lives"], AFTER + QUIET);
    let came = receiver.await_deliveries(1, SOON);
    assert_eq!(devices(&came), [told("silent", "dies")]);
}

fn a_webhook_that_answers_500_is_asked_again_and_a_redirect_is_not_followed(buffer: Buffer) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    // Such as one that clients follow by a GET.
    receiver.answer(&[500, 302]);
    let rules = Rules::new(&receiver, &["*"]);
    let collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    receiver.await_deliveries(1, SOON);
    wait::until("health to name the rule", SOON, || {
        let (ok, detail) = collector.door().part("silence");
        !ok && detail.contains("about *") && detail.contains("localhost") && detail.contains("500")
    });
    assert_eq!(collector.door().get("/health/ready").unwrap().status, 200);
    let came = receiver.await_deliveries(3, SOON);
    assert_eq!(came.iter().map(|one| one.status).collect::<Vec<_>>(), [500, 302, 204]);
    assert!(came.iter().all(|one| one.line.starts_with("POST /hook?secret=s3cret ")), "{came:?}");
    assert!(
        came.iter().all(|one| one.text == came[0].text && one.header("webhook-id") == came[0].header("webhook-id"))
    );
    wait::until("health to be well", SOON, || collector.door().part("silence").0);
    let log = collector.door().log().join("\n");
    assert!(!log.contains("s3cret") && !log.contains("/hook"), "{log}");
}

#[test]
fn two_servers_tell_each_silence_once_and_the_other_takes_over() {
    let (world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let batch = world.batch().start();
    let mut servers: Vec<Systole> = (0..2).map(|_| world.serve().args(rules.flags()).start()).collect();
    servers.iter().for_each(|server| drop(server.await_status("/health/ready", 200, SOON)));
    let watching = |servers: &[Systole]| {
        let watches = |server: &Systole| server.metrics().sum("systole_silence_watching") == Some(1.0);
        servers.iter().map(watches).collect::<Vec<_>>()
    };
    wait::until("one of them to watch", SOON, || watching(&servers).contains(&true));
    world.client(&servers[0]).must_keep(&[Beat::of("ada", "a"), Beat::of("bob", "b")]);
    let mut came = devices(&receiver.await_deliveries(2, SOON));
    came.sort();
    assert_eq!(came, [told("silent", "a"), told("silent", "b")]);
    let at = watching(&servers).iter().position(|watches| *watches).unwrap();
    assert_eq!(watching(&servers).iter().filter(|watches| **watches).count(), 1);
    servers.remove(at).sigkill();
    world.client(&servers[0]).must_keep(&[Beat::of("ada", "a")]);
    wait::until("the other to watch", TAKEN_OVER, || watching(&servers) == [true]);
    world.client(&servers[0]).must_keep(&[Beat::of("ada", "a")]);
    let came = devices(&receiver.await_deliveries(3, SOON));
    assert_eq!(came[2], told("beating", "a"));
    let came = devices(&receiver.await_deliveries(4, SOON));
    assert_eq!(came[3], told("silent", "a"));
    assert_eq!(receiver.deliveries().len(), 4);
    servers.remove(0).stop();
    batch.stop();
}

#[test]
fn time_in_which_redis_was_away_counts_for_nobody() {
    let (mut world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    world.register();
    let serve = world.serve().args(rules.flags()).start();
    serve.await_status("/health/ready", 200, SOON);
    await_watch(&serve);
    let client = world.client(&serve);
    client.must_keep(&[Beat::of("ada", "lives"), Beat::of("ada", "dies")]);
    world.redis_mut().kill();
    std::thread::sleep(AFTER + QUIET);
    world.redis_mut().restart();
    serve.await_status("/health/ready", 200, SOON);
    await_watch(&serve);
    let end = Instant::now() + AFTER + QUIET;
    while Instant::now() < end {
        client.must_keep(&[Beat::of("ada", "lives")]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(devices(&receiver.await_deliveries(1, SOON)), [told("silent", "dies")]);
    serve.stop();
}

#[test]
fn while_the_clock_of_the_door_is_off_that_of_redis_nobody_falls_silent_and_health_says_why() {
    let Some(clock) = FakeClock::new() else { return };
    let (world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    world.register();
    let serve = clock.lead(world.serve().args(rules.flags())).start();
    serve.await_status("/health/ready", 200, SOON);
    await_watch(&serve);
    let client = world.client(&serve);
    let keep_beating = |span: Duration| {
        let end = Instant::now() + span;
        while Instant::now() < end {
            client.must_keep(&[Beat::of("ada", "lives")]);
            std::thread::sleep(AFTER / 3);
        }
    };
    client.must_keep(&[Beat::of("ada", "lives"), Beat::of("ada", "dies")]);
    for (offset, words) in [("-1.7", "behind"), ("-3600", "3600."), ("+1800", "1800.")] {
        clock.set(offset);
        wait::until("health to say how far the clock is off", SOON, || {
            let (ok, detail) = serve.part("silence");
            !ok && detail.contains(words) && detail.contains("NTP")
        });
        // Between two of its beats who lives is older than `after`, by the first of these clocks.
        keep_beating(2 * AFTER);
        assert_eq!(devices(&receiver.deliveries()), [], "{offset}");
    }
    let skew = serve.metrics().sum("systole_silence_clock_skew_seconds").unwrap();
    assert!((1_700.0..=1_801.0).contains(&skew), "{skew}");
    clock.set("+0");
    wait::until("health to be well", SOON, || serve.part("silence").0);
    keep_beating(AFTER + QUIET);
    assert_eq!(devices(&receiver.await_deliveries(1, SOON)), [told("silent", "dies")]);
    let said = serve.log().iter().filter(|line| line.contains("the clock of this machine")).count();
    assert_eq!(said, 2, "once each way: {:?}", serve.log());
    serve.stop();
}

#[test]
fn a_door_that_does_not_watch_tells_of_its_own_clock() {
    let Some(clock) = FakeClock::new() else { return };
    let (world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    world.register();
    let right = world.serve().args(rules.flags()).start();
    await_watch(&right);
    clock.set("-3600");
    let wrong = clock.lead(world.serve().args(rules.flags())).start();
    wait::until("health to say that the clock is off", SOON, || {
        let (ok, detail) = wrong.part("silence");
        !ok && detail.contains("another process watches") && detail.contains("behind")
    });
    assert!(right.part("silence").0);
    clock.set("+0");
    wait::until("health to be well", SOON, || wrong.part("silence").0);
}

#[test]
fn while_the_buffer_is_full_nobody_falls_silent() {
    let (world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    world.register();
    // One heartbeat for each partition.
    let serve = world.serve().args(rules.flags()).args(["--buffer-max-heartbeats=16"]).start();
    serve.await_status("/health/ready", 200, SOON);
    await_watch(&serve);
    let client = world.client(&serve);
    wait::value("a full partition", SOON, || match client.post(&Beat::of("ada", "device")).status {
        503 => Ok(()),
        status => Err(status.to_string()),
    });
    wait::holds_for("nothing is told", 2 * AFTER, || {
        assert_eq!(client.post(&Beat::of("ada", "device")).status, 503);
        std::thread::sleep(Duration::from_millis(200));
        let all = devices(&receiver.deliveries());
        if all.is_empty() { Ok(()) } else { Err(format!("{all:?}")) }
    });
    // Once nobody is refused any more, who does not beat is silent.
    assert_eq!(devices(&receiver.await_deliveries(1, SOON)), [told("silent", "device")]);
    serve.stop();
}

#[test]
fn a_rule_that_is_gone_tells_nothing_more_of_what_it_raised() {
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    let rules = Rules::new(&receiver, &["ada"]);
    let mut collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    receiver.await_deliveries(1, SOON);
    wait::until("the delivery to be settled", SOON, || {
        collector.door().metrics().sum("systole_silence_outbox_events") == Some(0.0)
    });
    collector.kill();
    rules.write(&[("bob", &receiver)]);
    collector.resume();
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies"), Beat::of("bob", "dies")]);
    let came = receiver.await_deliveries(2, SOON);
    assert_eq!(came[1].event()["rule"], "about bob");
    let log = collector.door().log();
    let said = log.iter().filter(|line| line.contains("rules that are no more")).count();
    assert_eq!(said, 1, "{log:?}");
}

fn the_last_rule_takes_back_what_it_raised_and_is_a_new_one_when_it_returns(buffer: Buffer) {
    let (world, receiver) = (World::on(buffer), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let mut collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let first = receiver.await_deliveries(1, SOON);
    wait::until("the delivery to be settled", SOON, || {
        collector.door().metrics().sum("systole_silence_outbox_events") == Some(0.0)
    });
    collector.kill();
    rules.write(&[]);
    collector.resume();
    // Another process might have the rules, and be on its way back: on Redis that is waited for.
    wait::until("what was raised to be taken back", TAKEN_BACK, || {
        collector.door().log().iter().any(|line| line.contains("rules that are no more"))
    });
    collector.client().must_keep(&[Beat::of("ada", "unwatched")]);
    std::thread::sleep(AFTER + QUIET);
    collector.kill();
    rules.write(&[("*", &receiver)]);
    collector.resume();
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let came = receiver.await_deliveries(2, SOON);
    assert_eq!(devices(&came), [told("silent", "dies"), told("silent", "dies")], "no end of what was taken back");
    assert_ne!(came[1].event()["id"], first[0].event()["id"]);
    assert_eq!(devices(&receiver.deliveries()).len(), 2, "nor what was silent before the rule came back");
}

#[test]
fn what_is_left_of_a_rule_that_is_no_more_is_given_up_in_few_steps_and_few_words() {
    const EVENTS: usize = 300;
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    receiver.answer(&[500; 2 * EVENTS]);
    let rules = Rules::new(&receiver, &["ada"]);
    let mut collector = watched(&world, &rules);
    await_watch(collector.door());
    let many: Vec<Beat> = (0..EVENTS).map(|n| Beat::of("ada", &format!("dies {n}"))).collect();
    collector.client().must_keep(&many);
    wait::until("the events to wait", SOON, || {
        collector.door().metrics().sum("systole_silence_outbox_events") == Some(EVENTS as f64)
    });
    collector.kill();
    rules.write(&[("bob", &receiver)]);
    collector.resume();
    wait::until("the events to be given up", SOON, || {
        collector.door().metrics().sum_where("systole_webhook_deliveries_total", |labels| {
            labels.get("outcome").is_some_and(|outcome| outcome == "given_up")
        }) == Some(EVENTS as f64)
    });
    wait::until("none to wait", SOON, || collector.door().metrics().sum("systole_silence_outbox_events") == Some(0.0));
    let log = collector.door().log();
    let said = log.iter().filter(|line| line.contains("given up")).count();
    assert!((1..50).contains(&said), "{said} lines");
}

#[test]
fn looks_that_take_longer_than_their_pause_tell_all_the_same() {
    let (world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["z*"]);
    let text = std::fs::read_to_string(rules.file()).unwrap();
    // Each `after` of its own is looked for in each of four partitions, far away: five seconds for a look, where a pause of more
    // than three breaks the watch.
    let many = (0..60).map(|n| {
        let rule = text.replace("match = \"z*\"", "match = \"nobody\"").replace("about z*", &format!("of nobody {n}"));
        rule.replace("\"2s\"", &format!("\"{}s\"", 10 + n))
    });
    let all: String = many.chain([text.replace("\"2s\"", "\"9s\"")]).collect();
    std::fs::write(rules.file(), all).unwrap();
    world.register();
    let proxy = Proxy::to(world.redis().port(), "");
    let serve = world.serve().args(rules.flags()).args([format!("--buffer={}", proxy.url())]).start();
    serve.await_status("/health/ready", 200, SOON);
    await_watch(&serve);
    proxy.set(Weather::Far);
    world.client(&serve).must_keep(&[Beat::of("zoe", "dies")]);
    let came = receiver.await_deliveries(1, Duration::from_secs(60));
    assert_eq!(devices(&came), [told("silent", "dies")]);
    serve.stop();
}

#[test]
fn a_server_without_rules_leaves_those_of_another_alone() {
    let (world, receiver) = (World::on(Buffer::Redis), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    world.register();
    let mut with_rules = world.serve().args(rules.flags()).start();
    with_rules.await_status("/health/ready", 200, SOON);
    await_watch(&with_rules);
    let without = world.serve().args(["--silence-every=200ms"]).start();
    world.client(&with_rules).must_keep(&[Beat::of("ada", "dies")]);
    receiver.await_deliveries(1, SOON);
    wait::holds_for("the watch goes on", TAKEN_BACK, || {
        let metrics = with_rules.metrics();
        let sums = ["systole_silence_watching", "systole_silence_raised"].map(|name| metrics.sum(name));
        if sums == [Some(1.0); 2] { Ok(()) } else { Err(format!("{sums:?}")) }
    });
    // Nor once it is gone for a moment.
    with_rules.sigkill();
    let again = world.serve().args(rules.flags()).start();
    await_watch(&again);
    world.client(&again).must_keep(&[Beat::of("ada", "dies")]);
    let came = receiver.await_deliveries(2, SOON);
    assert_eq!(devices(&came)[..2], [told("silent", "dies"), told("beating", "dies")]);
    again.stop();
    without.stop();
}

#[test]
fn whom_the_byte_budget_turns_away_does_not_fall_silent() {
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    // Room for three bodies of 750 kB, and no fourth.
    let small = ["--max-body=1000000B", "--max-inflated-body=1000000B", "--max-bulk=100", "--byte-budget=2500000B"];
    let others = ["--trusted-proxies=127.0.0.1/32", "--body-deadline=60s"];
    let up = world.up().args(rules.flags()).args(small).args(others).start();
    up.await_status("/health/ready", 200, SOON);
    await_watch(&up);
    let client = world.client(&up);
    client.must_keep(&[Beat::of("ada", "beats")]);
    let slow: Vec<TcpStream> = (1..=3).map(|n| begin_a_long_body(up.address(), n)).collect();
    // A beat on its way could take the room of one of them, which would be turned away then.
    wait::until("the long bodies to be there", SOON, || {
        up.metrics().sum("systole_http_byte_budget_used_bytes") >= Some(2_100_000.0)
    });
    let beat = || {
        let beat = Beat::of("ada", "beats").json().to_string();
        client.post_raw("application/json", beat + &" ".repeat(600_000)).status
    };
    wait::holds_for("nothing is told", 2 * AFTER, || {
        assert_eq!(beat(), 503);
        std::thread::sleep(Duration::from_millis(200));
        let all = devices(&receiver.deliveries());
        if all.is_empty() { Ok(()) } else { Err(format!("{all:?}")) }
    });
    drop(slow);
    // Once nobody is refused any more, who does not beat is silent.
    assert_eq!(devices(&receiver.await_deliveries(1, SOON)), [told("silent", "beats")]);
    up.stop();
}

/// Sends 700 kB of a body of 750 kB, as from a client of its own.
fn begin_a_long_body(address: &str, client: u8) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/heartbeats HTTP/1.1\r\nHost: systole\r\nX-Forwarded-For: 192.0.2.{client}\r\n\
         Content-Type: application/json\r\nContent-Length: 750000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[b' '; 700_000]).unwrap();
    stream
}

#[test]
fn whom_a_rate_limit_turns_away_does_not_fall_silent_and_hushes_nobody_else() {
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    // So many a request, and ten seconds until there is room for the next.
    let up = world.up().args(rules.flags()).args(["--user-rate=1", "--user-burst=10"]).start();
    up.await_status("/health/ready", 200, SOON);
    await_watch(&up);
    let client = world.client(&up);
    let many: Vec<Beat> = (0..10).map(|n| Beat::of("ada", &format!("device {n}"))).collect();
    client.must_keep(&many);
    client.must_keep(&[Beat::of("bob", "dies")]);
    wait::holds_for("nothing is told of those that are turned away", 2 * AFTER, || {
        assert_eq!(client.post_all(&many).status, 429);
        std::thread::sleep(Duration::from_millis(200));
        let all = receiver.deliveries();
        let of_ada = all.iter().filter(|one| one.event()["user_id"] == "ada").count();
        if of_ada == 0 { Ok(()) } else { Err(format!("{all:?}")) }
    });
    assert_eq!(devices(&receiver.deliveries()), [told("silent", "dies")]);
    assert_eq!(receiver.await_deliveries(11, SOON).len(), 11);
    up.stop();
}

#[test]
fn webhooks_that_hang_hold_up_no_other_rule() {
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    // It takes connections, and answers nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let rules = Rules::new(&receiver, &["z*"]);
    let mut text = std::fs::read_to_string(rules.file()).unwrap();
    for n in 0..8 {
        let url = format!("http://{}/", hanging.local_addr().unwrap());
        text += &format!("[[silence]]\nmatch = \"*\"\nafter = \"2s\"\nwebhook = {url:?}\nname = \"{n}\"\n");
    }
    std::fs::write(rules.file(), text).unwrap();
    let collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    // Each is known to hang once it has, ten seconds long, four at a time.
    wait::until("all to have a fault", Duration::from_secs(60), || {
        collector.door().metrics().sum_where("systole_webhook_deliveries_total", |labels| {
            labels.get("outcome").is_some_and(|outcome| outcome == "failed")
        }) >= Some(8.0)
    });
    for n in 0..3 {
        let device = format!("dies {n}");
        collector.client().must_keep(&[Beat::of("zoe", &device)]);
        let came = receiver.await_deliveries(n + 1, AFTER + Duration::from_secs(4));
        assert_eq!(devices(&came)[n], told("silent", &device));
    }
}

#[test]
fn user_and_password_of_a_webhook_are_sent_as_what_they_stand_for() {
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let text = std::fs::read_to_string(rules.file()).unwrap();
    std::fs::write(rules.file(), text.replace("http://", "http://us%65r:p%40w@")).unwrap();
    let collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let came = receiver.await_deliveries(1, SOON);
    // user:p@w
    assert_eq!(came[0].header("authorization"), "Basic dXNlcjpwQHc=");
    let log = collector.door().log().join("\n");
    assert!(!log.contains("p%40w") && !log.contains("p@w") && !log.contains("dXNlcjpwQHc"), "{log}");
}

#[test]
fn a_webhook_over_tls_is_trusted_by_its_authority_alone() {
    let (world, authority) = (World::on(Buffer::Embedded), Authority::new("receivers"));
    let receiver = Receiver::over_tls(&authority.sign());
    let rules = Rules::new(&receiver, &["*"]);
    let mut collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    wait::until("health to say that it is not trusted", SOON, || {
        let (ok, detail) = collector.door().part("silence");
        !ok && detail.contains("TLS")
    });
    assert!(receiver.deliveries().is_empty());
    collector.kill();
    let ca = rules.folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let collector = collector.door_args([format!("--webhook-ca={}", ca.display())]).start();
    assert_eq!(devices(&receiver.await_deliveries(1, SOON)), [told("silent", "dies")]);
    drop(collector);
}

#[test]
fn the_example_of_the_documentation_checks_a_delivery() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/silence.md");
    let document = std::fs::read_to_string(document).unwrap();
    let example = document.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let collector = watched(&world, &rules);
    await_watch(collector.door());
    collector.client().must_keep(&[Beat::of("ada", "dies")]);
    let delivery = receiver.await_deliveries(1, SOON).remove(0);
    let check = |body: &str| {
        let script = format!(
            "import json, sys\n{example}\nheaders, body = json.loads(sys.argv[1]), sys.stdin.buffer.read()\nprint(check({KEY:?}, headers, body))"
        );
        let headers: serde_json::Map<String, serde_json::Value> =
            delivery.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let mut python = Command::new("python3")
            .args(["-c", &script, &serde_json::Value::Object(headers).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(check(&delivery.text), "True");
    assert_eq!(check(&delivery.text.replace("dies", "lies")), "False");
    drop(collector);
}

#[test]
fn rules_are_checked_at_the_start_and_shown_without_secrets() {
    let (world, receiver) = (World::on(Buffer::Embedded), Receiver::start());
    let rules = Rules::new(&receiver, &["*"]);
    let good = std::fs::read_to_string(rules.file()).unwrap();
    let config = |command: &str| world.launch("config").args([command.to_owned(), rules.flags()[0].clone()]);
    let shown = config("up").run().expect_code(0).stdout;
    assert!(
        shown.contains("[[silence]]") && shown.contains("about *") && shown.contains("http://localhost"),
        "{shown}"
    );
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(!config("batch").run().expect_code(0).stdout.contains("[[silence]]"));
    let up = || world.up().args(rules.flags());
    for (from, to, words) in [
        ("match", "mach", ["number 1", "`mach`"]),
        ("\"2s\"", "\"100ms\"", ["about *", "at least 1s"]),
        ("\"2s\"", "\"30days\"", ["about *", "remember-devices"]),
        ("http://", "ftp://", ["webhook", "ftp://"]),
        ("/key\"", "/no-key\"", ["secret-file", "no-key"]),
    ] {
        std::fs::write(rules.file(), good.replace(from, to)).unwrap();
        up().refused(2, &words);
    }
    std::fs::write(rules.file(), good).unwrap();
    up().args(["--max-devices=0"]).refused(2, &["silence", "max-devices"]);
}
