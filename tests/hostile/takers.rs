//! Answers that many ask for and nobody takes.

use std::collections::BTreeSet;

use crate::siege::{Siege, world};
use crate::support::beats::now_ms;
use crate::support::{Beat, SOON, wait};
use crate::wire::Wire;

const HOUR_MS: i64 = 3_600_000;
const MIB: f64 = 1_048_576.0;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Connections that ask for this so often that the system takes no more for them, and read nothing.
fn deaf(siege: &Siege<'_>, path: &str, count: usize, times: usize) -> Vec<Wire> {
    let mut deaf: Vec<Wire> = (0..count).map(|_| siege.open_from("127.0.0.1")).collect();
    let ask = get(path).repeat(times);
    for wire in &mut deaf {
        wire.send_without_waiting(&ask);
    }
    deaf
}

/// As long as names may be, and twice that in JSON.
fn long(nth: usize) -> String {
    format!("{nth:\"<128}")
}

#[test]
fn lists_of_devices_that_nobody_takes_leave_room_for_others() {
    const DEVICES: usize = 10_000;
    const DEAF: usize = 100;
    const LIST: &str = "/v1/silent?after=1m&limit=10000";
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=8s"]);
    let then = now_ms() - HOUR_MS;
    let beats: Vec<Beat> = (0..DEVICES).map(|nth| Beat::at(&long(nth / 10), &long(nth), then)).collect();
    for bulk in beats.chunks(DEVICES / 4) {
        siege.client().must_keep(bulk);
    }
    let deaf = deaf(&siege, LIST, DEAF, 20);
    let of_lists = |siege: &Siege<'_>, refused: bool| {
        let metrics = siege.metrics();
        let answers = metrics.sum_where("systole_http_requests_total", |labels| {
            labels["route"] == "/v1/silent" && (!refused || labels["status"] == "5xx")
        });
        answers.unwrap_or_default()
    };
    wait::until("some to find no room", 2 * SOON, || of_lists(&siege, true) > DEAF as f64 / 4.0);
    let mut held = 0.0;
    wait::until("lists to be held", 2 * SOON, || {
        held = siege.metric("systole_http_byte_budget_used_bytes");
        held > 8.0 * MIB
    });
    assert!(held <= 17.0 * MIB, "{held} bytes are held, half of the budget is 16 MiB");
    let asked = of_lists(&siege, false);
    drop(deaf);
    wait::until("what they held to be free", 2 * SOON, || siege.metric("systole_http_byte_budget_used_bytes") < MIB);

    // Who takes its answers gets all of them, page by page.
    let (mut next, mut pages, mut listed) = (Some(LIST.to_owned()), 0, BTreeSet::new());
    while let Some(path) = next {
        let answer = siege.ask(get(&path)).expect("an answer");
        assert!(
            answer.status == 200 && answer.text.len() < 3 << 20,
            "{} of {} bytes",
            answer.status,
            answer.text.len()
        );
        for device in answer.json["devices"].as_array().unwrap() {
            assert!(listed.insert(device["device_id"].as_str().unwrap().to_owned()), "{device} is listed twice");
        }
        next = answer.json["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    assert!(listed.len() == DEVICES && pages == 3, "{} devices on {pages} pages", listed.len());
    siege.end(&format!("{DEAF} that take no lists, {asked} answers"));
}

#[test]
fn the_document_takes_memory_once_however_many_do_not_take_it() {
    const DEAF: usize = 500;
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=60s"]);
    let before = siege.peak_mib();
    let deaf = deaf(&siege, "/openapi.json", DEAF, 100);
    wait::until("them to be let in", SOON, || siege.open_files() >= DEAF as u64);
    let answers = || siege.metric("systole_http_requests_total");
    let mut last = answers();
    // What the neighbour sends counts as well, so it is a matter of how fast it grows.
    wait::until("the system to take no more for them", 4 * SOON, || {
        let now = answers();
        std::mem::replace(&mut last, now) + 20.0 > now
    });
    let grown = siege.peak_mib() - before;
    assert!(siege.open_files() >= DEAF as u64, "they are cut off before their deadline");
    // Some 60 KiB for each connection; copied whole, the document takes as much again, and more.
    assert!(grown <= 50, "{grown} MiB for {DEAF} that do not take it");
    drop(deaf);
    siege.end(&format!("{DEAF} that do not take the document, {grown} MiB more"));
}
