//! Who may write and read: by tokens, made and revoked beside running servers, on both buffers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use serde_json::Value;
use support::{Beat, Buffer, Launch, RedisServer, SOON, Systole, World, on_every_buffer, wait};

/// Seconds, as the promise has it: with the settings that users have.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);
const QUICK: &str = "--token-refresh=100ms";

fn http() -> Http {
    Http::builder().timeout(SOON).no_proxy().build().unwrap()
}

/// An answer as bytes: what tells one from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn of(request: RequestBuilder) -> Self {
        let response = request.header("x-request-id", "the-same").send().unwrap();
        let status = response.status().as_u16();
        let mut headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        Self { status, headers, body: response.text().unwrap() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.trim_start_matches("urn:systole:problem:").to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A door and whoever asks at it.
struct Door<'a> {
    at: &'a Systole,
    http: Http,
}

impl<'a> Door<'a> {
    fn of(at: &'a Systole) -> Self {
        Self { at, http: http() }
    }

    fn post(&self, token: Option<&str>, users: &[&str], strict: bool) -> Answer {
        let now = support::beats::now_ms();
        let beats: Vec<Value> = (0..).zip(users).map(|(n, user)| Beat::at(user, "device", now - n).json()).collect();
        let mut request = self.http.post(format!("{}/v1/heartbeats", self.at.url()));
        if strict {
            request = request.header("prefer", "handling=strict");
        }
        let request = request.header("content-type", "application/json").body(Value::Array(beats).to_string());
        Answer::of(with(request, token))
    }

    fn get(&self, token: Option<&str>, path: &str) -> Answer {
        Answer::of(with(self.http.get(format!("{}{path}", self.at.url())), token))
    }

    fn status(&self, token: Option<&str>) -> u16 {
        self.post(token, &["ada"], false).status
    }

    fn await_status(&self, token: Option<&str>, status: u16) {
        wait::value(&format!("{status} from the door"), SOON, || {
            let answer = self.post(token, &["ada"], false);
            if answer.status == status { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Waits until it knows so many tokens, this one among them.
    fn await_known(&self, admin: &str, tokens: usize) {
        wait::until(&format!("{tokens} tokens to be known"), SOON, || {
            let metrics = self.get(Some(admin), "/metrics");
            metrics.status == 200 && metrics.body.contains(&format!("systole_auth_tokens {tokens}\n"))
        });
    }

    fn metric(&self, admin: &str, series: &str) -> f64 {
        let text = self.get(Some(admin), "/metrics").body;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn with(request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
}

/// `up`, or `serve` with a `batch` that has registered the buffer.
fn running(world: &World, flags: &[&str]) -> Vec<Systole> {
    let flags = flags.iter().copied();
    match world.kind() {
        Buffer::Embedded => vec![world.up().args(flags).start()],
        Buffer::Redis => {
            let batch = world.batch().args([QUICK]).start();
            let serve = world.serve().args(flags).start();
            serve.await_status("/health/ready", 200, SOON);
            vec![serve, batch]
        }
    }
}

fn stop(all: Vec<Systole>) {
    all.into_iter().for_each(Systole::stop);
}

/// `systole token create …`: the id and the whole text.
fn create(world: &World, words: &[&str]) -> (String, String) {
    // The first one of an embedded buffer makes its dataset.
    let born: &[&str] = if world.kind() == Buffer::Embedded { &["--partitions=4"] } else { &[] };
    let words = [&["token", "create", "--json"], words, born].concat();
    let made = world.books(&words).run().expect_code(0).json();
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

fn revoke(world: &World, id: &str) {
    world.books(&["token", "revoke", id]).run().expect_code(0);
}

fn everyone_without_a_good_token_is_turned_away_alike(buffer: Buffer) {
    let world = World::on(buffer);
    let all = running(&world, &[QUICK]);
    let door = Door::of(&all[0]);
    assert_eq!(door.status(None), 202, "no token is needed where there is none");

    let (_, good) = create(&world, &["--scope=write", "--user=ada"]);
    let (_, admin) = create(&world, &["--scope=admin"]);
    let (revoked_id, revoked) = create(&world, &["--scope=write", "--user=ada", "--note=an old phone"]);
    let (_, expired) = create(&world, &["--scope=write", "--user=ada", "--expires=2s"]);
    door.await_status(None, 401);
    door.await_known(&admin, 4);
    assert_eq!(door.status(Some(&good)), 202);
    assert_eq!(door.status(Some(&revoked)), 202);
    revoke(&world, &revoked_id);
    door.await_status(Some(&revoked), 401);
    door.await_status(Some(&expired), 401);

    let before = |reason: &str| door.metric(&admin, &format!("systole_auth_refused_total{{reason=\"{reason}\"}}"));
    let reasons = ["missing", "malformed", "unknown", "wrong", "expired"];
    let counted: Vec<f64> = reasons.iter().map(|reason| before(reason)).collect();
    let missing = door.post(None, &["ada"], false);
    assert_eq!((missing.status, missing.problem().as_str()), (401, "unauthorized"));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"systole\""));
    let last = good.chars().last().unwrap();
    let wrong = format!("{}{}", &good[..good.len() - 1], if last == '0' { '1' } else { '0' });
    let unknown = good.replacen(&good[8..20], "000000000000", 1);
    for (what, token) in [
        ("malformed", "hunter2"),
        ("wrong", &wrong),
        ("unknown", &unknown),
        ("expired", &expired),
        ("revoked", &revoked),
    ] {
        assert_eq!(door.post(Some(token), &["ada"], false), missing, "{what}");
    }
    let moved: Vec<f64> = reasons.iter().zip(&counted).map(|(reason, counted)| before(reason) - counted).collect();
    assert_eq!(moved, [1.0, 1.0, 2.0, 1.0, 1.0], "{reasons:?}");
    assert_eq!(door.status(Some(&good)), 202);

    let telling = [&good, &admin, &revoked, &expired].map(|token| token[21..].to_owned());
    for process in &all {
        let said = process.log().join("\n") + &process.said();
        assert!(telling.iter().all(|secret| !said.contains(secret.as_str())), "a log tells a secret");
    }
    stop(all);
}

fn a_token_opens_what_its_scope_is_about_and_nothing_else(buffer: Buffer) {
    let world = World::on(buffer);
    let all = running(&world, &[QUICK]);
    let door = Door::of(&all[0]);
    let parts = |answer: &Answer| answer.json()["parts"].as_array().unwrap().len();
    assert!(parts(&door.get(None, "/health")) > 1 && door.get(None, "/metrics").status == 200);
    let (_, writer) = create(&world, &["--scope=write", "--all-users"]);
    let (_, reader) = create(&world, &["--scope=read", "--user=ada"]);
    let (_, admin) = create(&world, &["--scope=admin"]);
    let (_, both) = create(&world, &["--scope", "admin", "--scope", "write", "--user=ada"]);
    door.await_status(None, 401);
    door.await_known(&admin, 4);

    assert_eq!(door.post(Some(&writer), &["ada", "bob"], true).status, 202);
    for token in [&reader, &admin] {
        let refused = door.post(Some(token), &["ada"], false);
        assert_eq!((refused.status, refused.problem().as_str()), (403, "missing-scope"));
        assert!(refused.body.contains("`write`"), "{refused:?}");
    }
    assert_eq!(door.status(Some(&both)), 202);
    assert_eq!(door.get(None, "/metrics").status, 401);
    for (token, status) in [(&writer, 403), (&reader, 403), (&admin, 200), (&both, 200)] {
        assert_eq!(door.get(Some(token), "/metrics").status, status);
    }
    for (token, shown) in [(None, false), (Some(&writer), false), (Some(&reader), false), (Some(&admin), true)] {
        let token = token.map(String::as_str);
        for path in ["/health", "/health/ready"] {
            let health = door.get(token, path);
            assert!(health.status == 200 || path == "/health", "{health:?}");
            assert_eq!(parts(&health) > 0, shown, "{path} {health:?}");
        }
        assert_eq!(door.get(token, "/health/live").status, 200);
    }
    // Health and metrics of the processes that take nothing in.
    for process in &all[1..] {
        let door = Door::of(process);
        wait::until("it to know the tokens", SOON, || door.get(Some(&both), "/metrics").status == 200);
        let metrics = |token: Option<&String>| door.get(token.map(String::as_str), "/metrics").status;
        wait::until("it to know them all", SOON, || metrics(Some(&admin)) == 200 && metrics(None) == 401);
        assert_eq!(metrics(Some(&writer)), 403);
        assert_eq!(parts(&door.get(None, "/health")), 0);
    }
    stop(all);
}

fn a_token_of_some_users_writes_only_theirs(buffer: Buffer) {
    let world = World::on(buffer);
    let (_, token) = create(&world, &["--scope=write", "--user", "ada", "--user", "bob"]);
    let (_, admin) = create(&world, &["--scope=admin"]);
    // A limit that is used up by what is charged to it.
    let all = running(&world, &[QUICK, "--user-rate=1", "--user-burst=3"]);
    let door = Door::of(&all[0]);
    let codes = |answer: &Answer| -> Vec<(u64, String, bool)> {
        let listed = answer.json()["rejected"].as_array().cloned().unwrap_or_default();
        let code = |one: &Value| one["code"].as_str().unwrap().to_owned();
        listed.iter().map(|one| (one["index"].as_u64().unwrap(), code(one), one["retryable"] == true)).collect()
    };
    let forbidden = |indexes: &[u64]| -> Vec<(u64, String, bool)> {
        indexes.iter().map(|index| (*index, "forbidden_user".to_owned(), false)).collect()
    };

    let mixed = door.post(Some(&token), &["ada", "eve", "bob", "Ada"], false);
    assert_eq!((mixed.status, mixed.json()["accepted"].as_u64()), (202, Some(2)));
    assert_eq!(codes(&mixed), forbidden(&[1, 3]));
    for (users, strict, listed) in
        [(&["eve", "mallory"][..], false, &[0, 1][..]), (&["eve"], true, &[0]), (&["ada", "eve"], true, &[1])]
    {
        let refused = door.post(Some(&token), users, strict);
        assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden-user"), "{users:?}");
        assert_eq!(codes(&refused), forbidden(listed));
        assert_eq!(refused.header("retry-after"), None);
    }
    assert_eq!(door.metric(&admin, "systole_heartbeats_accepted_total"), 2.0);
    assert_eq!(door.metric(&admin, "systole_heartbeats_rejected_total{code=\"forbidden_user\"}"), 6.0);

    // What was refused of eve has not been charged to her.
    let (_, of_eve) = create(&world, &["--scope=write", "--user=eve"]);
    door.await_known(&admin, 3);
    assert_eq!(door.post(Some(&of_eve), &["eve"; 3], true).status, 202);
    stop(all);
}

fn a_revoked_token_is_turned_away_within_seconds_by_every_server(buffer: Buffer) {
    let world = World::on(buffer);
    let (id, token) = create(&world, &["--scope=write", "--user=ada"]);
    let mut all = running(&world, &[]);
    if buffer == Buffer::Redis {
        all.insert(1, world.serve().start());
    }
    let doors: Vec<Door<'_>> = all.iter().take(if buffer == Buffer::Redis { 2 } else { 1 }).map(Door::of).collect();
    doors.iter().for_each(|door| door.await_status(Some(&token), 202));
    revoke(&world, &id);
    let began = Instant::now();
    for door in &doors {
        door.await_status(Some(&token), 401);
        assert_eq!(door.status(None), 401, "the last token is revoked, and the door stays shut");
    }
    assert!(began.elapsed() < REVOKED_WITHIN, "it took {:?}", began.elapsed());
    drop(doors);
    stop(all);
}

/// Asks for all heartbeats of ada, and for the moment takes no more than the head of the answer.
fn begin_reading(door: &Door<'_>, token: &str) -> Response {
    let http = Http::builder().timeout(4 * SOON).no_proxy().build().unwrap();
    let request = http.get(format!("{}/v1/users/ada/heartbeats", door.at.url()));
    let answer = with(request, Some(token)).header("accept", "application/x-ndjson").send().unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// Takes the rest. Whether it came to its end, and how many bytes it was.
fn read_on(mut answer: Response) -> (bool, u64) {
    let mut taken = 0;
    let mut piece = [0; 64 << 10];
    loop {
        match answer.read(&mut piece) {
            Ok(0) => return (true, taken),
            Ok(length) => taken += length as u64,
            Err(_) => return (false, taken),
        }
    }
}

fn a_reading_ends_with_its_token(buffer: Buffer) {
    let world = World::on(buffer);
    let data = format!("--data={}", world.dataset().display());
    let mut flags = vec![QUICK];
    if buffer == Buffer::Redis {
        // Makes the dataset, which the door is to see.
        world.register();
        flags.push(&data);
    }
    let (_, writer) = create(&world, &["--scope=write", "--user=ada"]);
    let all = running(&world, &flags);
    let door = Door::of(&all[0]);
    door.await_status(Some(&writer), 202);
    // Far more than the system takes for a client that reads nothing.
    let now = support::beats::now_ms();
    for bulk in 0..4 {
        let attributes = serde_json::json!({ "n": "x".repeat(4_000) });
        let beats =
            (0..1_500).map(|n| Beat::at("ada", "device", now - bulk * 1_500 - n).attributes(attributes.clone()));
        let body = Value::Array(beats.map(|beat| beat.json()).collect()).to_string();
        let request = door.http.post(format!("{}/v1/heartbeats", all[0].url())).body(body);
        let answer = Answer::of(with(request, Some(&writer)).header("content-type", "application/json"));
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    let (_, patient) = create(&world, &["--scope=read", "--user=ada"]);
    let (id, revoked) = create(&world, &["--scope=read", "--user=ada"]);
    let reads = |token: &str| door.get(Some(token), "/v1/users/ada/heartbeats?limit=1").status;
    wait::until("the tokens to be known", SOON, || reads(&revoked) == 200 && reads(&patient) == 200);
    let (whole, all_of_it) = read_on(begin_reading(&door, &patient));
    assert!(whole && all_of_it > 24_000_000, "{all_of_it} bytes");

    let began = Instant::now();
    let reading = begin_reading(&door, &revoked);
    revoke(&world, &id);
    wait::until("the revocation to be known", SOON, || reads(&revoked) == 401);
    let (whole, taken) = read_on(reading);
    assert!(!whole && taken < all_of_it / 2, "{taken} bytes were read with a revoked token, to the end: {whole}");

    // Long enough for a reading to begin before it expires, on a slow machine as well.
    let expires = format!("--expires={}s", 4 + 2 * began.elapsed().as_secs());
    let (_, brief) = create(&world, &["--scope=read", "--user=ada", &expires]);
    wait::until("the token to be known", SOON, || reads(&brief) == 200);
    let reading = begin_reading(&door, &brief);
    wait::until("the token to expire", 4 * SOON, || reads(&brief) == 401);
    let (whole, taken) = read_on(reading);
    assert!(!whole && taken < all_of_it / 2, "{taken} bytes were read with an expired token, to the end: {whole}");
    stop(all);
}

fn a_collector_that_others_reach_is_refused_without_a_token(buffer: Buffer) {
    let world = World::on(buffer);
    let everywhere = |launch: Launch| launch.args(["--listen=0.0.0.0:0", QUICK]);
    let door = || match buffer {
        Buffer::Embedded => world.up(),
        Buffer::Redis => world.serve(),
    };
    let advice = ["other machines reach", "systole token create", "--allow-anonymous"];
    everywhere(door()).refused(2, &advice);
    door().args(["--listen=[::]:0"]).refused(2, &advice);
    let open = everywhere(door()).args(["--allow-anonymous"]).start();
    if buffer == Buffer::Embedded {
        assert_eq!(Door::of(&open).status(None), 202);
    }
    open.stop();
    if buffer == Buffer::Redis {
        everywhere(world.batch()).refused(2, &advice);
        world.watch().args(["--listen=0.0.0.0:0"]).refused(2, &["--allow-anonymous", "knows no tokens"]);
        world.watch().args(["--listen=0.0.0.0:0", "--allow-anonymous"]).start().stop();
    }

    let (_, token) = create(&world, &["--scope=write", "--user=ada"]);
    let batch = (buffer == Buffer::Redis).then(|| everywhere(world.batch()).start());
    let shut = everywhere(door()).start();
    Door::of(&shut).await_status(Some(&token), 202);
    assert_eq!(Door::of(&shut).status(None), 401);
    assert!(shut.log().iter().any(|line| line.contains("without TLS")), "a warning");
    shut.stop();
    batch.into_iter().for_each(Systole::stop);
}

fn what_is_kept_of_a_token_is_of_no_use_to_whoever_reads_it(buffer: Buffer) {
    let world = World::on(buffer);
    let (id, token) = create(&world, &["--scope=write", "--user=ada", "--note=in the hall"]);
    let secret = &token[21..];
    let raw: Vec<u8> =
        (0..secret.len()).step_by(2).map(|at| u8::from_str_radix(&secret[at..at + 2], 16).unwrap()).collect();
    let folder = match buffer {
        Buffer::Embedded => world.dataset().to_owned(),
        Buffer::Redis => PathBuf::from(world.redis().cli(&["CONFIG", "GET", "dir"]).lines().last().unwrap()),
    };
    let holds =
        |needle: &[u8]| files(&folder).iter().any(|content| content.windows(needle.len()).any(|at| at == needle));
    assert!(holds(id.as_bytes()) && holds(b"in the hall"), "the record is there");
    assert!(!holds(secret.as_bytes()) && !holds(&raw), "and the secret is not");

    let listed = world.books(&["token", "list"]).run().expect_code(0).stdout;
    assert!(listed.contains(&id) && listed.contains("in the hall") && !listed.contains(secret), "{listed}");
    let listed = world.books(&["token", "list", "--json"]).run().expect_code(0).json();
    assert_eq!((&listed[0]["id"], &listed[0]["users"][0]), (&Value::from(id), &Value::from("ada")));
    assert!(listed[0]["hash"].is_null(), "{listed}");
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(content) = std::fs::read(&path) {
            found.push(content);
        }
    }
    found
}

fn what_is_wrong_with_a_token_command_is_said_in_one_line(buffer: Buffer) {
    let world = World::on(buffer);
    let refused = |words: &[&str], code: i32, says: &[&str]| {
        world.books(&[&["token"], words].concat()).refused(code, says);
    };
    refused(&["create", "--scope=write"], 2, &["--user", "--all-users"]);
    refused(&["create", "--scope=admin", "--user=ada"], 2, &["admin", "no users"]);
    refused(&["create", "--scope=rule", "--user=ada"], 2, &["rule", "write, read, admin"]);
    refused(&["create", "--user=ada"], 2, &["--scope"]);
    refused(&["create", "--scope=write", "--user=a\tb"], 2, &["control"]);
    refused(&["create", "--scope=write", "--user=ada", "--expires=yesterday"], 2, &["--expires", "30days"]);
    refused(&["create", "--scope=write", "--user=ada", "--expires=2020-01-01T00:00:00Z"], 2, &["expires", "ahead"]);
    let (id, _) = create(&world, &["--scope=write", "--user=ada"]);
    refused(&["revoke", "0123"], 2, &["0123", "12 hexadecimal digits"]);
    let unknown = "000000000000";
    let both = world.books(&["token", "revoke", unknown, &id]).run().expect_code(2);
    assert!(both.stdout.contains(&format!("revoked {id}")) && both.stderr.contains(unknown), "{both:?}");
    assert!(both.stderr.contains("revoked a token"), "the audit trail: {}", both.stderr);
    refused(&["revoke", &id], 2, &["there is no token", &id]);
    assert_eq!(world.books(&["token", "list", "--json"]).run().expect_code(0).json(), Value::Array(Vec::new()));
}

on_every_buffer! {
    everyone_without_a_good_token_is_turned_away_alike,
    a_token_opens_what_its_scope_is_about_and_nothing_else,
    a_token_of_some_users_writes_only_theirs,
    a_revoked_token_is_turned_away_within_seconds_by_every_server,
    a_reading_ends_with_its_token,
    a_collector_that_others_reach_is_refused_without_a_token,
    what_is_kept_of_a_token_is_of_no_use_to_whoever_reads_it,
    what_is_wrong_with_a_token_command_is_said_in_one_line,
}

#[test]
fn an_erased_redis_opens_no_door() {
    let world = World::on(Buffer::Redis);
    let (_, token) = create(&world, &["--scope=write", "--user=ada"]);
    let (_, admin) = create(&world, &["--scope=admin"]);
    let all = running(&world, &[QUICK]);
    let door = Door::of(&all[0]);
    door.await_status(Some(&token), 202);
    world.redis().cli(&["FLUSHALL"]);
    let shut = wait::value("the door to notice", SOON, || {
        let answer = door.post(None, &["ada"], false);
        if answer.status == 503 { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(shut.problem(), "tokens-unavailable");
    assert!(shut.header("retry-after").is_some());
    assert_eq!((door.status(Some(&token)), door.get(Some(&admin), "/metrics").status), (503, 503));
    assert_eq!(door.get(None, "/health/ready").status, 503);
    wait::holds_for("no answer but a refusal", Duration::from_millis(500), || {
        let status = door.status(None);
        if status == 503 { Ok(()) } else { Err(format!("{status}")) }
    });
    assert!(all[0].log().iter().any(|line| line.contains("tokens were erased")), "an alarm");

    let (_, anew) = create(&world, &["--scope=admin"]);
    wait::until("a new token to be taken", SOON, || door.get(Some(&anew), "/metrics").status == 200);
    assert_eq!((door.status(None), door.status(Some(&token))), (401, 401));
    stop(all);
}

/// What it tells may be long past: who was revoked since, who is alive.
#[test]
fn a_redis_that_was_demoted_under_a_running_door_answers_nobody() {
    let world = World::on(Buffer::Redis);
    let (_, token) = create(&world, &["--scope=write", "--user=ada"]);
    let (_, reader) = create(&world, &["--scope=read", "--all-users"]);
    let (_, admin) = create(&world, &["--scope=admin"]);
    let all = running(&world, &[QUICK, "--token-stale-after=1s"]);
    let door = Door::of(&all[0]);
    door.await_status(Some(&token), 202);
    let paths = ["/v1/users/ada/devices", "/v1/silent"];
    for path in paths {
        assert_eq!(door.get(Some(&reader), path).status, 200, "{path}");
    }

    world.redis().cli(&["REPLICAOF", "127.0.0.1", "1"]);
    for path in paths {
        let answer = door.get(Some(&reader), path);
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
    }
    let tokens = || {
        let health = door.get(Some(&admin), "/health").json();
        let part = health["parts"].as_array().and_then(|parts| parts.iter().find(|part| part["name"] == "tokens"));
        part.map_or_else(|| health.to_string(), Value::to_string)
    };
    wait::value("a word of the tokens", SOON, || {
        let said = tokens();
        if said.contains("READONLY") && said.contains("last read") { Ok(()) } else { Err(said) }
    });

    world.redis().cli(&["REPLICAOF", "NO", "ONE"]);
    wait::until("the tokens to be read again", SOON, || tokens().contains("3 known"));
    for path in paths {
        assert_eq!(door.get(Some(&reader), path).status, 200, "{path}");
    }
    stop(all);
}

#[test]
fn a_door_that_has_not_read_the_tokens_yet_lets_nobody_in() {
    let mut world = World::on(Buffer::Redis);
    world.register();
    let (_, token) = create(&world, &["--scope=write", "--user=ada"]);
    world.redis_mut().kill();
    for listen in ["--listen=127.0.0.1:0", "--listen=0.0.0.0:0"] {
        let serve = world.serve().args([listen, QUICK]).start();
        let door = Door::of(&serve);
        for token in [None, Some(token.as_str())] {
            let answer = door.post(token, &["ada"], false);
            assert_eq!((answer.status, answer.problem().as_str()), (503, "tokens-unavailable"));
        }
        assert_eq!((door.get(None, "/metrics").status, door.get(None, "/health/ready").status), (503, 503));
        assert_eq!(door.get(None, "/health/live").status, 200);
        world.redis_mut().restart();
        door.await_status(Some(&token), 202);
        assert_eq!(door.status(None), 401);
        world.redis_mut().kill();
        // The last that was known stays in force.
        assert_eq!(door.status(None), 401);
        assert_eq!(door.post(Some(&token), &["ada"], false).problem(), "buffer-unreachable");
        serve.stop();
    }
    world.redis_mut().restart();
}

#[test]
fn a_serve_that_is_started_on_its_spill_knows_the_tokens_it_last_saw() {
    let mut world = World::on(Buffer::Redis);
    let spill = world.dataset().parent().unwrap().join("spill");
    let serve = |world: &World| {
        world
            .serve()
            .args([format!("--spill-dir={}", spill.display()), "--spill-after=500ms".into(), QUICK.into()])
            .start()
    };
    let (_, token) = create(&world, &["--scope=write", "--user=ada"]);
    let (gone, revoked) = create(&world, &["--scope=write", "--user=ada"]);
    let batch = world.batch().start();
    let mut first = serve(&world);
    first.await_status("/health/ready", 200, SOON);
    revoke(&world, &gone);
    Door::of(&first).await_status(Some(&revoked), 401);
    // Written right after the gate has it.
    let copy = spill.join("tokens.json");
    wait::until("the copy", SOON, || std::fs::read_to_string(&copy).is_ok_and(|text| !text.contains(&gone)));
    world.redis_mut().kill();
    first.sigkill();

    let second = serve(&world);
    let door = Door::of(&second);
    door.await_status(Some(&token), 202);
    assert_eq!((door.status(None), door.status(Some(&revoked))), (401, 401));
    world.redis_mut().restart();
    let (_, admin) = create(&world, &["--scope=admin"]);
    wait::until("the spill to be empty", SOON, || {
        let metrics = door.get(Some(&admin), "/metrics");
        metrics.status == 200 && metrics.body.contains("systole_spill_waiting_heartbeats 0")
    });
    stop(vec![second, batch]);
}

#[test]
fn a_drain_carries_the_tokens_over() {
    let world = World::on(Buffer::Redis);
    let data = format!("--data={}", world.dataset().display());
    let made = |launch: Launch| launch.run().expect_code(0).json()["token"].as_str().unwrap().to_owned();
    let make =
        |scope: &str| world.launch("token").args(["create", "--json", scope, "--user=ada", "--partitions=4", &data]);
    let token = made(make("--scope=write"));
    let up = world.up().args([QUICK]).start();
    let later = made(make("--scope=write"));
    Door::of(&up).await_status(Some(&later), 202);
    up.stop();
    // One that is there before.
    let (_, of_redis) = create(&world, &["--scope=write", "--user=ada"]);
    let buffer = format!("--buffer={}", world.redis().url());
    world.launch("drain").args([data, buffer]).run().expect_code(0);
    let all = running(&world, &[]);
    let door = Door::of(&all[0]);
    for token in [&token, &later, &of_redis] {
        assert_eq!(door.status(Some(token)), 202);
    }
    assert_eq!(door.status(None), 401);
    stop(all);
}

#[test]
fn a_folder_of_batch_is_not_taken_from_it_by_a_token() {
    let world = World::on_redis(RedisServer::start());
    let mut away = World::on_redis(RedisServer::start());
    away.redis_mut().kill();
    // It makes the dataset and waits for its Redis.
    let batch = away.batch().args([format!("--data={}", world.dataset().display())]).start();
    wait::until("the dataset", SOON, || world.dataset().join("dataset.json").exists());
    let data = format!("--data={}", world.dataset().display());
    world.launch("token").args(["create", "--scope=admin", &data]).refused(2, &["no buffer yet", "--buffer"]);
    batch.stop();
}
