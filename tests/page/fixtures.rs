//! Answers of `/v1/status` that are hard to come by, put in place of the real ones in the browser. The page, its policy and its
//! scripts are still those that the server sends.

use serde_json::{Value, json};

use crate::support::beats::now_ms;
use crate::support::{Browser, Buffer, Systole, World};

const PARTITIONS: u64 = 16;
const CAP: u64 = 62_500;
const BATCHERS: [&str; 2] = ["019aab10-0a00-7000-8000-0000000000aa", "019aab10-0a00-7000-8000-0000000000bb"];

/// A browser whose pages are answered what the test puts in `answers`; questions are noted in `asked`.
const STAND_IN: &str = r#"
    window.answers = {};
    window.asked = [];
    const real = window.fetch;
    window.fetch = async (path, options) => {
      window.asked.push({ path, at: performance.now() });
      const answer = window.answers[path];
      if (answer === undefined) return real(path, options);
      if (answer === null) throw new TypeError("out of reach");
      const { status, body } = answer;
      return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
    };
"#;

/// A page that is answered by fixtures, on a server that is real.
pub struct Stage {
    pub browser: Browser,
    up: Option<Systole>,
    _world: World,
}

impl Stage {
    pub fn set_or_skip(what: &str) -> Option<Self> {
        let browser = Browser::start_or_skip(what)?;
        let world = World::on(Buffer::Embedded);
        let up = world.up().start();
        browser.prepare(STAND_IN);
        Some(Self { browser, up: Some(up), _world: world })
    }

    /// Opens the page with these answers, and waits until it has shown them.
    pub fn show(&self, status: &Value) {
        self.show_with(&answer(200, status));
        self.browser.await_text("#fresh-text", &[":"]);
    }

    /// The same with any answer to the first question.
    pub fn show_with(&self, first: &Value) {
        // Before the page's scripts, which are modules and so come late; the next page gets its own.
        self.browser.prepare(&format!(
            "window.answers['/v1/status'] = {first}; window.answers['/v1/status/history'] = {};",
            answer(200, &history())
        ));
        self.browser.open(&format!("{}/", self.up.as_ref().unwrap().url()));
    }

    /// What is answered from now on.
    pub fn answer(&self, path: &str, answer: &Value) {
        self.browser.run(&format!("window.answers['{path}'] = {answer}"));
    }

    pub fn finish(mut self, expected: &[&str]) {
        self.browser.finish(expected);
        self.up.take().unwrap().stop();
    }
}

pub fn answer(status: u16, body: &Value) -> Value {
    json!({"status": status, "body": body})
}

fn partition(n: u64) -> Value {
    json!({
        "partition": n, "heartbeats": 200 + n, "heartbeats_max": CAP, "bytes": 14_000, "bytes_max": 4_194_304,
        "oldest_pending_s": 1.5, "claim_age_s": 0.4, "owner": BATCHERS[(n % 2) as usize], "dead": 0,
    })
}

/// A busy collector, and all is well.
pub fn well() -> Value {
    let now = now_ms();
    let partitions: Vec<Value> = (0..PARTITIONS).map(partition).collect();
    let held = |of: u64| (0..PARTITIONS).filter(|n| n % 2 == of).collect::<Vec<_>>();
    let publishes: Vec<Value> = (0..8)
        .map(|n| json!({"at": now - 12_000 - n * 4_000, "date": day(now), "partition": n, "rows": 4_100 + n, "bytes": 70_000}))
        .collect();
    let days: Vec<Value> = (0..28)
        .map(|n| json!({"date": day(now - (27 - n) * 86_400_000), "rows": 900_000 + n * 1_000, "bytes": 15_000_000, "files": 3}))
        .collect();
    json!({
        "now": now, "version": "0.1.0", "role": "up", "uptime_s": 93_784,
        "verdict": {"well": true, "problems": []},
        "rates": {"in": 1204.3, "out": 1198.2, "published": 1190.0},
        "refused": [{"reason": "rate_limited", "heartbeats": 812}, {"reason": "unknown_field", "heartbeats": 12}],
        "buffer": {
            "kind": "embedded", "durability": "always", "looked_s": 0, "heartbeats": 3_320, "heartbeats_max": 1_000_000,
            "bytes": 224_000, "bytes_max": 67_108_864, "oldest_pending_s": 1.5, "partitions": partitions,
        },
        "batchers": [
            {"id": BATCHERS[0], "seen_s": 0.4, "alive": true, "partitions": held(0)},
            {"id": BATCHERS[1], "seen_s": 0.9, "alive": true, "partitions": held(1)},
        ],
        "files": {
            "complete": true, "fragments": 34, "fragment_rows": 41_200, "fragment_bytes": 811_000, "oldest_fragment_s": 41,
            "published_files": 112, "published_rows": 27_481_201, "published_bytes": 467_180_417, "quarantined": 0,
            "last_publishes": publishes, "days": days,
            "disk": {"free_bytes": 62_600_000_000_u64, "total_bytes": 268_435_456_000_u64, "min_free_bytes": 536_870_912},
        },
        "files_unknown": null,
        "dead_letters": {"heartbeats": 0, "letters": [], "more": false},
        "silent": {"after_s": 300, "devices": [], "more": false},
        "books": {
            "accepted": 28_144_210, "pending": 3_320, "claimed": 1_200, "acked": 28_139_690, "dead": 0, "dropped": 0,
            "balanced": true, "files": {"staged": 41_200, "merged": 28_098_490, "quarantined": 0, "balanced": true},
        },
    })
}

/// The UTC date of an instant.
fn day(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string()[..10].to_owned()
}

/// Everything that can be wrong, at once.
pub fn wrong() -> Value {
    let mut status = well();
    let now = status["now"].as_i64().unwrap();
    status["verdict"] = json!({"well": false, "problems": [
        {"part": "batchers", "detail": "a batcher gave no sign of life for 43 s", "advice": "Start `systole batch` again."},
        {"part": "buffer", "detail": "partition 3 is full", "advice": "It drains once a batcher takes it."},
        {"part": "dead letters", "detail": "21 heartbeats can never be written", "advice": "See `systole dead-letters list`."},
    ]});
    let buffer = &mut status["buffer"];
    buffer["heartbeats"] = json!(861_000);
    buffer["partitions"][1]["heartbeats"] = json!(CAP * 9 / 10);
    buffer["partitions"][3]["heartbeats"] = json!(CAP);
    buffer["partitions"][7]["dead"] = json!(21);
    for n in (1..PARTITIONS as usize).step_by(2) {
        buffer["partitions"][n]["owner"] = Value::Null;
    }
    status["batchers"][1] = json!({"id": BATCHERS[1], "seen_s": 43.2, "alive": false, "partitions": []});
    let letter = |id: &str, rows: u64, reason: &str| json!({"id": id, "partition": 7, "rows": rows, "since": now - 7_200_000, "reason": reason});
    status["dead_letters"] = json!({"heartbeats": 21, "more": false, "letters": [
        letter("019aab12-1111-7000-8000-00000000aaaa", 20, "the checksum does not match what the frame holds"),
        letter("019aab12-1111-7000-8000-00000000bbbb", 1, "a row that no writer takes"),
    ]});
    let silent =
        |n: i64| json!({"user_id": format!("user-{n:02}"), "device_id": "phone", "last_seen": now - 400_000 * n});
    status["silent"] = json!({"after_s": 300, "more": true, "devices": (1..21).map(silent).collect::<Vec<_>>()});
    status["files"]["quarantined"] = json!(1);
    status["files"]["disk"]["free_bytes"] = json!(412_000_000);
    status["books"]["balanced"] = json!(false);
    status
}

/// A collector that was started a moment ago.
pub fn empty() -> Value {
    let mut status = well();
    status["uptime_s"] = json!(4);
    status["rates"] = json!({"in": null, "out": null, "published": null});
    status["refused"] = json!([]);
    let buffer = &mut status["buffer"];
    for of in ["heartbeats", "bytes"] {
        buffer[of] = json!(0);
    }
    buffer["oldest_pending_s"] = Value::Null;
    status["files"]["published_rows"] = json!(0);
    status["files"]["last_publishes"] = json!([]);
    status["files"]["days"] = json!([]);
    for of in ["accepted", "pending", "claimed", "acked"] {
        status["books"][of] = json!(0);
    }
    status
}

/// `serve`, which sees no files, at a moment when it sees nothing else either.
pub fn blind() -> Value {
    let mut status = well();
    status["role"] = json!("serve");
    status["files_unknown"] = json!("this process was started without `--data`");
    for part in ["buffer", "batchers", "files", "dead_letters", "silent", "books"] {
        status[part] = Value::Null;
    }
    status["rates"] = json!({"in": null, "out": null, "published": null});
    status
}

/// Names and reasons that would be markup, if anybody let them.
pub const HOSTILE: [&str; 6] = [
    "<img src=x onerror=\"window.robbed=1\">",
    "</script><script>window.robbed=1</script>",
    "\u{202e}gnp.tsil\" onfocus=\"window.robbed=1",
    "__proto__",
    "{{constructor.constructor('window.robbed=1')()}}",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

pub fn hostile() -> Value {
    let mut status = wrong();
    let now = status["now"].as_i64().unwrap();
    let device = |name: &str| json!({"user_id": name, "device_id": name, "last_seen": now - 600_000});
    status["silent"]["devices"] = HOSTILE.iter().map(|name| device(name)).collect();
    status["dead_letters"]["letters"][0]["reason"] = json!(HOSTILE.join(" "));
    status["verdict"]["problems"][0]["detail"] = json!(HOSTILE.join(" "));
    status["refused"][0]["reason"] = json!(HOSTILE[0]);
    status
}

/// An hour with a gap in it.
pub fn history() -> Value {
    let point = |n: i64| if (100..120).contains(&n) { Value::Null } else { json!(1_000 + n % 40 * 10) };
    let points: Vec<Value> = (0..360).map(point).collect();
    json!({"step_s": 10, "until": now_ms(), "in": points, "out": points, "refused": points, "waiting": points})
}
