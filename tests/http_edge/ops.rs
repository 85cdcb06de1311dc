//! Paths, health, metrics, request ids.

use std::time::Duration;

use systole::http::{Error, OpsServer, Options, Server, limits, tls};
use systole::telemetry::health::{Affects, Health};
use systole::telemetry::metrics;
use tokio_util::sync::CancellationToken;

use crate::harness::{Answer, Edge, PATIENCE, open_gate, record, send};

async fn get(edge: &Edge, path: &str) -> Answer {
    send(edge.client.get(edge.url(path)).timeout(PATIENCE)).await
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    let edge = Edge::start().await;
    for path in ["/index.html", "/page/", "/v1", "/v1/heartbeats/", "/v2/heartbeats", "/health/"] {
        let answer = get(&edge, path).await;
        assert_eq!((answer.status, answer.problem()), (404, "not-found"), "{path}");
    }
    let answer = get(&edge, "/v1/heartbeats").await;
    assert_eq!((answer.status, answer.problem(), answer.header("allow")), (405, "method-not-allowed", "POST"));
    for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
        let answer = send(edge.client.post(edge.url(path))).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{path}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn health_names_every_part_and_readiness_only_what_it_needs() {
    let edge = Edge::start().await;
    let hour = Duration::from_secs(3600);
    let buffer = edge.health.part("buffer", Affects::Readiness, hour);
    let batchers = edge.health.part("batchers", Affects::Health, hour);
    let durability = edge.health.part("durability", Affects::Nothing, hour);
    let statuses = async || {
        [get(&edge, "/health").await, get(&edge, "/health/ready").await, get(&edge, "/health/live").await]
            .map(|answer| answer.status)
    };
    assert_eq!(statuses().await, [503, 503, 200], "nothing has reported yet");
    buffer.well("");
    batchers.unwell("no batcher is alive");
    durability.unwell("volatile");
    assert_eq!(statuses().await, [503, 200, 200]);
    batchers.well("2 alive");
    assert_eq!(statuses().await, [200, 200, 200], "what affects nothing fails nothing");
    buffer.unwell("out of reach");
    assert_eq!(statuses().await, [503, 503, 200]);

    let answer = get(&edge, "/health").await;
    assert_eq!(
        answer.json,
        serde_json::json!({"status": "unwell", "parts": [
            {"name": "batchers", "ok": true, "detail": "2 alive"},
            {"name": "buffer", "ok": false, "detail": "out of reach"},
            {"name": "durability", "ok": false, "detail": "volatile"},
        ]})
    );
    let head = edge.client.head(edge.url("/health")).send().await.unwrap();
    assert_eq!(head.status(), 503);
    assert!(head.bytes().await.unwrap().is_empty());
    edge.stop().await;
}

#[tokio::test]
async fn metrics_show_every_code_from_the_start_and_no_user_ever() {
    let edge = Edge::start().await;
    assert_eq!(edge.metric(r#"systole_heartbeats_rejected_total{code="rate_limited"}"#), Some(0.0));
    assert_eq!(edge.metric(r#"systole_http_requests_total{route="/v1/heartbeats",status="5xx"}"#), Some(0.0));
    send(edge.post(record("a-telling-name"))).await;
    send(edge.post("{")).await;
    get(&edge, "/a-telling-path").await;
    let response = edge.client.get(edge.url("/metrics")).send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let text = response.text().await.unwrap();
    for line in [
        r#"systole_http_requests_total{route="/v1/heartbeats",status="2xx"} 1"#,
        r#"systole_http_requests_total{route="/v1/heartbeats",status="4xx"} 1"#,
        r#"systole_http_requests_total{route="other",status="4xx"} 1"#,
        r#"systole_http_request_seconds_count{route="/v1/heartbeats"} 2"#,
        "systole_heartbeats_accepted_total 1",
        "systole_rate_limit_keys 2",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("telling") && !text.contains("127.0.0.1"));
    assert!(edge.metric("systole_http_body_bytes_total").unwrap() > 50.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_request_has_one_id_in_the_answer_and_in_the_problem() {
    let edge = Edge::start().await;
    let answer = send(edge.post("{").header("X-Request-Id", "my-id.7")).await;
    assert_eq!((answer.header("x-request-id"), answer.json["instance"].as_str()), ("my-id.7", Some("my-id.7")));
    let answer = send(edge.post(record("u")).header("X-Request-Id", "no good \"id\"")).await;
    assert_eq!(answer.header("x-request-id").len(), 36);
    edge.stop().await;
}

#[tokio::test]
async fn a_taken_address_is_one_clear_error() {
    let edge = Edge::start().await;
    let Err(error) = OpsServer::bind(
        edge.address,
        &tls::Options::default(),
        &open_gate(),
        Health::new(),
        metrics::registry().unwrap(),
    ) else {
        panic!("two servers share an address")
    };
    assert!(matches!(error, Error::Bind { .. }));
    assert!(error.to_string().starts_with(&format!("listen: cannot listen on {}: ", edge.address)), "{error}");
    edge.stop().await;
}

#[tokio::test]
async fn processes_that_take_nothing_in_still_show_health_and_metrics() {
    let registry = metrics::registry().unwrap();
    let server =
        OpsServer::bind(([127, 0, 0, 1], 0).into(), &tls::Options::default(), &open_gate(), Health::new(), registry)
            .unwrap();
    let address = server.address();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let stop = shutdown.clone();
        async move { server.run(stop).await }
    });
    let client = reqwest::Client::new();
    for (path, status) in [("/health", 200), ("/health/live", 200), ("/metrics", 200), ("/nothing", 404)] {
        let response = client.get(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
    }
    let response = client.post(format!("http://{address}/v1/heartbeats")).body(record("u")).send().await.unwrap();
    assert_eq!(response.status(), 404);
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn two_servers_cannot_share_a_registry() {
    let edge = Edge::start().await;
    let registry = metrics::registry().unwrap();
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
    let bind = || {
        let (rates, intake) = (limits::Options::default(), edge.recorder.clone());
        Server::bind(
            &options,
            &rates,
            &open_gate(),
            intake,
            &crate::nothing::services(),
            Health::new(),
            registry.clone(),
        )
    };
    let _first = bind().unwrap();
    assert!(matches!(bind(), Err(Error::Metrics(_))));
    edge.stop().await;
}
