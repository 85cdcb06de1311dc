//! Order: published rows stand in the sort order whatever order they came in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::{Beat, Beats, Buffer, SOON, World, on_every_buffer};

/// Names whose order by bytes is not that of a dictionary, nor of a locale.
const NAMES: [&str; 9] = ["a", "B", "a b", "a-b", "aa", "\u{e9}", "z", "\u{1f980}", "\u{ffff}"];

/// Everything that can tie: user, time, device, with and without `id`. In an order that is none.
fn tangled() -> Vec<Beat> {
    let base = Beats::new(1, 1).next().identity.timestamp;
    let mut beats = Vec::new();
    for user in NAMES {
        for device in NAMES {
            for moment in [0, 1, 1_000] {
                let beat = Beat::at(user, device, base - moment);
                beats.extend([beat.clone(), beat.clone().id("2"), beat.clone().id("10")]);
            }
        }
    }
    let count = beats.len();
    // 331 is a prime that does not divide the count: every heartbeat comes once, far from its neighbours.
    (0..count).map(|n| beats[n * 331 % count].clone()).collect()
}

fn rows_stand_in_the_sort_order_whatever_order_they_came_in(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let client = collector.client();

    // In bulks, over several claims and publishes.
    for half in tangled().chunks(400) {
        for bulk in half.chunks(50) {
            client.must_keep(bulk);
        }
        world.await_drained(SOON);
        world.publish();
    }

    // And in each bucket's one file when it is consolidated.
    world.compact().args(["--max-files=2", "--small-file-share=0"]).run().expect_code(0);
    let snapshot = world.judge();
    assert_eq!(snapshot.rows().count(), tangled().len());
    world.verify();
}

fn within_equal_times_the_device_and_then_the_id_decide(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let now = Beats::new(1, 1).next().identity.timestamp;
    let sorted = [
        Beat::at("u", "a", now - 1).id("z"),
        Beat::at("u", "a", now),
        Beat::at("u", "a", now).id("1"),
        Beat::at("u", "a", now).id("10"),
        Beat::at("u", "a", now).id("2"),
        Beat::at("u", "b", now),
    ];
    let mut reversed = sorted.to_vec();
    reversed.reverse();
    collector.client().must_keep(&reversed);
    world.await_drained(SOON);

    let snapshot = world.publish();
    let published: Vec<_> = snapshot.rows().map(|row| &row.identity).collect();
    assert_eq!(published, sorted.iter().map(|beat| &beat.identity).collect::<Vec<_>>());
}

on_every_buffer! {
    rows_stand_in_the_sort_order_whatever_order_they_came_in,
    within_equal_times_the_device_and_then_the_id_decide,
}
