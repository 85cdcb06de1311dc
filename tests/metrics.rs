//! Metrics: what an operator must see is there, moves when it should, and is named as Prometheus asks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use serde_json::json;
use support::{Beats, Buffer, Metrics, SOON, World, on_every_buffer, wait};

/// Units that are not base units, as a name's last word or the last before `_total`.
const SCALED_UNITS: [&str; 8] = ["ms", "milliseconds", "us", "minutes", "hours", "kb", "mb", "percent"];

/// What is wrong with names, labels and texts by Prometheus' rules.
fn against_the_rules(metrics: &Metrics) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, kind) in &metrics.types {
        let mut fault = |what: &str| faults.push(format!("{name} ({kind}): {what}"));
        if !metrics.helped.contains(name) {
            fault("no help text");
        }
        if !name.starts_with("systole_") {
            fault("does not begin with systole_");
        }
        if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            fault("not in snake case");
        }
        if (kind == "counter") != name.ends_with("_total") {
            fault("counters, and only they, end in _total");
        }
        if ["_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
            fault("a suffix that belongs to histograms");
        }
        let words = name.trim_end_matches("_total");
        if SCALED_UNITS.iter().any(|unit| words.ends_with(&format!("_{unit}"))) {
            fault("a scaled unit");
        }
    }
    faults
}

/// Labels that name a user or a device, or whose values could be one.
fn telling_labels(metrics: &Metrics) -> Vec<String> {
    let tells = |(key, value): (&String, &String)| {
        ["user", "device"].iter().any(|word| key.contains(word) || value.starts_with(&format!("{word}-")))
    };
    metrics.samples.iter().filter(|s| s.labels.iter().any(tells)).map(|s| format!("{s:?}")).collect()
}

/// Fails unless each of these has a value above nothing.
fn assert_moved(who: &str, metrics: &Metrics, names: &[&str]) {
    for name in names {
        let value = metrics.sum(name).unwrap_or_else(|| panic!("{who} has no {name}"));
        assert!(value > 0.0, "{who}: {name} is {value}");
    }
}

fn assert_histogram(who: &str, metrics: &Metrics, name: &str) {
    assert_eq!(metrics.types.get(name).map(String::as_str), Some("histogram"), "{who}: {name}");
    assert_moved(who, metrics, &[&format!("{name}_count"), &format!("{name}_bucket")]);
}

fn every_role_shows_what_an_operator_must_see(buffer: Buffer) {
    let world = World::on(buffer);
    let limits = ["--user-rate=1", "--user-burst=100"];
    let mut collector = world.collector().door_args(limits).without_batcher().without_compactor().start();
    let client = collector.client();

    // While nobody drains: depth and bytes against the cap, and the age of the oldest.
    client.must_keep(&Beats::new(20, 2).take(100));
    let held = wait::value("the depth of the buffer", SOON, || {
        let metrics = collector.door().metrics();
        let depth = metrics.sum_where("systole_buffer_ledger_heartbeats", |labels| labels["column"] == "pending");
        if depth == Some(100.0) { Ok(metrics) } else { Err(format!("pending {depth:?}")) }
    });
    assert_moved("the door", &held, &["systole_buffer_heartbeats", "systole_buffer_bytes"]);
    assert_moved("the door", &held, &["systole_buffer_heartbeats_max", "systole_buffer_bytes_max"]);
    wait::until("an age of the oldest pending", SOON, || {
        collector.door().metrics().sum("systole_buffer_oldest_pending_age_seconds").is_some_and(|age| age > 0.0)
    });

    // Each kind of refusal has its code.
    let now = support::beats::now_ms();
    for (code, record) in [
        ("unknown_field", json!({ "user_id": "u", "device_id": "d", "timestamp": now, "tiemstamp": 1 })),
        ("missing_field", json!({ "user_id": "u", "timestamp": now })),
        ("timestamp_in_future", json!({ "user_id": "u", "device_id": "d", "timestamp": now + 30 * 86_400_000 })),
        ("timestamp_too_old", json!({ "user_id": "u", "device_id": "d", "timestamp": now - 40 * 86_400_000 })),
    ] {
        let answer = client.post_raw("application/json", record.to_string());
        assert_eq!(answer.status, 422, "{}", answer.text);
        let metrics = collector.door().metrics();
        let counted = metrics.sum_where("systole_heartbeats_rejected_total", |labels| labels["code"] == code);
        assert_eq!(counted, Some(1.0), "{code}: {}", answer.text);
    }
    let flood = Beats::days_ago(1, 1, 1);
    client.post_all(&flood.take(90));
    assert_eq!(client.post_all(&flood.take(90)).status, 429);
    let door = collector.door().metrics();
    assert_moved("the door", &door, &["systole_rate_limited_total", "systole_heartbeats_accepted_total"]);
    assert_histogram("the door", &door, "systole_http_request_seconds");

    // A batcher that condemns everything, then one that writes.
    collector.start_batcher_with("batcher.encode=panic*1");
    world.await_drained(SOON);
    let batch = collector.batcher().metrics();
    assert_moved("the batcher", &batch, &["systole_batcher_batches_total", "systole_batcher_fragments_total"]);
    assert_histogram("the batcher", &batch, "systole_batcher_claim_seconds");
    assert_histogram("the batcher", &batch, "systole_batcher_fragment_write_seconds");
    collector.start_compactor();
    world.await_published(SOON);
    let compact = collector.compactor().metrics();
    assert_moved(
        "the compactor",
        &compact,
        &["systole_compactor_publishes_total", "systole_compactor_rows_published_total"],
    );
    assert_histogram("the compactor", &compact, "systole_compactor_publish_seconds");

    for (who, metrics) in [("the door", door), ("the batcher", batch), ("the compactor", compact)] {
        support::oracle::fail_on(&format!("the names of {who}"), against_the_rules(&metrics));
        support::oracle::fail_on(&format!("the labels of {who}"), telling_labels(&metrics));
    }
}

fn dead_letters_are_counted_by_the_batcher_and_in_the_depth_of_the_buffer(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().batcher_failpoints("batcher.encode=panic").start();
    collector.client().must_keep(&Beats::new(5, 1).take(10));
    wait::until("dead letters in the metrics", SOON, || {
        let metrics = collector.door().metrics();
        metrics.sum_where("systole_buffer_ledger_heartbeats", |labels| labels["column"] == "dead") == Some(10.0)
    });
    assert_eq!(collector.batcher().metrics().sum("systole_batcher_condemned_rows_total"), Some(10.0));
}

on_every_buffer! {
    every_role_shows_what_an_operator_must_see,
    dead_letters_are_counted_by_the_batcher_and_in_the_depth_of_the_buffer,
}
