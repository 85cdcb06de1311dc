//! What becomes of records: kept, listed, refused.

use std::io::Write;
use std::time::Duration;

use systole::buffer::Error as Fault;
use systole::heartbeat::DatasetId;

use crate::harness::{Edge, bulk, record, send};

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_form_of_body_is_kept_whole() {
    let edge = Edge::start().await;
    let (a, b) = (record("a"), record("b"));
    let array = format!("[{a},{b}]");
    let lines = format!("{a}\n\n{b}\n");
    // Long enough to be worked on away from the connection's thread, plain as well as compressed.
    let long = bulk("long", 2_000);
    type Form<'a> = (&'a str, Vec<u8>, &'a [(&'a str, &'a str)], usize);
    let forms: Vec<Form<'_>> = vec![
        ("an object", a.clone().into(), &[("content-type", "application/json")], 1),
        ("an object without a type", a.clone().into(), &[], 1),
        ("an array", array.clone().into(), &[("content-type", "application/json; charset=utf-8")], 2),
        ("lines", lines.clone().into(), &[("content-type", "application/x-ndjson")], 2),
        ("gzip", gzip(array.as_bytes()), &[("content-encoding", "gzip")], 2),
        ("gzip in members", [gzip(b"["), gzip(&array.as_bytes()[1..])].concat(), &[("content-encoding", "gzip")], 2),
        ("zstd", zstd::encode_all(array.as_bytes(), 3).unwrap(), &[("content-encoding", "zstd")], 2),
        ("identity", array.into(), &[("content-encoding", "identity")], 2),
        ("long", long.clone().into(), &[], 2_000),
        ("long gzip", gzip(long.as_bytes()), &[("content-encoding", "gzip")], 2_000),
        ("long zstd", zstd::encode_all(long.as_bytes(), 3).unwrap(), &[("content-encoding", "zstd")], 2_000),
    ];
    let mut held = 0;
    for (name, body, headers, count) in forms {
        let mut request = edge.client.post(edge.url("/v1/heartbeats")).body(body);
        for (header, value) in headers {
            request = request.header(*header, *value);
        }
        let answer = send(request).await;
        assert_eq!(answer.status, 202, "{name}: {}", answer.json);
        assert_eq!(answer.json, serde_json::json!({"accepted": count, "rejected": []}), "{name}");
        held += count;
        assert_eq!(edge.recorder.users().len(), held, "{name}");
    }
    assert_eq!(edge.metric("systole_heartbeats_accepted_total"), Some(held as f64));
    edge.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_held_as_it_was_sent() {
    let body = r#"{"user_id":"u","device_id":"d","timestamp":"2026-01-01T00:00:00Z","id":"k","attributes":{"a": 1}}"#;
    let edge = Edge::with(|options, _| options.max_age = Duration::from_secs(1 << 40).into()).await;
    assert_eq!(send(edge.post(body)).await.status, 202);
    let held = edge.recorder.held();
    assert_eq!(
        (held[0].user_id.as_str(), held[0].device_id.as_str(), held[0].timestamp),
        ("u", "d", 1_767_225_600_000)
    );
    assert_eq!((held[0].id.as_deref(), held[0].attributes.as_deref()), (Some("k"), Some(r#"{"a": 1}"#)));
    assert!(held[0].received_at > 1_767_225_600_000);
    edge.stop().await;
}

#[tokio::test]
async fn a_lenient_bulk_keeps_the_good_and_lists_the_bad() {
    let edge = Edge::start().await;
    let body = format!("{}\n{{oops\n{}\n{{}}\n7", record("a"), record("b"));
    let request =
        edge.client.post(edge.url("/v1/heartbeats")).header("Content-Type", "application/x-ndjson").body(body);
    let answer = send(request).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &2.into()));
    assert_eq!(answer.rejected_codes(), [(1, "malformed_json"), (3, "missing_field"), (4, "not_an_object")]);
    assert_eq!(answer.json["rejected"][0]["retryable"], false);
    assert_eq!(edge.recorder.users(), ["a", "b"]);
    assert_eq!(edge.metric(r#"systole_heartbeats_rejected_total{code="missing_field"}"#), Some(1.0));
    edge.stop().await;
}

#[tokio::test]
async fn a_strict_bulk_keeps_all_or_nothing() {
    let edge = Edge::start().await;
    let mixed = format!("[{},{{}},{}]", record("a"), record("b"));
    let answer = send(edge.post(mixed).header("Prefer", "handling=strict")).await;
    assert_eq!((answer.status, answer.problem()), (422, "strict-refused"));
    assert_eq!(answer.header("preference-applied"), "handling=strict");
    assert_eq!(answer.rejected_codes(), [(1, "missing_field")]);
    assert_eq!(answer.json["accepted"], 0);
    assert_eq!(edge.recorder.users(), Vec::<String>::new());

    let good = format!("[{},{}]", record("a"), record("b"));
    let answer = send(edge.post(good).header("Prefer", "respond-async, handling=strict")).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, "handling=strict"));
    assert_eq!(edge.recorder.users(), ["a", "b"]);
    edge.stop().await;
}

#[tokio::test]
async fn a_body_without_a_good_record_is_told_why() {
    let edge = Edge::with(|options, _| options.max_bulk = 3).await;
    let cases = [
        (String::from("[{},7]"), 422, "none-accepted"),
        (String::from("{}"), 422, "none-accepted"),
        (String::from("[]"), 422, "empty"),
        (String::new(), 422, "empty"),
        (String::from("{"), 400, "malformed-body"),
        (String::from("[1,"), 400, "malformed-body"),
        (bulk("u", 4), 413, "too-many-heartbeats"),
    ];
    for (body, status, problem) in cases {
        let answer = send(edge.post(body.clone())).await;
        assert_eq!((answer.status, answer.problem()), (status, problem), "{body}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["status"], status);
        assert_eq!(answer.json["instance"], answer.header("x-request-id"));
        assert!(!answer.json["detail"].as_str().unwrap().is_empty());
    }
    assert_eq!(edge.recorder.users(), Vec::<String>::new());
    assert_eq!(edge.metric(r#"systole_heartbeats_rejected_total{code="malformed_json"}"#), Some(2.0));
    edge.stop().await;
}

#[tokio::test]
async fn a_fault_of_the_buffer_is_503_with_retry_after_and_never_202() {
    let edge = Edge::start().await;
    let faults = [
        (Fault::Full { partition: 1 }, "buffer-full"),
        (Fault::TimedOut { after: Duration::from_secs(1) }, "buffer-timeout"),
        (Fault::Unreachable { reason: "secret-host:6379".into() }, "buffer-unreachable"),
        (Fault::Refused { reason: "LOADING".into() }, "buffer-refused"),
        (Fault::TooFewReplicas { have: 0, want: 1 }, "too-few-replicas"),
        (Fault::NotRegistered, "buffer-not-registered"),
        (Fault::ForeignDataset { expected: DatasetId::new(), found: "other".into() }, "foreign-buffer"),
        (Fault::Corrupt { detail: "odd".into() }, "buffer-unusable"),
    ];
    for (fault, problem) in faults {
        edge.recorder.fail_with(Some(fault));
        let answer = send(edge.post(record("u"))).await;
        assert_eq!((answer.status, answer.problem()), (503, problem));
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{problem}");
        assert!(!answer.json.to_string().contains("secret-host"), "what the buffer said stays inside");
    }
    edge.recorder.fail_with(None);
    assert_eq!(send(edge.post(record("u"))).await.status, 202);
    assert_eq!(edge.metric("systole_heartbeats_accepted_total"), Some(1.0));
    edge.stop().await;
}
