//! Rate limits as clients meet them.

use systole::http::limits::ForwardedHeader;

use crate::harness::{Answer, Edge, bulk, record, send};

/// Sends until the limit answers: on a slow machine an allowance of one a second may fill while a test runs.
async fn until_limited(mut request: impl FnMut() -> reqwest::RequestBuilder) -> Answer {
    for _ in 0..100 {
        let answer = send(request()).await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("a hundred requests passed")
}

#[tokio::test]
async fn a_user_over_its_limit_is_held_back_and_the_others_are_served() {
    let edge = Edge::with(|_, rates| (rates.user_rate, rates.user_burst) = (1, 100)).await;
    let answer = send(edge.post(bulk("greedy", 80))).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("ratelimit-policy"), r#""user";q=100;w=100"#);
    assert_eq!(answer.header("ratelimit"), r#""user";r=20;t=80"#);

    // Alone: 429, and how long to wait.
    let answer = send(edge.post(bulk("greedy", 60))).await;
    assert_eq!((answer.status, answer.problem()), (429, "rate-limited"));
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=40).contains(&wait), "{wait}");
    assert_eq!(answer.header("ratelimit-policy"), r#""user";q=100;w=100"#);
    assert!(answer.header("ratelimit").starts_with(r#""user";r="#), "{}", answer.header("ratelimit"));
    assert_eq!(answer.rejected_codes().len(), 60);

    // Beside others: only its own are listed, as worth sending again.
    let greedy = bulk("greedy", 60);
    let mixed = format!("[{},{},{{}}]", record("modest"), &greedy[1..greedy.len() - 1]);
    let answer = send(edge.post(mixed.clone())).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &1.into()));
    let codes = answer.rejected_codes();
    let limited: Vec<_> = (1..=60).map(|index| (index, "rate_limited")).collect();
    assert_eq!(codes[..60], limited);
    assert_eq!(codes[60], (61, "missing_field"));
    assert_eq!(answer.json["rejected"][0]["retryable"], true);
    assert_eq!(edge.recorder.users().iter().filter(|user| *user == "modest").count(), 1);

    // Strictly: nothing is kept.
    let strict = format!("[{},{}", record("modest"), &greedy[1..]);
    let answer = send(edge.post(strict).header("Prefer", "handling=strict")).await;
    assert_eq!((answer.status, answer.problem()), (429, "rate-limited"));
    assert_eq!(edge.recorder.users().len(), 81);
    assert_eq!(edge.metric(r#"systole_rate_limited_total{policy="user"}"#), Some(180.0));
    edge.stop().await;
}

#[tokio::test]
async fn more_than_a_burst_can_ever_hold_is_413() {
    let edge = Edge::with(|_, rates| (rates.user_rate, rates.user_burst) = (1, 100)).await;
    let answer = send(edge.post(bulk("u", 101))).await;
    assert_eq!((answer.status, answer.problem()), (413, "exceeds-burst"));
    assert_eq!(answer.header("retry-after"), "", "waiting does not help");
    assert_eq!(send(edge.post(bulk("u", 100))).await.status, 202, "and it cost nothing");
    edge.stop().await;
}

#[tokio::test]
async fn the_largest_bulk_of_one_user_passes_at_the_defaults() {
    let edge = Edge::start().await;
    let answer = send(edge.post(bulk("u", 10_000))).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &10_000.into()));
    edge.stop().await;
}

#[tokio::test]
async fn an_address_over_its_limit_is_refused_before_its_body_is_read() {
    let edge = Edge::with(|_, rates| (rates.address_rate, rates.address_burst) = (1, 3)).await;
    for _ in 0..3 {
        assert_eq!(send(edge.post(record("u"))).await.status, 202);
    }
    // A claim about the client that nobody vouches for changes nothing.
    let mut clients = 0..=u8::MAX;
    let answer = until_limited(|| {
        edge.post("not even JSON").header("X-Forwarded-For", format!("198.51.100.{}", clients.next().unwrap()))
    })
    .await;
    assert_eq!(answer.problem(), "rate-limited");
    assert_eq!(answer.header("ratelimit-policy"), r#""address";q=3;w=3"#);
    assert_eq!(answer.header("ratelimit"), r#""address";r=0;t=1"#);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(edge.metric(r#"systole_rate_limited_total{policy="address"}"#), Some(1.0));
    // Health is never limited: who watches must see.
    let health = edge.client.get(edge.url("/health/live")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    edge.stop().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_clients_are_told_apart() {
    for (header, name, value) in
        [(ForwardedHeader::XForwardedFor, "X-Forwarded-For", ""), (ForwardedHeader::Forwarded, "Forwarded", "for=")]
    {
        let edge = Edge::with(|_, rates| {
            (rates.address_rate, rates.address_burst) = (1, 2);
            rates.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            rates.forwarded_header = header;
        })
        .await;
        let from = |client: &str| edge.post(record("u")).header(name, format!("{value}203.0.113.1, {value}{client}"));
        until_limited(|| from("198.51.100.7")).await;
        assert_eq!(send(from("198.51.100.8")).await.status, 202);
        edge.stop().await;
    }
}
