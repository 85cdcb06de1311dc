//! The harness itself: a judge who cannot find a fault proves nothing.

mod support;

use serde_json::json;
use support::beats::Identity;
use support::oracle::{PublishedFile, Row};
use support::{Beat, Beats, Ledger, Metrics, RedisServer, Snapshot};

#[test]
fn a_killed_redis_comes_back_on_its_port_with_what_it_held() {
    let mut server = RedisServer::start();
    assert_eq!(server.cli(&["SET", "key", "value"]), "OK");
    let port = server.port();
    server.kill();
    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(server.cli(&["GET", "key"]), "value");
    server.restart_empty();
    assert_eq!(server.cli(&["GET", "key"]), "");
}

#[test]
fn redis_servers_of_parallel_tests_never_meet() {
    let servers: Vec<RedisServer> = (0..4).map(|_| RedisServer::start()).collect();
    for (index, server) in servers.iter().enumerate() {
        server.cli(&["SET", "owner", &index.to_string()]);
    }
    for (index, server) in servers.iter().enumerate() {
        assert_eq!(server.cli(&["GET", "owner"]), index.to_string());
        assert_eq!(server.cli(&["CONFIG", "GET", "maxmemory-policy"]), "maxmemory-policy\nnoeviction");
    }
}

#[test]
fn no_two_heartbeats_of_a_source_are_the_same() {
    let beats = Beats::new(7, 3);
    let mut identities: Vec<Identity> = beats.take(100_000).into_iter().map(|beat| beat.identity).collect();
    let days: Vec<i64> = identities.iter().map(|identity| identity.timestamp / 86_400_000).collect();
    assert_eq!(days.iter().min(), days.iter().max(), "all of one day");
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), 100_000);
}

/// What is published for these heartbeats, in files of `sizes` rows.
fn published(beats: &[Beat], sizes: &[usize]) -> Snapshot {
    let mut rows = beats.iter().map(|beat| Row {
        identity: beat.identity.clone(),
        received_at: 1,
        attributes: beat.attributes.as_ref().map(ToString::to_string),
    });
    let path = "date=2026-11-22/partition=0/heartbeats-x.parquet";
    let files = sizes.iter().map(|size| PublishedFile { path: path.into(), rows: rows.by_ref().take(*size).collect() });
    Snapshot { files: files.collect(), partitions: 1 }
}

/// Three heartbeats in sort order at noon of 2026-11-22.
fn three() -> Vec<Beat> {
    const NOON: i64 = 1_795_348_800_000;
    vec![
        Beat::at("a", "d", NOON),
        Beat::at("a", "d", NOON).id("1").attributes(json!({ "n": 1 })),
        Beat::at("b", "d", NOON - 1),
    ]
}

#[test]
fn the_oracle_accepts_what_is_right() {
    let (ledger, beats) = (Ledger::default(), three());
    beats.iter().for_each(|beat| ledger.keep(beat));
    published(&beats, &[2, 1]).judge(&ledger);
}

#[test]
fn the_oracle_finds_every_kind_of_fault() {
    let first = |faults: Vec<String>| faults.first().map(|fault| fault.split([':', ' ']).next().unwrap().to_owned());
    let beats = three();
    let ledger = Ledger::default();
    beats.iter().for_each(|beat| ledger.keep(beat));

    let doubled = published(&[beats[0].clone(), beats[0].clone()], &[1, 1]);
    assert_eq!(first(doubled.faults()), Some("doubled".into()));
    let disorder = published(&[beats[1].clone(), beats[0].clone()], &[2]);
    assert_eq!(first(disorder.faults()), Some("disorder".into()));
    let tomorrow = Beat::at("a", "d", beats[0].identity.timestamp + 86_400_000);
    assert_eq!(first(published(&[tomorrow], &[1]).faults()), Some("wrong".into()));
    let partitions = Snapshot { partitions: 1 << 40, ..published(&beats, &[3]) };
    assert_eq!(first(partitions.faults()), Some("wrong".into()));

    assert_eq!(first(published(&beats[..2], &[2]).disagreements(&ledger)), Some("lost".into()));
    let mut altered = beats.clone();
    altered[1].attributes = None;
    assert_eq!(first(published(&altered, &[3]).disagreements(&ledger)), Some("changed".into()));
    let mut more = beats.clone();
    more.push(Beat::at("c", "d", 0));
    assert_eq!(first(published(&more, &[4]).disagreements(&ledger)), Some("invented".into()));
    ledger.maybe(&more[3]);
    assert_eq!(first(published(&more, &[4]).disagreements(&ledger)), None);
}

#[test]
fn a_scrape_is_read_with_its_labels() {
    let text =
        "# HELP a_total Help.\n# TYPE a_total counter\na_total{p=\"1\",q=\"x,y\"} 2\na_total{p=\"2\"} 3\nb 0.5\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.sum("a_total"), Some(5.0));
    assert_eq!(metrics.sum_where("a_total", |labels| labels["p"] == "2"), Some(3.0));
    assert_eq!(metrics.sum("b"), Some(0.5));
    assert_eq!(metrics.sum("c"), None);
    assert_eq!(metrics.samples[0].labels["q"], "x,y");
    assert_eq!(metrics.types["a_total"], "counter");
}
