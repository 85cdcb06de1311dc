//! The status: what the page shows is what the metrics, the ledger and the files say; whoever may see it sees at once what is
//! wrong and what to do; and it costs nothing while nobody looks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::time::{Duration, Instant};

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use serde_json::{Value, json};
use support::{Beat, Beats, Buffer, Metrics, RedisServer, SOON, Systole, World, on_every_buffer, python, wait};

/// Looked at every 100 ms, as in a test's time a person looks.
fn status(door: &Systole) -> Value {
    let answer = door.get("/v1/status").expect("an answer");
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text);
    answer.body
}

/// Waits until the status is as `right` wants it; answers are up to a second old, and tell of refusals for ten more.
fn await_status(door: &Systole, what: &str, right: impl Fn(&Value) -> bool) -> Value {
    wait::value(what, 2 * SOON, || {
        let status = status(door);
        if right(&status) { Ok(status) } else { Err(status.to_string()) }
    })
}

fn sum_of(metrics: &Metrics, name: &str) -> u64 {
    metrics.sum(name).unwrap_or(0.0) as u64
}

/// What stands against a number: the same, of the metrics.
fn disagreements(status: &Value, metrics: &Metrics) -> Vec<String> {
    let mut faults = Vec::new();
    let mut same = |what: &str, told: &Value, counted: u64| {
        if told.as_u64() != Some(counted) {
            faults.push(format!("{what}: {told} is told, {counted} counted"));
        }
    };
    for column in ["accepted", "pending", "claimed", "acked", "dead", "dropped"] {
        let of_column = metrics.sum_where("systole_buffer_ledger_heartbeats", |labels| labels["column"] == column);
        same(column, &status["books"][column], of_column.unwrap_or(0.0) as u64);
    }
    let buffer = &status["buffer"];
    for (field, name) in [
        ("heartbeats", "systole_buffer_heartbeats"),
        ("heartbeats_max", "systole_buffer_heartbeats_max"),
        ("bytes", "systole_buffer_bytes"),
        ("bytes_max", "systole_buffer_bytes_max"),
    ] {
        same(field, &buffer[field], sum_of(metrics, name));
        for partition in buffer["partitions"].as_array().unwrap() {
            let number = partition["partition"].to_string();
            let of_partition = metrics.sum_where(name, |labels| labels["partition"] == number);
            same(&format!("{field} of {number}"), &partition[field], of_partition.unwrap_or(0.0) as u64);
        }
    }
    let alive = status["batchers"].as_array().unwrap().iter().filter(|batcher| batcher["alive"] == true).count();
    same("batchers", &json!(alive), sum_of(metrics, "systole_batchers_alive"));
    let refused: u64 = status["refused"].as_array().unwrap().iter().map(|of| of["heartbeats"].as_u64().unwrap()).sum();
    let counted = ["systole_heartbeats_rejected_total", "systole_push_refused_heartbeats_total"];
    same("refused", &json!(refused), counted.iter().map(|name| sum_of(metrics, name)).sum());
    faults
}

fn await_agreement(door: &Systole) -> Value {
    wait::value("status and metrics to agree", SOON, || {
        let status = status(door);
        let faults = disagreements(&status, &door.metrics());
        if faults.is_empty() { Ok(status) } else { Err(faults.join("; ")) }
    })
}

fn every_number_is_that_of_the_metrics_and_the_ledger(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().without_batcher().without_compactor().start();
    let client = collector.client();
    client.must_keep(&Beats::new(20, 3).take(500));
    client.post_raw("application/json", r#"[{"user_id":"ada","device_id":"x","timestamp":1},{"user_id":""}]"#);
    await_status(collector.door(), "500 that wait", |status| status["books"]["pending"] == 500);
    let status = await_agreement(collector.door());
    assert_eq!(
        status["refused"],
        json!([
            {"reason": "invalid_length", "heartbeats": 1}, {"reason": "timestamp_in_seconds", "heartbeats": 1},
        ]),
        "{}",
        status["refused"]
    );
    assert!(status["buffer"]["oldest_pending_s"].as_f64().unwrap() >= 0.0);
    assert_eq!(status["buffer"]["partitions"].as_array().unwrap().len(), 4);

    collector.start_batcher();
    world.await_drained(SOON);
    let drained = |status: &Value| status["books"]["acked"] == 500;
    await_status(collector.door(), "500 that were written", drained);
    let status = await_agreement(collector.door());
    let books = &status["books"];
    assert_eq!((&books["accepted"], &books["balanced"]), (&json!(world.held("accepted")), &json!(true)));
    let owned: usize =
        status["batchers"].as_array().unwrap().iter().map(|of| of["partitions"].as_array().unwrap().len()).sum();
    assert_eq!(owned, 4, "{status}");
    let (kind, role) = match buffer {
        Buffer::Redis => ("redis", "serve"),
        Buffer::Embedded => ("embedded", "up"),
    };
    assert_eq!((&status["buffer"]["kind"], &status["role"]), (&json!(kind), &json!(role)));
}

fn heartbeats_a_second_are_told_while_they_flow(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let (client, beats) = (collector.client(), Beats::new(20, 3));
    wait::value("rates in and out", SOON, || {
        client.must_keep(&beats.take(50));
        let rates = &status(collector.door())["rates"];
        let flows = |way: &str| rates[way].as_f64().is_some_and(|rate| rate > 10.0);
        if flows("in") && flows("out") { Ok(()) } else { Err(rates.to_string()) }
    });
}

fn assert_problem(status: &Value, part: &str, detail: &str) {
    assert_eq!(status["verdict"]["well"], false, "{status}");
    let problems = status["verdict"]["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["part"] == part);
    let problem = problem.unwrap_or_else(|| panic!("{part} is no problem: {}", status["verdict"]));
    assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    assert!(problem["advice"].as_str().unwrap().len() > 20, "{problem}");
}

fn has_problem(status: &Value, part: &str) -> bool {
    status["verdict"]["problems"].as_array().unwrap().iter().any(|problem| problem["part"] == part)
}

fn a_batcher_that_died_is_told_with_what_to_do(buffer: Buffer) {
    let world = World::on(buffer);
    match buffer {
        Buffer::Embedded => {
            let collector = world.collector().without_batcher().start();
            let both = |status: &Value| has_problem(status, "batchers") && has_problem(status, "parts");
            let status = await_status(collector.door(), "no batcher", both);
            assert_problem(&status, "batchers", "no batcher is alive");
            assert_problem(&status, "parts", "batcher failed");
        }
        Buffer::Redis => {
            let (serve, mut batch) = world.serve_and_batch();
            let owns_all = |status: &Value| {
                status["batchers"][0]["partitions"] == json!([0, 1, 2, 3]) && status["verdict"]["well"] == true
            };
            await_status(&serve, "a batcher with every partition", owns_all);
            batch.sigkill();
            let status = await_status(&serve, "its death", |status| has_problem(status, "batchers"));
            assert_problem(&status, "batchers", "no batcher is alive");
            assert_eq!(status["batchers"][0]["alive"], false, "{status}");
            assert!(status["batchers"][0]["seen_s"].as_f64().unwrap() > 1.0);
            serve.stop();
        }
    }
}

fn parts_of_problems(status: &Value) -> Vec<&str> {
    let problems = status["verdict"]["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["part"].as_str().unwrap()).collect()
}

fn assert_only_problem(status: &Value, part: &str, detail: &str, advice: &str) {
    assert_eq!(parts_of_problems(status), [part], "{}", status["verdict"]);
    assert_problem(status, part, detail);
    let said = status["verdict"]["problems"][0]["advice"].as_str().unwrap();
    assert!(said.contains(advice), "{said}");
}

fn a_buffer_that_takes_no_pushes_is_the_only_problem_and_looked_at_all_the_same(buffer: Buffer) {
    let world = World::on(buffer);
    let all = match buffer {
        Buffer::Embedded => {
            vec![world.up().without("--buffer-min-free").args(["--buffer-min-free=1000TiB"]).start()]
        }
        Buffer::Redis => {
            let (serve, batch) = world.serve_and_batch();
            world.redis().cli(&["CONFIG", "SET", "maxmemory", "1"]);
            vec![serve, batch]
        }
    };
    let settled = |status: &Value| parts_of_problems(status) == ["buffer"];
    let status = await_status(&all[0], "the one problem", settled);
    let said = if buffer == Buffer::Redis { "maxmemory" } else { "buffer-min-free" };
    assert_only_problem(&status, "buffer", said, "still drained");
    assert_eq!(
        (&status["batchers"][0]["alive"], &status["books"]["balanced"]),
        (&json!(true), &json!(true)),
        "{status}"
    );
    let metrics = all[0].metrics();
    let told = ["systole_buffer_reachable", "systole_buffer_accepts"].map(|name| metrics.sum(name));
    assert_eq!(told, [Some(1.0), Some(0.0)]);
    assert_eq!([all[0].part("batchers").0, all[0].part("drain").0, all[0].part("buffer").0], [true, true, false]);
    assert_eq!(all[0].get("/health/ready").unwrap().status, 503);
    if buffer == Buffer::Redis {
        world.redis().cli(&["CONFIG", "SET", "maxmemory", "0"]);
        await_status(&all[0], "all to be well", |status| status["verdict"]["well"] == true);
    }
    all.into_iter().for_each(Systole::stop);
}

#[test]
fn replicas_that_are_missing_are_told() {
    let world = World::on(Buffer::Redis);
    let batch = world.batch().start();
    let serve = world.serve().args(["--wait-replicas=1", "--wait-replicas-timeout=500ms"]).start();
    let too_few = |status: &Value| parts_of_problems(status) == ["buffer"];
    let status = await_status(&serve, "the one problem", too_few);
    assert_only_problem(&status, "buffer", "0 of 1 replicas", "Bring the missing replicas of Redis back");
    let refused = world.client(&serve).post(&Beat::of("ada", "laptop"));
    assert!(refused.status == 503 && refused.text.contains("too-few-replicas"), "{}", refused.text);
    assert_eq!(serve.metrics().sum("systole_buffer_accepts"), Some(0.0));

    let mut replica = RedisServer::with().replica_of(world.redis().port()).start();
    await_status(&serve, "all to be well", |status| status["verdict"]["well"] == true);
    assert!(serve.part("buffer").1.contains("1 replica confirms each push"));
    world.client(&serve).must_keep(&[Beat::of("ada", "laptop")]);
    replica.kill();
    await_status(&serve, "its loss", too_few);
    [serve, batch].into_iter().for_each(Systole::stop);
}

#[test]
fn one_fault_of_the_buffer_is_one_problem_with_what_to_do() {
    let mut world = World::on(Buffer::Redis);
    let serve = world.serve().start();
    let only = |status: &Value| parts_of_problems(status) == ["buffer"];
    let status = await_status(&serve, "the first start", only);
    assert_only_problem(&status, "buffer", "not registered", "Start `systole batch` with this buffer");
    assert_eq!((&status["batchers"], &status["books"]), (&Value::Null, &Value::Null));

    let mut batch = world.batch().start();
    let well = await_status(&serve, "all to be well", |status| status["verdict"]["well"] == true);
    assert_eq!(well["batchers"][0]["alive"], true);
    batch.sigkill();
    world.redis_mut().kill();
    let away = |status: &Value| only(status) && status["verdict"].to_string().contains("out of reach");
    let status = await_status(&serve, "Redis to be away", away);
    assert_only_problem(&status, "buffer", "out of reach", "See that Redis runs");
    assert_eq!(status["batchers"], Value::Null, "nobody knows who is alive");
    assert_eq!(serve.metrics().sum("systole_buffer_reachable"), Some(0.0));

    world.redis_mut().restart_empty();
    let erased = |status: &Value| only(status) && status["verdict"].to_string().contains("not registered");
    let status = await_status(&serve, "Redis to be erased", erased);
    assert_only_problem(&status, "buffer", "it held at most 0 heartbeats", "`systole adopt`");
    assert!(!status["verdict"].to_string().contains("systole batch"), "{}", status["verdict"]);
    serve.stop();
}

fn a_full_buffer_is_told_by_partition(buffer: Buffer) {
    let world = World::on(buffer);
    let cap = ["--buffer-max-heartbeats=400", "--drain-lag=1h"];
    let collector = world.collector().door_args(cap).without_batcher().without_compactor().start();
    let (client, beats) = (collector.client(), Beats::new(1, 1).named("one"));
    while client.post_all(&beats.take(20)).status == 202 {}
    let status = await_status(collector.door(), "a full partition", |status| has_problem(status, "drain"));
    assert_problem(&status, "drain", "full (100 heartbeats");
    let partitions = status["buffer"]["partitions"].as_array().unwrap();
    let full = |of: &&Value| of["heartbeats"] == 100 && of["heartbeats_max"] == 100;
    assert_eq!(partitions.iter().filter(full).count(), 1, "{status}");
    let status = await_agreement(collector.door());
    assert_eq!(status["refused"], json!([{"reason": "buffer_full", "heartbeats": 20}]));
}

fn pushes_that_a_partition_has_no_room_for_are_a_problem_while_the_board_is_green(buffer: Buffer) {
    let world = World::on(buffer);
    let cap = ["--buffer-max-heartbeats=400", "--drain-lag=1h"];
    // Dead letters keep their room: 80 of the 100 of the one partition that Ada is in.
    let collector = world.collector().door_args(cap).batcher_failpoints("batcher.encode=panic").start();
    let (client, beats) = (collector.client(), Beats::new(1, 1).named("ada"));
    (0..4).for_each(|_| client.must_keep(&beats.take(20)));
    wait::until("80 dead letters", SOON, || world.held("dead") == 80);
    collector.door().await_status("/health", 200, SOON);
    assert_eq!(status(collector.door())["verdict"], json!({"well": true, "problems": []}));
    // Bad records are the client's own.
    assert_eq!(client.post_raw("application/json", r#"{"user_id":""}"#).status, 422);
    for _ in 0..5 {
        assert_eq!(client.post_all(&beats.take(30)).status, 503);
    }
    let status = await_status(collector.door(), "refusals", |status| has_problem(status, "refused"));
    let why = "heartbeats a second are refused: the partitions of their users have no room";
    assert_only_problem(&status, "refused", why, "which partitions are full");
    assert_eq!(collector.door().get("/health").unwrap().status, 200, "the board knows nothing of it");
}

#[test]
fn pushes_that_no_replica_confirms_are_a_problem() {
    let world = World::on(Buffer::Redis);
    let batch = world.batch().start();
    let serve = world.serve().args(["--wait-replicas=1", "--wait-replicas-timeout=100ms"]).start();
    wait::until("a refusal", SOON, || world.client(&serve).post_all(&Beats::new(1, 1).take(20)).status == 503);
    let status = await_status(&serve, "refusals", |status| has_problem(status, "buffer"));
    assert_only_problem(&status, "buffer", "replicas", "--wait-replicas");
    assert_eq!(status["refused"][0]["reason"], "buffer_too_few_replicas");
    serve.stop();
    batch.stop();
}

/// Sets the clock of what is staged back.
fn age(files: &[std::path::PathBuf], by: Duration) {
    for file in files {
        std::fs::File::open(file).unwrap().set_modified(std::time::SystemTime::now() - by).unwrap();
    }
}

#[test]
fn a_compactor_that_died_is_told_by_a_door_that_sees_the_files() {
    let world = World::on(Buffer::Redis);
    let data = format!("--data={}", world.dataset().display());
    let (batch, mut compactor) = (world.batch().start(), world.watch().start());
    let serve = world.serve().args([&data]).start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    client.must_keep(&Beats::new(20, 1).take(25));
    world.await_rest(SOON);
    compactor.sigkill();
    client.must_keep(&Beats::new(20, 1).take(25));
    world.await_drained(SOON);
    let well = |status: &Value| status["files"]["fragments"].as_u64() > Some(0);
    let young = await_status(&serve, "what is staged", well);
    assert!(!has_problem(&young, "publish lag"), "{young}");
    age(&world.staged(), Duration::from_secs(360));
    // A change of its folder: what is listed is not listed again without one.
    client.must_keep(&Beats::new(20, 1).take(25));
    let status = await_status(&serve, "the lag", |status| has_problem(status, "publish lag"));
    assert_only_problem(&status, "publish lag", "a fragment has waited for 36", "systole compact");
    assert!(status["files"]["oldest_fragment_s"].as_u64() > Some(300), "{status}");

    let heir = world.watch().start();
    await_status(&serve, "the lag to be gone", |status| status["verdict"]["well"] == true);
    [serve, batch, heir].into_iter().for_each(Systole::stop);
}

#[test]
fn what_the_batcher_says_of_the_publish_lag_is_not_said_twice() {
    let world = World::on(Buffer::Embedded);
    let collector = world.collector().batcher_args(["--publish-lag=1s"]).without_compactor().start();
    collector.client().must_keep(&Beats::new(20, 1).take(25));
    world.await_drained(SOON);
    let by_both = |status: &Value| {
        status["files"]["oldest_fragment_s"].as_u64() > Some(1) && !collector.door().part("publish lag").0
    };
    await_status(collector.door(), "both to see it", by_both);
    let status = await_status(collector.door(), "the lag", |status| has_problem(status, "publish lag"));
    let problems = status["verdict"]["problems"].as_array().unwrap();
    assert_eq!(problems.iter().filter(|problem| problem["part"] == "publish lag").count(), 1, "{problems:?}");
}

#[test]
fn a_dataset_that_goes_away_under_a_door_is_told_and_no_files_asked_for_is_another_thing() {
    let world = World::on(Buffer::Redis);
    let data = format!("--data={}", world.dataset().display());
    let early = world.serve().args([&data]).start();
    wait::until("the dataset to be awaited", SOON, || early.part("dataset").1.contains("there is no dataset"));
    assert_eq!(status(&early)["files_unknown"], "the dataset is not there yet");
    // Its batcher has gone again when the folder goes: it would miss that as well.
    world.register();
    let (late, blind) = (world.serve().args([&data]).start(), world.serve().start());
    let seen = |status: &Value| {
        !status["files"].is_null() && status["files_unknown"].is_null() && !has_problem(status, "dataset")
    };
    for serve in [&early, &late] {
        await_status(serve, "the files", seen);
        assert_eq!(serve.part("dataset"), (true, "its files are read".to_owned()));
    }
    let away = world.dataset().with_extension("away");
    std::fs::rename(world.dataset(), &away).unwrap();
    for serve in [&early, &late] {
        let missed = |status: &Value| status["files"].is_null() && has_problem(status, "dataset");
        let status = await_status(serve, "the loss", missed);
        assert_problem(&status, "dataset", "is not the folder that this process opened");
        let why = status["files_unknown"].as_str().unwrap();
        assert!(why.starts_with("they cannot be read now: ") && !why.contains("--data"), "{why}");
        wait::until("the board to say so", SOON, || !serve.part("dataset").0);
        wait::until("the log to say so", SOON, || {
            serve.log().iter().any(|line| line.contains("the files of the dataset cannot be read"))
        });
    }
    std::fs::rename(&away, world.dataset()).unwrap();
    for serve in [&early, &late] {
        await_status(serve, "the files again", seen);
    }
    let status = status(&blind);
    assert_eq!(
        (&status["files"], &status["files_unknown"]),
        (&Value::Null, &json!("this process was started without `--data`"))
    );
    [early, late, blind].into_iter().for_each(Systole::stop);
}

#[test]
fn a_disk_with_too_little_room_is_told() {
    let world = World::on(Buffer::Embedded);
    let roomy = world.up().start();
    let seen = |status: &Value| !status["files"].is_null();
    assert!(!has_problem(&await_status(&roomy, "the files", seen), "disk"));
    roomy.stop();
    let least = ["--min-free=1PiB", "--buffer-min-free=1PiB"];
    let up = world.up().without("--min-free").without("--buffer-min-free").args(least).start();
    let status = await_status(&up, "the disk", |status| has_problem(status, "disk"));
    assert_problem(&status, "disk", "below 1.0 PiB nothing more is written");
    up.stop();
}

fn a_dead_letter_is_told_with_its_reason(buffer: Buffer) {
    let world = World::on(buffer);
    let broken = world.collector().without_compactor().batcher_failpoints("batcher.encode=panic");
    let collector = broken.start();
    collector.client().must_keep(&Beats::new(20, 1).take(25));
    wait::until("25 dead letters", SOON, || world.held("dead") == 25);
    let told = |status: &Value| status["dead_letters"]["heartbeats"] == 25;
    let status = await_status(collector.door(), "dead letters", told);
    let letters = status["dead_letters"]["letters"].as_array().unwrap();
    assert_eq!((letters.len(), &status["dead_letters"]["more"]), (20, &json!(true)));
    let listed = world.books(&["dead-letters", "list", "--json"]).run().expect_code(0).json();
    let newest: Vec<&Value> = listed.as_array().unwrap().iter().rev().take(20).collect();
    for (letter, listed) in letters.iter().zip(newest) {
        for (told, shown) in [("id", "id"), ("partition", "partition"), ("rows", "heartbeats"), ("reason", "reason")] {
            assert_eq!(letter[told], listed[shown], "{letter} {listed}");
        }
    }
    assert!(letters[0]["reason"].as_str().unwrap().contains("panic"), "{letters:?}");
}

fn a_silent_device_is_told_and_one_that_beats_is_not(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let (client, now) = (collector.client(), support::beats::now_ms());
    let long_ago = now - 10 * 60_000;
    let ago = |device: &str, minutes: i64| Beat::at("ada", device, now - minutes * 60_000);
    client.must_keep(&[ago("laptop", 0), ago("phone", 10), ago("watch", 6), ago("watch", 7), ago("tablet", 4)]);
    let told = |status: &Value| status["silent"]["devices"].as_array().is_some_and(|devices| !devices.is_empty());
    let status = await_status(collector.door(), "silent devices", told);
    let silent = |device: &str, at: i64| json!({"user_id": "ada", "device_id": device, "last_seen": at});
    let expected = json!([silent("phone", long_ago), silent("watch", now - 6 * 60_000)]);
    assert_eq!(status["silent"], json!({"after_s": 300, "devices": expected, "more": false}));
}

#[test]
fn the_days_are_those_that_duckdb_counts() {
    let world = World::on(Buffer::Embedded);
    let mut collector = world.collector().without_compactor().start();
    let client = collector.client();
    for day in 0..4 {
        client.must_keep(&Beats::days_ago(10, 2, day).take(30 + 10 * day as usize));
    }
    world.await_drained(SOON);
    let staged = |status: &Value| status["files"]["fragment_rows"] == 180;
    let status = await_status(collector.door(), "what is staged", staged);
    let files = &status["files"];
    assert!(files["fragments"].as_u64().unwrap() >= 4 && files["fragment_bytes"].as_u64().unwrap() > 1000, "{files}");
    assert_eq!((&files["published_files"], &files["last_publishes"]), (&json!(0), &json!([])));

    collector.start_compactor();
    world.await_rest(SOON);
    // Again into folders that were listed, and so soon that their times may not tell.
    client.must_keep(&Beats::days_ago(10, 2, 1).named("more").take(17));
    world.await_rest(SOON);
    let published = |status: &Value| status["files"]["published_rows"] == 197 && status["files"]["fragments"] == 0;
    let status = await_status(collector.door(), "what is published", published);
    let files = &status["files"];
    let days = files["days"].as_array().unwrap();
    assert_eq!(days.len(), 30, "{days:?}");
    let told: Vec<(String, u64, u64)> = days
        .iter()
        .filter(|day| day["files"] != 0)
        .map(|day| {
            (day["date"].as_str().unwrap().into(), day["rows"].as_u64().unwrap(), day["files"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(told, python::duckdb_days(world.dataset()));
    let bytes: u64 = support::oracle::published_files(world.dataset())
        .iter()
        .map(|path| std::fs::metadata(path).unwrap().len())
        .sum();
    assert_eq!(files["published_bytes"], bytes);
    let publishes = files["last_publishes"].as_array().unwrap();
    assert!(publishes.windows(2).all(|pair| pair[0]["at"].as_i64() >= pair[1]["at"].as_i64()), "{publishes:?}");
    assert!(publishes.iter().all(|publish| publish["rows"].as_u64().unwrap() > 0) && !publishes.is_empty());
    assert!(status["rates"]["published"].as_f64().unwrap() > 0.0, "{status}");
    assert!(files["disk"]["free_bytes"].as_u64().unwrap() <= files["disk"]["total_bytes"].as_u64().unwrap());

    let counted = |status: &Value| !status["books"]["files"].is_null();
    let status = await_status(collector.door(), "the books of the files", counted);
    let audit = world.audit();
    let sum = |column: &str| -> u64 {
        audit["partitions"].as_array().unwrap().iter().map(|of| of["files"][column].as_u64().unwrap()).sum()
    };
    let books = &status["books"]["files"];
    let of_files = ["staged", "merged", "quarantined"].map(|column| books[column].as_u64().unwrap());
    assert_eq!(of_files.iter().sum::<u64>(), sum("staged") + sum("merged") + sum("quarantined"));
    assert_eq!((&books["balanced"], &status["books"]["files_unknown"]), (&json!(true), &Value::Null));
}

fn gatherings(door: &Systole) -> Metrics {
    let mut metrics = door.metrics();
    metrics.samples.retain(|sample| sample.name == "systole_overview_gatherings_total");
    assert_eq!(metrics.samples.len(), 5, "every series is there from the start");
    metrics
}

fn nothing_is_gathered_while_nobody_looks_but_the_history(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().start();
    let door = collector.door();
    let history = wait::value("a step of the history", Duration::from_secs(25), || {
        let history = door.get("/v1/status/history").ok_or("no answer")?;
        assert_eq!((history.status, history.header("cache-control")), (200, Some("no-store")));
        let waiting = history.body["waiting"].as_array().unwrap().clone();
        if waiting.last().is_some_and(|last| !last.is_null()) { Ok(history.body) } else { Err(history.text) }
    });
    let lengths = ["in", "out", "refused", "waiting"].map(|line| history[line].as_array().unwrap().len());
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{history}");
    assert_eq!((history["step_s"].as_u64(), history["until"].as_i64().unwrap() % 10_000), (Some(10), 0));
    assert_eq!(gatherings(door).sum("systole_overview_gatherings_total"), Some(0.0));

    // Many look at once, and for a while.
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..10).for_each(|_| drop(status(door))));
        }
    });
    let most = 1.0 + began.elapsed().as_secs_f64();
    let of_status = gatherings(door).sum_where("systole_overview_gatherings_total", |labels| labels["of"] == "status");
    assert!(of_status.is_some_and(|times| (1.0..=most).contains(&times)), "{of_status:?} times, {most} at most");
    let all = gatherings(door).sum("systole_overview_gatherings_total");
    wait::holds_for("that nothing is gathered", Duration::from_millis(2_500), || {
        let now = gatherings(door).sum("systole_overview_gatherings_total");
        if now == all { Ok(()) } else { Err(format!("{all:?}, then {now:?}")) }
    });
}

/// A browser at a door: it keeps the cookie, and says so.
struct Browser<'a> {
    door: &'a Systole,
    http: Http,
}

impl<'a> Browser<'a> {
    fn at(door: &'a Systole) -> Self {
        let http = Http::builder().timeout(SOON).no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { door, http: http.build().unwrap() }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.door.url()))
    }

    fn post(&self, path: &str, content_type: &str, body: String) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.door.url())).header("content-type", content_type).body(body)
    }

    fn login(&self, token: &str) -> RequestBuilder {
        self.post("/login", "application/json", json!({ "token": token }).to_string())
    }

    fn looks(&self, cookie: &str) -> u16 {
        self.get("/v1/status").header("cookie", cookie).send().unwrap().status().as_u16()
    }
}

fn code(request: RequestBuilder) -> u16 {
    request.send().unwrap().status().as_u16()
}

fn cookie_of(response: &Response) -> String {
    let line = response.headers().get("set-cookie").expect("a cookie").to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(line.split("; ").any(|part| part == attribute), "{line}");
    }
    line.split(';').next().unwrap().to_owned()
}

/// `up`, or `serve` with a `batch` that has registered the buffer.
fn running(world: &World, flags: &[&str]) -> Vec<Systole> {
    let flags = ["--token-refresh=100ms", "--log=trace"].into_iter().chain(flags.iter().copied());
    match world.kind() {
        Buffer::Embedded => vec![world.up().args(flags).start()],
        Buffer::Redis => {
            let batch = world.batch().start();
            let serve = world.serve().args(flags).start();
            serve.await_status("/health/ready", 200, SOON);
            vec![serve, batch]
        }
    }
}

fn create(world: &World, words: &[&str]) -> (String, String) {
    let made = world.books(&[&["token", "create", "--json"], words].concat()).run().expect_code(0).json();
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

fn only_administrators_look_by_header_or_by_cookie(buffer: Buffer) {
    let world = World::on(buffer);
    let all = running(&world, &[]);
    let browser = Browser::at(&all[0]);
    assert_eq!(code(browser.get("/v1/status")), 200, "no token is needed where there is none");
    let answer = browser.login("whatever").send().unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("set-cookie")), (204, None));

    let (_, writer) = create(&world, &["--scope=write", "--user=ada"]);
    let (_, reader) = create(&world, &["--scope=read", "--user=ada"]);
    let (admin_id, admin) = create(&world, &["--scope=admin"]);
    let (_, other) = create(&world, &["--scope=admin"]);
    all[0].await_status("/v1/status", 401, SOON);
    wait::until("the tokens to be known", SOON, || code(browser.login(&other)) == 204);
    for path in ["/v1/status", "/v1/status/history"] {
        let as_bearer = |token: &str| code(browser.get(path).header("authorization", format!("Bearer {token}")));
        assert_eq!([&writer, &reader, &admin].map(|token| as_bearer(token)), [403, 403, 200]);
        assert_eq!(code(browser.get(path)), 401);
    }

    for (token, expected) in [("", 401), ("nonsense", 401), (&admin[..admin.len() - 1], 401), (&writer, 403)] {
        let answer = browser.login(token).send().unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("set-cookie")), (expected, None), "{token}");
    }
    let answer = browser.login(&admin).send().unwrap();
    assert_eq!(answer.status().as_u16(), 204);
    let cookie = cookie_of(&answer);
    let by_form = browser.post("/login", "application/x-www-form-urlencoded", format!("token={admin}"));
    let answer = by_form.send().unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/"));
    assert_eq!(cookie_of(&answer), cookie);

    for path in ["/v1/status", "/v1/status/history", "/metrics"] {
        assert_eq!(code(browser.get(path).header("cookie", &cookie)), 200, "{path}");
    }
    let head = browser.http.head(format!("{}/v1/status", all[0].url())).header("cookie", &cookie);
    assert_eq!(code(head), 200);
    // A header that is there has the word, good or not.
    let with =
        |line: &str| browser.get("/v1/status").header("cookie", &cookie).header("authorization", line.to_owned());
    assert_eq!(code(with("Bearer nonsense")), 401);
    assert_eq!(code(with(&format!("Bearer {writer}"))), 403);
    // It looks, and never writes.
    let written = format!("systole_token={writer}");
    let beat = Beat::of("ada", "laptop").json().to_string();
    for cookie in [&cookie, &written] {
        let post = browser.post("/v1/heartbeats", "application/json", beat.clone()).header("cookie", cookie);
        assert_eq!(code(post), 401);
    }

    let logout = || browser.http.post(format!("{}/logout", all[0].url()));
    let answer = logout().send().unwrap();
    let cleared = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(answer.status().as_u16() == 204 && cleared.starts_with("systole_token=; Path=/; Max-Age=0;"), "{cleared}");
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("origin", "null")] {
        let (into, out) = (browser.login(&admin).header(name, value), logout().header(name, value));
        for answer in [into.send().unwrap(), out.send().unwrap()] {
            assert_eq!((answer.status().as_u16(), answer.headers().get("set-cookie")), (403, None), "{name}: {value}");
            assert_eq!(answer.json::<Value>().unwrap()["type"], "urn:systole:problem:cross-site");
        }
    }
    let own = browser.login(&admin).header("origin", all[0].url()).header("sec-fetch-site", "same-origin");
    assert_eq!(code(own), 204);

    world.books(&["token", "revoke", &admin_id]).run().expect_code(0);
    wait::until("its cookie to be worth nothing", SOON, || browser.looks(&cookie) == 401);
    assert_eq!(browser.looks(&format!("systole_token={other}")), 200);
    let log = all[0].log().join("\n");
    assert!(log.contains("/login") && log.contains("/v1/status"), "a silent log proves nothing");
    for token in [&writer, &reader, &admin, &other] {
        let secret = token.rsplit('_').next().unwrap();
        assert!(!log.contains(secret) && !log.contains(&secret[..16]), "the log tells a token");
    }
    all.into_iter().for_each(Systole::stop);
}

#[test]
fn a_cookie_that_came_over_tls_goes_over_tls_alone() {
    let world = World::on(Buffer::Embedded);
    let (_, admin) = {
        // The first one makes the dataset.
        let made = world.books(&["token", "create", "--json", "--partitions=4", "--scope=admin"]).run().expect_code(0);
        ((), made.json()["token"].as_str().unwrap().to_owned())
    };
    let all = running(&world, &["--trusted-proxies=127.0.0.0/8"]);
    let browser = Browser::at(&all[0]);
    let set = |request: RequestBuilder| {
        let answer = request.send().unwrap();
        answer.headers()["set-cookie"].to_str().unwrap().to_owned()
    };
    assert!(!set(browser.login(&admin)).contains("Secure"));
    assert!(set(browser.login(&admin).header("x-forwarded-proto", "https")).ends_with("; Secure"));
    all.into_iter().for_each(Systole::stop);
}

#[test]
fn guesses_are_counted_against_their_address_and_looking_is_not() {
    let world = World::on(Buffer::Embedded);
    let made = world.books(&["token", "create", "--json", "--partitions=4", "--scope=admin"]).run().expect_code(0);
    let admin = made.json()["token"].as_str().unwrap().to_owned();
    let up = world.up().without("--address-rate").args(["--address-rate=1", "--address-burst=20"]).start();
    let browser = Browser::at(&up);
    let cookie = format!("systole_token={admin}");
    for _ in 0..50 {
        assert_eq!(browser.looks(&cookie), 200);
    }
    let mut answers: Vec<u16> = (0..15).map(|_| code(browser.login("a guess"))).collect();
    answers.extend((0..15).map(|_| browser.looks("systole_token=another")));
    assert_eq!((answers[0], answers[29]), (401, 429), "{answers:?}");
    assert_eq!(code(browser.login(&admin)), 429, "nor is a good one let in then");
    assert_eq!(browser.looks(&cookie), 200);
    let long = browser.post("/login", "application/json", " ".repeat(100_000));
    assert!([413, 429].contains(&code(long)));
    up.stop();
}

on_every_buffer! {
    every_number_is_that_of_the_metrics_and_the_ledger,
    heartbeats_a_second_are_told_while_they_flow,
    a_batcher_that_died_is_told_with_what_to_do,
    a_buffer_that_takes_no_pushes_is_the_only_problem_and_looked_at_all_the_same,
    a_full_buffer_is_told_by_partition,
    pushes_that_a_partition_has_no_room_for_are_a_problem_while_the_board_is_green,
    a_dead_letter_is_told_with_its_reason,
    a_silent_device_is_told_and_one_that_beats_is_not,
    nothing_is_gathered_while_nobody_looks_but_the_history,
    only_administrators_look_by_header_or_by_cookie,
}
