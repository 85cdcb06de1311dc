//! What is read back, by HTTP or `systole read`, in any format and by other people's readers, is what was answered 202.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use support::beats::now_ms;
use support::python::read_back;
use support::{Beat, Buffer, Collector, SOON, Systole, World, on_every_buffer, oracle, wait};

/// A user whose name means something wherever it is not quoted.
const USER: &str = "=ada \"x\", é/\u{1f980}?&#%00";

/// A running collector whose door sees the files.
fn collector(world: &World) -> Collector<'_> {
    if world.kind() == Buffer::Redis {
        world.register();
    }
    world.collector().door_args([format!("--data={}", world.dataset().display())]).start()
}

fn encoded(user: &str) -> String {
    user.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn path_of(user: &str) -> String {
    format!("/v1/users/{}/heartbeats", encoded(user))
}

fn get(door: &Systole, path: &str, accept: &str) -> Response {
    let response = Client::new().get(format!("{}{path}", door.url())).header("accept", accept).send().unwrap();
    assert_eq!(response.status().as_u16(), 200, "{path}: {}", response.text().unwrap_or_default());
    response
}

/// The address of the next page, as the `Link` of a page tells it.
fn next_of(page: &Response) -> Option<String> {
    let link = page.headers().get("link")?.to_str().unwrap();
    Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

/// A heartbeat as it is posted: attributes as the very text.
struct Posted {
    device: String,
    timestamp: i64,
    id: Option<String>,
    attributes: Option<String>,
}

impl Posted {
    fn text(&self) -> String {
        let mut text = format!("{{\"user_id\":{},\"device_id\":{}", json!(USER), json!(self.device));
        text += &format!(",\"timestamp\":{}", self.timestamp);
        if let Some(id) = &self.id {
            text += &format!(",\"id\":{}", json!(id));
        }
        if let Some(attributes) = &self.attributes {
            text += &format!(",\"attributes\":{attributes}");
        }
        text + "}"
    }

    /// As a reader should see it, without the time of arrival.
    fn row(&self) -> Value {
        let attributes: Value =
            self.attributes.as_ref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        json!([USER, self.device, self.timestamp, self.id, attributes])
    }
}

const NAMES: [&str; 19] = [
    "a;=1+1;b",
    "a\";\"=1+1",
    "b;'c; @d",
    "=cmd|'/c calc'!A1",
    "+1",
    "-1+1",
    "@sum(a1)",
    "＝full",
    "＠width",
    "'twas",
    "''",
    "a,\"b\";c\\",
    "é\u{1f980}\u{202e}x",
    "null",
    "007",
    " spaces ",
    "\u{feff}bom",
    "1e5",
    "plain",
];

const ATTRIBUTES: [&str; 6] = [
    "{\n  \"a\": \"line\\nbreak\",\r\n\t\"b\": 1.50e3\r\n}",
    r#"{"q":"\"quoted\", and; \\","e":"é🦀\u00e9"}"#,
    "{\"c1\":\"\u{85}\u{9b}\",\"ls\":\"\u{2028}\u{2029}\"}",
    r#"{"=1+1":";=1+1;\\;","big":123456789012345678901234567890}"#,
    "{}",
    r#"{"deep":{"er":[null,true,{"":[]}]}}"#,
];

/// Heartbeats with whatever is allowed in them; several in a millisecond.
fn hostile(count: usize, base: i64) -> Vec<Posted> {
    let posted = |n: usize| Posted {
        device: NAMES[n % NAMES.len()].into(),
        timestamp: base - (n as i64 * 7919 % 40) * 1000,
        id: Some(n).filter(|n| n % 3 > 0).map(|n| format!("{}{n}", NAMES[n * 5 % NAMES.len()])),
        attributes: Some(n).filter(|n| n % 4 > 0).map(|n| ATTRIBUTES[n % ATTRIBUTES.len()].into()),
    };
    let mut seen = BTreeSet::new();
    let all = (0..count).map(posted);
    all.filter(|one| seen.insert((one.device.clone(), one.timestamp, one.id.clone()))).collect()
}

fn post(collector: &Collector<'_>, beats: &[Posted]) {
    // An array keeps the line ends that lines would not.
    let array = format!("[{}]", beats.iter().map(Posted::text).collect::<Vec<_>>().join(","));
    let answer = collector.client().post_raw("application/json", array);
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(beats.len())), "{}", answer.text);
}

/// Reads `file` back by these readers, and compares.
fn same_by(readers: &[&str], file: &Path, expected: &[Value], since: i64) {
    for reader in readers {
        let rows = read_back(reader, file);
        let seen: Vec<Value> = rows.iter().map(|row| json!([row[0], row[1], row[2], row[4], row[5]])).collect();
        let differs = seen.iter().zip(expected).find(|(one, other)| one != other);
        assert!(seen.len() == expected.len() && differs.is_none(), "{reader}: {} rows, {differs:?}", seen.len());
        assert!(rows.iter().all(|row| (since..=now_ms()).contains(&row[3].as_i64().unwrap())), "{reader}: received_at");
    }
}

/// What each format holds, and who reads it.
const STREAMS: [(&str, &str, &[&str]); 3] = [
    ("ndjson", "application/x-ndjson", &["ndjson"]),
    ("csv", "text/csv", &["csv"]),
    ("parquet", "application/vnd.apache.parquet", &["duckdb", "pyarrow"]),
];

fn every_format_read_back_is_what_was_answered_202(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = collector(&world);
    let (since, base) = (now_ms(), now_ms() - 60_000);
    let beats = hostile(400, base);
    post(&collector, &beats[..beats.len() / 2]);
    wait::until("half of it to be published", SOON, || oracle::count_rows(world.dataset()) >= beats.len() / 2);
    post(&collector, &beats[beats.len() / 2..]);

    let mut sorted: Vec<&Posted> = beats.iter().collect();
    sorted.sort_by(|a, b| (a.timestamp, &a.device, &a.id).cmp(&(b.timestamp, &b.device, &b.id)));
    let expected: Vec<Value> = sorted.into_iter().map(Posted::row).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);

    for (name, accept, readers) in STREAMS {
        let response = get(collector.door(), &path_of(USER), accept);
        assert_eq!(response.headers()["systole-covers"], "all");
        std::fs::write(file(name), response.bytes().unwrap()).unwrap();
        same_by(readers, &file(name), &expected, since);
    }
    let (mut path, mut rows) = (Some(path_of(USER) + "?limit=97"), Vec::new());
    while let Some(page) = path {
        let response = get(collector.door(), &page, "application/json");
        path = next_of(&response);
        let body: Value = serde_json::from_str(&response.text().unwrap()).unwrap();
        assert_eq!(body["next"].is_string(), path.is_some());
        rows.extend(body["heartbeats"].as_array().unwrap().clone());
    }
    std::fs::write(file("json"), Value::Array(rows).to_string()).unwrap();
    // The order of members is lost above; the numbers' digits are not looked at here.
    let seen: Vec<Value> = serde_json::from_slice::<Vec<Value>>(&std::fs::read(file("json")).unwrap()).unwrap();
    let seen: Vec<Value> = seen.iter().map(|row| json!([row["device_id"], row["id"], row["attributes"]])).collect();
    let wanted: Vec<Value> = expected.iter().map(|row| json!([row[1], row[3], row[4]])).collect();
    assert_eq!(seen, wanted);

    // The command line reads the same, beside a running collector and a stopped one.
    let read = |name: &str, words: &[&str]| {
        let launch = world.books(&["read"]).args(["--user", USER]).args(words.iter().copied());
        let out = file(name);
        let ended = launch.args(["--out", out.to_str().unwrap()]).run().expect_code(0);
        assert_eq!(ended.stdout, "");
        std::fs::read(out).unwrap()
    };
    for state in ["running", "stopped"] {
        for (name, _, readers) in STREAMS {
            let written = read(&format!("{state}.{name}"), &[]);
            if name != "parquet" {
                assert!(written == std::fs::read(file(name)).unwrap(), "{name} of a {state} collector differs");
            }
            same_by(readers, &file(&format!("{state}.{name}")), &expected, since);
        }
        let array = world.books(&["read"]).args(["--user", USER, "--format", "json"]).run().expect_code(0).stdout;
        assert!(array.ends_with("\n]\n"));
        std::fs::write(file("array"), array).unwrap();
        same_by(&["json"], &file("array"), &expected, since);
        collector.stop();
    }
    let some = world.books(&["read"]).args(["--user", USER, "--limit", "3"]).run().expect_code(0).stdout;
    assert_eq!(some.lines().count(), 4, "{some}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 11, "no draft is left");
}

/// Every heartbeat of one walk by pages, as (timestamp, device).
fn walk(door: &Systole, user: &str) -> Vec<(String, String)> {
    let (mut path, mut seen) = (Some(format!("{}?limit=20", path_of(user))), Vec::new());
    while let Some(page) = path {
        let response = get(door, &page, "application/json");
        path = next_of(&response);
        let body: Value = serde_json::from_str(&response.text().unwrap()).unwrap();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let rows = body["heartbeats"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| (text(row, "timestamp"), text(row, "device_id"))));
    }
    seen
}

fn pages_skip_and_repeat_nothing_while_heartbeats_come_and_move(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = collector(&world);
    let (client, base) = (collector.client(), now_ms() - 3_600_000);
    let (next, over) = (AtomicI64::new(0), AtomicBool::new(false));
    let more = |count| -> Vec<Beat> {
        let first = next.fetch_add(count, Ordering::Relaxed);
        // All over the hour, before and behind where any walk may be.
        (first..first + count).map(|n| Beat::at("ada", "laptop", base + n * 7919 % 3_600_000)).collect()
    };
    client.must_keep(&more(300));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                client.must_keep(&more(5));
                wait::a_moment();
            }
        });
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                let before: BTreeSet<i64> =
                    world.ledger.ever_answered().iter().map(|identity| identity.timestamp).collect();
                let seen = walk(collector.door(), "ada");
                assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "out of order, or twice");
                let times: BTreeSet<i64> =
                    seen.iter().map(|(time, _)| time.parse::<jiff::Timestamp>().unwrap().as_millisecond()).collect();
                let missed: Vec<&i64> = before.difference(&times).collect();
                assert!(missed.is_empty(), "{} of {} were skipped", missed.len(), before.len());
            }
        }));
        over.store(true, Ordering::Relaxed);
        judged.unwrap();
    });
    world.await_published(SOON);
}

on_every_buffer! {
    every_format_read_back_is_what_was_answered_202,
    pages_skip_and_repeat_nothing_while_heartbeats_come_and_move,
}

#[test]
fn a_door_without_files_says_that_it_covers_the_buffer_only() {
    let world = World::on(Buffer::Redis);
    let mut collector = world.collector().without_batcher().start();
    collector.client().must_keep(&[Beat::of("ada", "laptop")]);
    let page = || {
        let response = get(collector.door(), &path_of("ada"), "*/*");
        assert_eq!(response.headers()["systole-covers"], "buffer");
        serde_json::from_str::<Value>(&response.text().unwrap()).unwrap()
    };
    let body = page();
    assert_eq!((body["heartbeats"].as_array().unwrap().len(), &body["covers"]), (1, &json!("buffer")));
    let read = || {
        world
            .launch("read")
            .args([format!("--buffer={}", world.redis().url()), "--data=nowhere".into()])
            .args(["--user", "ada"])
    };
    let ended = read().args(["--format", "ndjson"]).run().expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 1);
    assert!(ended.stderr.contains("only what still waits in the buffer"), "{}", ended.stderr);
    collector.start_batcher();
    world.await_drained(SOON);
    world.await_published(SOON);
}

#[test]
fn a_door_is_not_opened_on_the_files_of_another_dataset() {
    let (ours, other) = (World::on(Buffer::Redis), World::on(Buffer::Embedded));
    ours.register();
    let up = other.up().start();
    let data = format!("--data={}", other.dataset().display());
    ours.serve().args([data.clone()]).refused(2, &["belongs to dataset"]);
    ours.launch("read").args(["--user", "ada", "--data=nowhere"]).refused(2, &["there is no dataset in"]);
    up.stop();
    // And it looks without writing: a folder that only can be read will do.
    let written = |world: &World| oracle::every_file(world.dataset()).len();
    let before = written(&ours);
    let serve = ours.serve().args([format!("--data={}", ours.dataset().display())]).start();
    get(&serve, &path_of("ada"), "*/*");
    assert_eq!(written(&ours), before);
    serve.stop();
}

#[test]
fn a_door_that_starts_before_the_dataset_is_born_covers_its_files_from_then_on() {
    let world = World::on(Buffer::Redis);
    let serve = world.serve().args([format!("--data={}", world.dataset().display())]).start();
    let health = serve.await_status("/health", 503, SOON);
    assert!(health.text.contains("there is no dataset in"), "{}", health.text);
    let batch = world.batch().start();
    wait::until("the files are covered", SOON, || {
        let url = format!("{}{}", serve.url(), path_of("ada"));
        let answer = Client::new().get(url).send().ok();
        answer.is_some_and(|answer| answer.headers().get("systole-covers").is_some_and(|covers| covers == "all"))
    });
    world.client(&serve).must_keep(&[Beat::at("ada", "laptop", now_ms())]);
    world.await_drained(SOON);
    let page: Value = get(&serve, &path_of("ada"), "application/json").json().unwrap();
    assert_eq!(page["heartbeats"].as_array().unwrap().len(), 1, "{page}");
    serve.stop();
    batch.stop();
}

#[test]
fn what_is_wrong_on_the_command_line_is_named() {
    let world = World::on(Buffer::Embedded);
    let read = |words: &[&str]| world.launch("read").args(words.iter().copied());
    read(&["--user", "ada", "--from", "yesterday"]).refused(2, &["--from", "yesterday"]);
    read(&["--user", "", "--from", "2h"]).refused(2, &["--user"]);
    read(&["--user", "ada", "--from", "1h", "--to", "2h"]).refused(2, &["--from lies behind --to"]);
    read(&["--user", "ada", "--format", "xml"]).refused(2, &["--format"]);
}
