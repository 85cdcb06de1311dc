//! Bodies that become large, and answers that do: many at once.

use std::time::{Duration, Instant};

use crate::bodies::{gzip, with_window, zstd};
use crate::siege::{Siege, world};
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
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=2s"]);
    // 10,000 bad records in 640 KiB, each with some 230 bytes to be said of it.
    let bulk = format!("[{}]", vec![format!(r#"{{"{}":1}}"#, "n".repeat(58)); 10_000].join(","));
    let request = post("", bulk);
    let mut wires: Vec<Wire> = (0..100).map(|_| siege.open()).collect();
    let mut most: f64 = 0.0;
    for wire in &mut wires {
        wire.try_send(&request);
        most = most.max(siege.metric("systole_http_byte_budget_used_bytes"));
    }
    assert!(most > 4e6, "the answers are counted: {most}");
    let began = Instant::now();
    while siege.metric("systole_http_byte_budget_used_bytes") > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the answers stay");
        std::thread::sleep(Duration::from_millis(50));
    }
    siege.end("answers that nobody reads");
}
