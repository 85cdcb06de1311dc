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
    let siege = Siege::begin(&world, &["--answer-deadline=5s"]);
    // 10,000 bad records in 640 KiB, each with some 230 bytes to be said of it. The system takes the first one or two of
    // these answers for a client that reads none; the next is the process's to keep.
    let bulk = format!("[{}]", vec![format!(r#"{{"{}":1}}"#, "n".repeat(58)); 10_000].join(","));
    let requests = post("", bulk).repeat(4);
    let deaf: Vec<Wire> = (0..DEAF).map(|_| siege.open_from("127.0.0.1")).collect();
    std::thread::scope(|scope| {
        for mut wire in deaf {
            let requests = &requests;
            // Until it is given up: nothing further is read of it before.
            scope.spawn(move || wire.try_send(requests));
        }
        let answers_alone = || {
            let metrics = siege.metrics();
            let value = |name| metrics.sum(name).unwrap_or_default();
            // The request for these metrics is one itself.
            let is_idle = value("systole_http_requests_in_flight") <= 1.0;
            is_idle && value("systole_http_byte_budget_used_bytes") > 100_000.0 * DEAF as f64
        };
        wait::until("answers alone to be counted", SOON, || (0..3).all(|_| answers_alone()));
        let is_free = || siege.metric("systole_http_byte_budget_used_bytes") == 0.0;
        wait::until("them to be given up", 2 * SOON, || (0..3).all(|_| is_free()));
    });
    siege.end(&format!("{DEAF} clients that do not read answers"));
}
