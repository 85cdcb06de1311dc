//! The document at /openapi.json is what the server that shows it does: its examples are accepted, and it asks for no token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use serde_json::Value;
use support::{Buffer, SOON, World, client};

#[test]
fn every_example_of_a_request_is_accepted_by_the_server_that_shows_it() {
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    up.await_status("/health/ready", 200, SOON);
    let document = up.get("/openapi.json").unwrap();
    assert_eq!((document.status, document.header("content-type")), (200, Some("application/json")));
    let post = &document.body["paths"]["/v1/heartbeats"]["post"];
    let http = world.client(&up);
    let mut sent = 0;
    for (content_type, content) in post["requestBody"]["content"].as_object().unwrap() {
        for (name, example) in content["examples"].as_object().unwrap() {
            let body = match &example["value"] {
                Value::String(text) => text.clone(),
                json => json.to_string(),
            };
            let answer = http.post_raw(content_type, body);
            assert_eq!(answer.status, 202, "{content_type} {name}: {}", answer.text);
            assert_eq!(answer.body["rejected"], Value::Array(Vec::new()), "{content_type} {name}");
            sent += 1;
        }
    }
    assert_eq!(sent, 6, "three of JSON, one for each name of lines");
    up.stop();
}

#[test]
fn processes_that_take_nothing_in_show_what_they_serve() {
    let world = World::on(Buffer::Redis);
    let watch = world.watch().start();
    let document = client::get(&format!("{}/openapi.json", watch.url())).unwrap();
    assert_eq!(document.status, 200);
    let paths: Vec<&String> = document.body["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"]);
    watch.stop();
}
