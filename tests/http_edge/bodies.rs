//! Bodies that are too long, too slow, damaged or unwelcome.

use std::time::Duration;

use bytesize::ByteSize;

use crate::harness::{Edge, PATIENCE, Wire, bulk, record, send};
use crate::records::gzip;

#[tokio::test]
async fn what_is_not_taken_is_refused_by_name() {
    let edge = Edge::start().await;
    let cases = [
        ("content-type", "application/x-www-form-urlencoded", "unsupported-media-type"),
        ("content-type", "text/plain", "unsupported-media-type"),
        ("content-encoding", "br", "unsupported-encoding"),
        ("content-encoding", "gzip, zstd", "unsupported-encoding"),
    ];
    for (header, value, problem) in cases {
        let request = edge.client.post(edge.url("/v1/heartbeats")).header(header, value).body(record("u"));
        let answer = send(request).await;
        assert_eq!((answer.status, answer.problem()), (415, problem), "{value}");
        assert!(answer.json["detail"].as_str().unwrap().contains(value), "{}", answer.json);
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_bomb_is_stopped_at_the_bound() {
    let edge = Edge::start().await;
    let zeroes = vec![b' '; 256 << 20];
    for (encoding, bomb) in [("gzip", gzip(&zeroes)), ("zstd", zstd::encode_all(&zeroes[..], 19).unwrap())] {
        let answer = send(edge.post(bomb).header("Content-Encoding", encoding)).await;
        assert_eq!((answer.status, answer.problem()), (413, "body-too-large"), "{encoding}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_damaged_compressed_body_is_400() {
    let edge = Edge::start().await;
    let text = bulk("u", 2_000);
    for (encoding, whole) in [("gzip", gzip(text.as_bytes())), ("zstd", zstd::encode_all(text.as_bytes(), 3).unwrap())]
    {
        let cut = whole[..whole.len() - 3].to_vec();
        let longer = [&whole[..], b"garbage"].concat();
        for body in [cut, longer, b"no such thing".to_vec()] {
            let answer = send(edge.post(body).header("Content-Encoding", encoding)).await;
            assert_eq!((answer.status, answer.problem()), (400, "malformed-encoding"), "{encoding}");
        }
    }
    assert!(edge.recorder.users().is_empty());
    edge.stop().await;
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_read() {
    let edge = Edge::start().await;
    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: 8388609\r\n\r\n").await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(wire.is_closed().await);
    edge.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_on_can_still_read_why_it_was_refused() {
    let edge = Edge::start().await;
    let mut wire = Wire::open(&edge).await;
    let length = 12 << 20;
    wire.send(format!("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")).await;
    assert!(wire.try_send(vec![b' '; length]).await, "the connection was reset under the client's feet");
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    edge.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_stopped_at_the_bound_and_its_connection_closed() {
    let edge = Edge::with(|options, _| options.max_body = ByteSize::kib(64)).await;
    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("{:x}\r\n{}\r\n", 16 * 1024, " ".repeat(16 * 1024));
    for _ in 0..5 {
        wire.send(&chunk).await;
    }
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // The client never ends its body; the server must not read on for ever.
    assert!(wire.is_closed().await);
    edge.stop().await;
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408() {
    let edge = Edge::with(|options, _| options.body_deadline = Duration::from_millis(200).into()).await;
    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-timeout"), "{answer}");
    assert!(wire.is_closed().await);
    edge.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let edge = Edge::start().await;
    let mut wire = Wire::open(&edge).await;
    let head = format!("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}", record("u"));
    wire.send(head).await;
    drop(wire);
    // The next request sees the server alive; `stop` sees that the budget is whole again.
    assert_eq!(send(edge.post(record("v"))).await.status, 202);
    assert_eq!(edge.recorder.users(), ["v"]);
    edge.stop().await;
}

#[tokio::test]
async fn broken_chunks_are_400() {
    let edge = Edge::start().await;
    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot-hex\r\n").await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    edge.stop().await;
}

#[tokio::test]
async fn a_short_refused_body_leaves_the_connection_open() {
    let edge = Edge::start().await;
    let mut wire = Wire::open(&edge).await;
    for (content_type, status) in [("text/plain", 415), ("application/json", 400), ("text/plain", 415)] {
        let head = format!("Host: x\r\nContent-Type: {content_type}\r\nContent-Length: 5");
        wire.send(format!("POST /v1/heartbeats HTTP/1.1\r\n{head}\r\n\r\n")).await;
        wire.send("hello").await;
        let answer = wire.answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    edge.stop().await;
}

/// 60 KiB of records that do not get much shorter by being packed.
fn padded(user: &str) -> String {
    let mut state = 7_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (state >> 40) as u8 % 26)
    };
    let mut noisy = || {
        let noise: String = std::iter::repeat_with(&mut letter).take(4_000).collect();
        record(user).replace('}', &format!(r#","attributes":{{"k":"{noise}"}}}}"#))
    };
    format!("[{}]", std::iter::repeat_with(&mut noisy).take(15).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn bodies_and_what_waits_for_the_buffer_share_one_budget() {
    let edge = Edge::with(|options, _| {
        options.max_body = ByteSize::kib(64);
        options.max_inflated_body = ByteSize::kib(64);
        options.max_bulk = 100;
        options.byte_budget = ByteSize::kib(192);
    })
    .await;
    edge.recorder.shut_gate();
    let waiting: Vec<_> = ["a", "b", "c"].map(|user| tokio::spawn(send(edge.post(padded(user))))).into();
    // All three are in the buffer's hands, their bodies' share still reserved.
    let _ = tokio::time::timeout(PATIENCE, edge.recorder.waiting.acquire_many(3)).await.unwrap().unwrap();
    let reserved = edge.metric("systole_http_byte_budget_used_bytes").unwrap();
    assert!(reserved >= 3.0 * 15.0 * 4_000.0, "{reserved}");

    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: 61440\r\n\r\n").await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("problem:overloaded"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    // A body that does not say how long it is finds out while it is read.
    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    wire.send(format!("{:x}\r\n{}\r\n", 60_000, " ".repeat(60_000))).await;
    wire.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 5_000, " ".repeat(5_000))).await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("problem:overloaded"), "{answer}");

    edge.recorder.open_gate();
    for one in waiting {
        assert_eq!(one.await.unwrap().status, 202);
    }
    assert_eq!(send(edge.post(padded("d"))).await.status, 202);
    edge.stop().await;
}
