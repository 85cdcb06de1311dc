//! Bodies that become large, and answers that do: many at once.

use crate::bodies::{gzip, with_window, zstd};
use crate::siege::{Siege, world};
use crate::support::skip::skip;
use crate::support::{SOON, wait};
use crate::wire::{Wire, post};

/// Sends the same on so many connections at once, and answers the statuses.
fn all_at_once(siege: &Siege<'_>, request: &[u8], count: usize) -> Vec<u16> {
    let mut wires: Vec<Wire> = (0..count).map(|_| siege.open()).collect();
    for wire in &mut wires {
        wire.try_send(request);
    }
    wires.iter_mut().map(|wire| wire.answer().map_or(0, |answer| answer.status)).collect()
}

#[test]
fn bombs_from_sixty_connections_are_stopped_at_their_bounds() {
    let world = world();
    let siege = Siege::begin(&world, &[]);
    let blanks = vec![b' '; 256 << 20];
    let bombs = [
        ("gzip", gzip(&blanks)),
        ("zstd", zstd(&blanks)),
        // Just within all bounds, and all of it a window.
        ("zstd", with_window(23, &blanks[..7 << 20])),
    ];
    for (coding, bomb) in bombs {
        let request = post(&format!("Content-Encoding: {coding}\r\n"), &bomb);
        let statuses = all_at_once(&siege, &request, 60);
        // 413 by the bound, 422 for nothing but blanks, 503 where all of the budget is in use.
        assert!(statuses.iter().all(|status| [413, 422, 503].contains(status)), "{coding}: {statuses:?}");
    }
    siege.end("bombs");
}

/// What the system takes of one answer for a client that reads none of it, in bytes.
fn swallowed_by_the_system() -> usize {
    let sizes = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    sizes.split_whitespace().nth(2).and_then(|most| most.parse().ok()).unwrap()
}

#[test]
fn answers_that_nobody_reads_stand_in_the_budget_and_are_given_up() {
    const DEAF: usize = 4;
    // 10,000 bad records, each with half a KiB to be said of it: what is quoted is written out as it came.
    const ANSWER: usize = 10_000 * 512;
    if swallowed_by_the_system() > ANSWER - (512 << 10) {
        skip("answers that nobody reads", "the system takes them all (tcp_wmem)");
        return;
    }
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=8s"]);
    let bulk = format!("[{}]", vec![format!(r#"{{"{}":1}}"#, r"\u0001".repeat(64)); 10_000].join(","));
    let request = post("", bulk);
    let mut deaf: Vec<Wire> = (0..DEAF).map(|_| siege.open_from("127.0.0.1")).collect();
    for wire in &mut deaf {
        wire.send(&request);
    }
    let mut counted = 0.0;
    wait::until("answers alone to be counted", SOON, || {
        let metrics = siege.metrics();
        counted = metrics.sum("systole_http_byte_budget_used_bytes").unwrap_or_default();
        let answered = metrics.sum("systole_heartbeats_rejected_total") == Some((DEAF * 10_000) as f64);
        // The request for these metrics is one itself.
        answered && metrics.sum("systole_http_requests_in_flight") == Some(1.0)
    });
    assert!(counted > 250_000.0 * DEAF as f64, "{counted} bytes of answers that nobody reads");
    let is_free = || siege.metric("systole_http_byte_budget_used_bytes") == 0.0;
    wait::until("them to be given up", 2 * SOON, is_free);
    siege.end(&format!("{DEAF} answers that nobody reads, {counted} bytes of them kept"));
}
