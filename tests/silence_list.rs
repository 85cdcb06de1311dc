//! Devices and the silent: what the list says is what the devices did, whoever dies and however late heartbeats come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeMap;

use reqwest::blocking::Client as Http;
use serde_json::Value;
use support::beats::now_ms;
use support::{Answer, Beat, Buffer, SOON, Systole, World, client, on_every_buffer, wait};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// `up`, or `serve` with a `batch` that has registered the buffer; the door first.
fn running(world: &World) -> Vec<Systole> {
    match world.kind() {
        Buffer::Embedded => vec![world.up().start()],
        Buffer::Redis => {
            let batch = world.batch().start();
            let serve = world.serve().start();
            serve.await_status("/health/ready", 200, SOON);
            vec![serve, batch]
        }
    }
}

/// Kills all of it, the buffer's server too, and starts it anew.
fn killed_and_started(world: &mut World, mut all: Vec<Systole>) -> Vec<Systole> {
    all.iter_mut().for_each(Systole::sigkill);
    drop(all);
    if world.kind() == Buffer::Redis {
        world.redis_mut().restart();
    }
    running(world)
}

fn ask(door: &Systole, path: &str) -> Answer {
    let answer = client::get(&format!("{}{path}", door.url())).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer
}

fn ms(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The devices of a user: state, and when each was last seen.
fn devices(door: &Systole, user: &str, query: &str) -> BTreeMap<String, (String, i64)> {
    let answer = ask(door, &format!("/v1/users/{user}/devices?{query}"));
    assert_eq!(answer.body["next"], Value::Null);
    let device = |device: &Value| {
        let state = device["state"].as_str().unwrap().to_owned();
        (device["device_id"].as_str().unwrap().to_owned(), (state, ms(&device["last_seen"])))
    };
    answer.body["devices"].as_array().unwrap().iter().map(device).collect()
}

/// User, device and time of those that an answer lists.
fn listed(devices: &Value) -> Vec<(String, String, i64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let device = |device: &Value| (text(&device["user_id"]), text(&device["device_id"]), ms(&device["last_seen"]));
    devices.as_array().unwrap().iter().map(device).collect()
}

fn silent(door: &Systole, query: &str) -> Vec<(String, String, i64)> {
    listed(&ask(door, &format!("/v1/silent?{query}")).body["devices"])
}

fn the_lists_are_what_the_devices_did_after_any_death(buffer: Buffer) {
    let mut world = World::on(buffer);
    let all = running(&world);
    let began = now_ms();
    let http = world.client(&all[0]);
    http.must_keep(&[
        Beat::at("ada", "laptop", began - 2_000),
        Beat::at("ada", "phone", began - 2 * HOUR),
        Beat::at("ada", "ahead", began + 2 * DAY),
        Beat::at("bob", "phone", began - 3 * HOUR),
    ]);
    // A bulk of three days ago: it makes nobody look alive, and nobody older than it is.
    let old = |user: &str, device: &str| -> Vec<Beat> {
        (0..100).map(|nth| Beat::at(user, device, began - 3 * DAY + nth)).collect()
    };
    http.must_keep(&[old("ada", "laptop"), old("ada", "phone"), old("ada", "tablet")].concat());
    http.must_keep(&[Beat::at("ada", "forgotten", began - 8 * DAY)]);
    let arrived = now_ms();

    let judge = |door: &Systole| {
        let found = devices(door, "ada", "after=1h");
        let at = |device: &str| found.get(device).map(|(state, at)| (state.as_str(), *at));
        assert_eq!(at("laptop"), Some(("beating", began - 2_000)));
        assert_eq!(at("phone"), Some(("silent", began - 2 * HOUR)));
        assert_eq!(at("tablet"), Some(("silent", began - 3 * DAY + 99)));
        let (state, ahead) = at("ahead").unwrap();
        assert!(state == "beating" && (began..=arrived).contains(&ahead), "seen as it came, not as it says");
        assert_eq!(found.len(), 4, "what was last seen before remember-devices is forgotten: {found:?}");
        let expected = [
            ("ada".to_owned(), "tablet".to_owned(), began - 3 * DAY + 99),
            ("bob".to_owned(), "phone".to_owned(), began - 3 * HOUR),
            ("ada".to_owned(), "phone".to_owned(), began - 2 * HOUR),
        ];
        assert_eq!(silent(door, "after=1h"), expected);
        assert_eq!(silent(door, "after=150m"), expected[..2]);
        assert_eq!(silent(door, "after=1h&user=ada"), [expected[0].clone(), expected[2].clone()]);
        assert_eq!(silent(door, "after=4d"), []);
    };
    judge(&all[0]);
    let all = killed_and_started(&mut world, all);
    judge(&all[0]);
    wait::until("their frames to be gone", SOON, || {
        let acked = |labels: &BTreeMap<String, String>| labels["column"] == "acked";
        all[0].metrics().sum_where("systole_buffer_ledger_heartbeats", acked) == Some(305.0)
    });
    let all = killed_and_started(&mut world, all);
    judge(&all[0]);
    world.client(&all[0]).must_keep(&[Beat::at("ada", "phone", now_ms())]);
    assert_eq!(devices(&all[0], "ada", "after=1h")["phone"].0, "beating", "it beats again");
    wait::until("the gauge", SOON, || all[0].metrics().sum("systole_devices_remembered") >= Some(5.0));
    all.into_iter().for_each(Systole::stop);
}

fn pages_go_on_where_they_ended_and_hold_each_device_once(buffer: Buffer) {
    let world = World::on(buffer);
    let all = running(&world);
    let now = now_ms();
    let mut beats: Vec<Beat> = (0..240)
        .map(|nth| Beat::at(&format!("user {}/ü", nth % 9), &format!("device-{nth:03}"), now - HOUR - nth % 40))
        .collect();
    beats.reverse();
    world.client(&all[0]).must_keep(&beats);
    let mut expected: Vec<(String, String, i64)> = beats
        .iter()
        .map(|beat| (beat.identity.user_id.clone(), beat.identity.device_id.clone(), beat.identity.timestamp))
        .collect();
    expected.sort_by(|one, other| (one.2, &one.0, &one.1).cmp(&(other.2, &other.0, &other.1)));

    let walk = |first: &str| {
        let (mut next, mut pages) = (Some(first.to_owned()), Vec::new());
        while let Some(path) = next {
            let answer = ask(&all[0], &path);
            next = answer.body["next"].as_str().map(str::to_owned);
            pages.push(answer.body["devices"].as_array().unwrap().clone());
        }
        pages
    };
    let pages = walk("/v1/silent?after=30m&limit=37");
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [37, 37, 37, 37, 37, 37, 18]);
    assert_eq!(listed(&Value::Array(pages.concat())), expected);
    let pages = walk("/v1/silent?after=30m&limit=5&user=user+3%2F%C3%BC");
    expected.retain(|device| device.0 == "user 3/ü");
    assert_eq!(listed(&Value::Array(pages.concat())), expected);
    let pages = walk("/v1/users/user%203%2F%C3%BC/devices?limit=10&after=30m");
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 7]);
    let ids: Vec<&str> = pages.iter().flatten().map(|device| device["device_id"].as_str().unwrap()).collect();
    let mut own: Vec<&str> = expected.iter().map(|device| device.1.as_str()).collect();
    own.sort_unstable();
    assert_eq!(ids, own);
    all.into_iter().for_each(Systole::stop);
}

fn people_list_the_silent_beside_a_running_collector_and_without_one(buffer: Buffer) {
    let world = World::on(buffer);
    let all = running(&world);
    let now = now_ms();
    let beats =
        [Beat::at("ada", "phone", now - 2 * HOUR), Beat::at("bob", "phone", now - HOUR), Beat::of("ada", "laptop")];
    world.client(&all[0]).must_keep(&beats);
    let expected =
        [("ada".to_owned(), "phone".to_owned(), now - 2 * HOUR), ("bob".to_owned(), "phone".to_owned(), now - HOUR)];
    let judge = || {
        let found = world.books(&["silent", "--format=json", "--after=30m"]).run().expect_code(0).json();
        assert_eq!(listed(&found), expected);
        let seconds = found[0]["silent_for_s"].as_i64().unwrap();
        assert!((7_200..7_300).contains(&seconds), "{seconds}");
        let of_bob = world.books(&["silent", "--format=json", "--user=bob"]).run().expect_code(0).json();
        assert_eq!(listed(&of_bob), expected[1..]);
        let none = world.books(&["silent", "--format=json", "--after=3h"]).run().expect_code(0).json();
        assert_eq!(none, Value::Array(Vec::new()));
        let table = world.books(&["silent", "--after=90m"]).run().expect_code(0).stdout;
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("  ada  phone  silent for 2h"), "{table}");
        assert_eq!(lines[1], "1 device is silent for more than 1h 30m");
    };
    judge();
    all.into_iter().for_each(Systole::stop);
    judge();
    world.books(&["silent", "--after=soon"]).refused(2, &["after", "soon"]);
    world.books(&["silent", "--after=8d"]).refused(2, &["after", "remember-devices", "7d"]);
    world.books(&["silent", "--user="]).refused(2, &["user"]);
}

fn a_token_sees_the_devices_of_its_users_only(buffer: Buffer) {
    let world = World::on(buffer);
    let all = running(&world);
    let now = now_ms();
    world.client(&all[0]).must_keep(&[Beat::at("ada", "phone", now - HOUR), Beat::at("bob", "phone", now - 2 * HOUR)]);
    let create = |words: &[&str]| {
        let made = world.books(&[&["token", "create", "--json"], words].concat()).run().expect_code(0).json();
        made["token"].as_str().unwrap().to_owned()
    };
    let (adas, everybodys) = (create(&["--scope=read", "--user=ada"]), create(&["--scope=read", "--all-users"]));
    let writes = create(&["--scope=write", "--all-users"]);
    let http = Http::builder().timeout(SOON).no_proxy().build().unwrap();
    let get = |token: Option<&str>, path: &str| {
        let request = http.get(format!("{}{path}", all[0].url()));
        let response = token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token)).send().unwrap();
        (response.status().as_u16(), response.json::<Value>().unwrap())
    };
    wait::until("tokens to be known", SOON, || {
        get(None, "/v1/silent").0 == 401 && get(Some(&writes), "/v1/silent").0 == 403
    });
    let users = |answer: (u16, Value)| -> Vec<String> {
        assert_eq!(answer.0, 200, "{}", answer.1);
        listed(&answer.1["devices"]).into_iter().map(|device| device.0).collect()
    };
    assert_eq!(users(get(Some(&adas), "/v1/silent")), ["ada"]);
    assert_eq!(users(get(Some(&adas), "/v1/silent?user=ada")), ["ada"]);
    assert_eq!(users(get(Some(&everybodys), "/v1/silent")), ["bob", "ada"]);
    assert_eq!(get(Some(&adas), "/v1/users/ada/devices").1["devices"][0]["state"], "silent");
    for path in ["/v1/silent?user=bob", "/v1/users/bob/devices"] {
        let (status, problem) = get(Some(&adas), path);
        assert_eq!((status, problem["type"].as_str()), (403, Some("urn:systole:problem:forbidden-user")), "{path}");
        assert_eq!(get(None, path).0, 401, "{path}");
        assert_eq!(get(Some(&writes), path).1["type"], "urn:systole:problem:missing-scope", "{path}");
    }
    all.into_iter().for_each(Systole::stop);
}

on_every_buffer! {
    the_lists_are_what_the_devices_did_after_any_death,
    pages_go_on_where_they_ended_and_hold_each_device_once,
    people_list_the_silent_beside_a_running_collector_and_without_one,
    a_token_sees_the_devices_of_its_users_only,
}

#[test]
fn what_is_asked_wrongly_is_named_and_nothing_is_kept_by_anybody() {
    let world = World::on(Buffer::Embedded);
    let up = world.up().without("--address-rate=0").args(["--address-rate=1", "--address-burst=13"]).start();
    let get = |path: &str| client::get(&format!("{}{path}", up.url())).unwrap();
    for (path, words) in [
        ("/v1/silent?since=5m", "`since`"),
        ("/v1/silent?after=soon", "`after` must be a duration"),
        ("/v1/silent?after=8d", "`after` must be at most 7days"),
        ("/v1/users/ada/devices?limit=0", "1 to 10000"),
        ("/v1/users/%00/devices", "control"),
        ("/v1/silent?cursor=x", "`cursor`"),
    ] {
        let answer = get(path);
        assert_eq!(answer.status, 422, "{path}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{path}: {detail}");
    }
    for path in ["/v1/silent", "/v1/users/nobody/devices"] {
        let answer = get(path);
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{path}");
        assert_eq!(answer.body["devices"], Value::Array(Vec::new()));
        assert_eq!(answer.body["silent_after"], "5m");
    }
    wait::until("the address to have asked too often", SOON, || get("/v1/silent").status == 429);
    up.stop();
}

#[test]
fn two_doors_keep_one_list() {
    let world = World::on(Buffer::Redis);
    let batch = world.batch().start();
    let doors = [world.serve().start(), world.serve().start()];
    let now = now_ms();
    doors.iter().for_each(|door| drop(door.await_status("/health/ready", 200, SOON)));
    world.client(&doors[0]).must_keep(&[Beat::at("ada", "phone", now - 1_000), Beat::at("ada", "laptop", now - HOUR)]);
    world.client(&doors[1]).must_keep(&[Beat::at("ada", "phone", now - HOUR), Beat::at("ada", "laptop", now - 2_000)]);
    let seen = |door| devices(door, "ada", "").into_iter().map(|(device, (_, at))| (device, at)).collect::<Vec<_>>();
    let expected = [("laptop".to_owned(), now - 2_000), ("phone".to_owned(), now - 1_000)];
    assert_eq!(seen(&doors[0]), expected);
    assert_eq!(seen(&doors[1]), expected);
    doors.into_iter().chain([batch]).for_each(Systole::stop);
}

#[test]
fn what_was_spilled_is_seen_when_it_came_and_not_when_it_went_in() {
    let mut world = World::on(Buffer::Redis);
    let batch = world.batch().start();
    let dir = world.dataset().parent().unwrap().join("spill");
    let serve =
        world.serve().args([format!("--spill-dir={}", dir.display()), "--spill-after=500ms".to_owned()]).start();
    serve.await_status("/health", 200, SOON);
    let began = now_ms();
    let http = world.client(&serve);
    http.must_keep(&[Beat::at("ada", "phone", began - 1_000)]);
    world.redis_mut().kill();
    http.must_keep(&[Beat::at("ada", "phone", began + DAY), Beat::at("ada", "tablet", began - HOUR)]);
    let spilled = now_ms();
    let away = client::get(&format!("{}/v1/users/ada/devices", serve.url())).unwrap();
    assert_eq!(away.status, 503, "nobody can say: {}", away.text);
    world.redis_mut().restart();
    wait::until("the spill to go in", SOON, || {
        serve.metrics().sum("systole_spill_injected_heartbeats_total") == Some(2.0)
    });
    let found = devices(&serve, "ada", "after=30m");
    let (state, phone) = &found["phone"];
    assert!(state == "beating" && (began..=spilled).contains(phone), "{found:?}");
    assert_eq!(found["tablet"], ("silent".to_owned(), began - HOUR));
    serve.stop();
    batch.stop();
}
