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

/// Each operation of the document: its path, its method, and what is said of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().iter().filter(|(name, _)| ["get", "post"].contains(&name.as_str()));
        all.extend(methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation)));
    }
    all
}

fn parameters<'a>(operation: &'a Value, place: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let all = operation["parameters"].as_array().unwrap().iter().filter(move |parameter| parameter["in"] == place);
    all.map(|parameter| (parameter["name"].as_str().unwrap(), &parameter["example"]))
}

fn text(example: &Value) -> String {
    example.as_str().map_or_else(|| example.to_string(), str::to_owned)
}

#[test]
fn every_answer_and_every_parameter_has_an_example() {
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    let document = up.get("/openapi.json").unwrap().body;
    let (mut answers, mut asked) = (0, 0);
    for (path, method, operation) in operations(&document) {
        for (name, example) in parameters(operation, "query").chain(parameters(operation, "path")) {
            assert!(!example.is_null(), "{method} {path}: `{name}`");
            asked += 1;
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            for (content_type, content) in response["content"].as_object().into_iter().flatten() {
                let examples = content["examples"].as_object();
                let whole =
                    examples.is_some_and(|all| !all.is_empty() && all.values().all(|one| one["value"] != Value::Null));
                assert!(whole, "{method} {path}: {status} {content_type}");
                answers += 1;
            }
        }
    }
    assert!(answers > 50 && asked > 14, "{answers}, {asked}");
    // The lines that say what a metric is are those of this server.
    let shown = &document["paths"]["/metrics"]["get"]["responses"]["200"]["content"];
    let shown = shown.as_object().unwrap().values().next().unwrap()["examples"]["excerpt"]["value"].as_str().unwrap();
    let metrics = up.get("/metrics").unwrap().text;
    for line in shown.lines().filter(|line| line.starts_with('#')) {
        assert!(metrics.lines().any(|real| real == line), "{line}");
    }
    up.stop();
}

#[test]
fn every_example_of_a_question_is_answered_by_the_server_that_shows_it() {
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    up.await_status("/health", 200, SOON);
    let document = up.get("/openapi.json").unwrap().body;
    for (path, method, operation) in operations(&document) {
        if method != "get" {
            continue;
        }
        let named =
            |path: String, (name, example): (&str, &Value)| path.replace(&format!("{{{name}}}"), &text(example));
        let path = parameters(operation, "path").fold(path.to_owned(), named);
        let query: Vec<String> =
            parameters(operation, "query").map(|(name, example)| format!("{name}={}", text(example))).collect();
        let answer = up.get(&format!("{path}?{}", query.join("&"))).unwrap();
        assert_eq!(answer.status, 200, "{path} {query:?}: {}", answer.text);
    }
    up.stop();
}
