//! Bodies that become large, and answers that do: many at once.

use crate::bodies::{gzip, with_window, zstd};
use crate::siege::{Siege, world};
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

#[test]
fn answers_that_nobody_reads_stand_in_the_budget_and_are_given_up() {
    const DEAF: usize = 12;
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=6s"]);
    // 10,000 bad records in 640 KiB, each with some 230 bytes to be said of it.
    let bulk = format!("[{}]", vec![format!(r#"{{"{}":1}}"#, "n".repeat(58)); 10_000].join(","));
    let request = post("", bulk);
    // The system keeps little of what is sent to them, so that the most of each answer stays with the process.
    let mut wires: Vec<Wire> = (0..DEAF).map(|_| siege.open_from("127.0.0.1")).collect();
    for wire in &mut wires {
        wire.try_send(&request);
    }
    let answered = || siege.metric("systole_heartbeats_rejected_total") >= (DEAF * 10_000) as f64;
    wait::until("every bulk to be answered", SOON, answered);
    // No body is left by then: what is counted are answers alone.
    let counted = siege.metric("systole_http_byte_budget_used_bytes");
    assert!(counted > 1e6 * DEAF as f64, "{counted} bytes of answers that nobody reads");
    let gone = || siege.metric("systole_http_byte_budget_used_bytes") == 0.0;
    wait::until("the answers to be given up", 2 * SOON, gone);
    siege.end(&format!("{DEAF} answers that nobody reads, {counted} bytes"));
}
