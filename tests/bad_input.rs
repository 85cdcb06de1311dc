//! Bad input never harms: 4xx with the reason, nothing half-stored, no panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use serde_json::json;
use support::{Beat, Beats, Buffer, SOON, World, on_every_buffer};

fn bad_input_gets_a_4xx_with_the_reason_and_stores_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().start();
    let client = collector.client();
    let now = support::beats::now_ms();
    let with = |field: &str, value: serde_json::Value| {
        let mut record = json!({ "user_id": "u", "device_id": "d", "timestamp": now });
        record[field] = value;
        record.to_string()
    };
    let deep = (0..2_000).fold(String::new(), |inner, _| format!("[{inner}]"));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("application/json", b"".to_vec()),
        ("application/json", b"{".to_vec()),
        ("application/json", b"[]".to_vec()),
        ("application/json", b"null".to_vec()),
        ("application/json", b"\"text\"".to_vec()),
        ("application/json", b"\xff\xfe{}".to_vec()),
        ("application/json", deep.into_bytes()),
        ("application/json", with("user_id", json!("")).into()),
        ("application/json", with("user_id", json!("a\u{0}b")).into()),
        ("application/json", with("user_id", json!("x".repeat(129))).into()),
        ("application/json", with("user_id", json!(7)).into()),
        ("application/json", with("timestamp", json!(now / 1_000)).into()),
        ("application/json", with("timestamp", json!(1e300)).into()),
        ("application/json", with("timestamp", json!(i64::MIN)).into()),
        ("application/json", with("timestamp", json!("yesterday")).into()),
        ("application/json", with("timestamp", json!("2026-02-30T00:00:00Z")).into()),
        ("application/json", with("attributes", json!([1])).into()),
        ("application/json", with("attributes", json!({ "text": "x".repeat(5_000) })).into()),
        ("application/json", with("id", json!("")).into()),
        ("application/json", with("extra", json!(1)).into()),
        ("application/x-ndjson", b"\n\n".to_vec()),
        ("application/x-ndjson", b"{}\nnonsense\n".to_vec()),
        ("text/plain", b"hello".to_vec()),
        ("application/json", vec![b' '; 9 * 1024 * 1024]),
    ];
    for (content_type, body) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answer = client.post_raw(content_type, body);
        assert!((400..500).contains(&answer.status), "{} for {content_type} {shown}: {}", answer.status, answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        assert!(answer.body["type"].is_string(), "{shown}: {}", answer.text);
    }
    assert_eq!(collector.door().get("/health/live").unwrap().status, 200);
    // Counted behind all that went before it.
    client.must_keep(&[Beat::of("somebody", "device")]);
    assert_eq!(world.held("accepted"), 1);
    // Dropping the door fails the test if there is a panic in its log.
}

fn in_a_bulk_the_good_are_kept_and_the_bad_are_listed_unless_it_is_strict(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let client = collector.client();
    let mut beats = Beats::new(5, 1).take(4);
    beats[2] = Beat::at("user", "device", 5);
    let answer = client.post_lines(&beats);
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &3.into()), "{}", answer.text);
    assert_eq!(answer.body["rejected"][0]["index"], 2);
    assert_eq!(answer.body["rejected"][0]["retryable"], false);

    let mut strict = Beats::days_ago(5, 1, 1).take(4);
    strict[3] = Beat::at("user", "device", 5);
    let answer = client.post_strictly(&strict);
    assert_eq!(answer.status, 422, "{}", answer.text);
    world.await_drained(SOON);
    assert_eq!(world.publish().rows().count(), 3, "nothing of the strict bulk");
}

fn a_bomb_of_a_body_is_refused_by_its_inflated_size(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().start();
    // 64 MiB of blanks in a few kilobytes.
    let mut zstd = Vec::new();
    let mut encoder = zstd::Encoder::new(&mut zstd, 3).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 64 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 64 << 20), &mut gzip).unwrap();
    for (encoding, body) in [("zstd", zstd), ("gzip", gzip.finish().unwrap())] {
        let answer = collector.client().post_encoded(encoding, body);
        assert_eq!(answer.status, 413, "{encoding}: {}", answer.text);
    }
}

fn compressed_bulks_are_kept_like_plain_ones(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let client = collector.client();
    let beats = Beats::new(5, 1).take(60);
    let json = |beats: &[Beat]| serde_json::Value::Array(beats.iter().map(Beat::json).collect()).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, json(&beats[..30]).as_bytes()).unwrap();
    let zstd = zstd::encode_all(json(&beats[30..]).as_bytes(), 3).unwrap();
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
        let answer = client.post_encoded(encoding, body);
        assert_eq!((answer.status, &answer.body["accepted"]), (202, &30.into()), "{encoding}: {}", answer.text);
    }
    beats.iter().for_each(|beat| world.ledger.keep(beat));
    world.await_drained(SOON);
    world.publish();
}

on_every_buffer! {
    bad_input_gets_a_4xx_with_the_reason_and_stores_nothing,
    in_a_bulk_the_good_are_kept_and_the_bad_are_listed_unless_it_is_strict,
    a_bomb_of_a_body_is_refused_by_its_inflated_size,
    compressed_bulks_are_kept_like_plain_ones,
}
