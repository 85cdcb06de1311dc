//! Ending: what is in flight is answered, what is not answered was not promised.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::harness::{Edge, PATIENCE, Wire, record, send};

async fn until_refused(edge: &Edge) {
    let refused = async {
        while TcpStream::connect(edge.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the server stops accepting");
}

#[tokio::test]
async fn what_is_in_flight_is_answered_and_nothing_new_is_let_in() {
    let edge = Edge::start().await;
    edge.recorder.shut_gate();
    let in_flight = tokio::spawn(send(edge.post(record("u"))));
    // A request whose body is still on its way counts as in flight too.
    let mut slow = Wire::open(&edge).await;
    let body = record("v");
    slow.send(format!("POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    let _ = tokio::time::timeout(PATIENCE, edge.recorder.waiting.acquire()).await.unwrap().unwrap();
    let under_way = async {
        while edge.metric("systole_http_requests_in_flight") != Some(2.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, under_way).await.expect("both are under way");

    edge.shutdown.cancel();
    until_refused(&edge).await;
    edge.recorder.open_gate();
    slow.send(body).await;
    let answer = slow.answer().await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(in_flight.await.unwrap().status, 202);
    let mut users = edge.recorder.users();
    users.sort();
    assert_eq!(users, ["u", "v"]);
    edge.stop().await;
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let edge = Edge::with(|options, _| options.shutdown_grace = Duration::from_secs(3600).into()).await;
    assert_eq!(send(edge.post(record("u"))).await.status, 202);
    // The client's pool keeps its connection open.
    edge.stop().await;
}

#[tokio::test]
async fn the_grace_bounds_a_buffer_that_never_answers() {
    let edge = Edge::with(|options, _| options.shutdown_grace = Duration::from_secs(1).into()).await;
    edge.recorder.shut_gate();
    let stuck = tokio::spawn(edge.post(record("u")).send());
    let _ = tokio::time::timeout(PATIENCE, edge.recorder.waiting.acquire()).await.unwrap().unwrap();
    edge.shutdown.cancel();
    edge.join().await.unwrap();
    assert!(stuck.await.unwrap().is_err(), "no answer is no promise");
}
