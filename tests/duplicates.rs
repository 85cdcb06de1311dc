//! Duplicates: the same heartbeat is published once, however often and by whatever way it came.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use serde_json::json;
use support::{Beat, Beats, Buffer, SOON, World, on_every_buffer};

/// Consolidates whatever can be.
const CONSOLIDATE: [&str; 2] = ["--max-files=2", "--small-file-share=0"];

fn a_heartbeat_sent_five_times_in_one_bulk_is_published_once(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let client = collector.client();
    for beat in Beats::new(3, 2).take(6) {
        client.must_keep(&vec![beat; 5]);
    }
    world.await_drained(SOON);
    let snapshot = world.publish();
    assert_eq!(snapshot.rows().count(), 6);
    world.audit();
}

fn a_heartbeat_sent_again_across_publishes_and_consolidation_is_published_once(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let client = collector.client();
    let beats = Beats::new(20, 2);
    let again = beats.take(100);
    for round in 0..5 {
        // Each round brings something new as well, so that every round publishes a file.
        client.must_keep(&beats.take(50));
        client.post_lines(&again);
        again.iter().take(10).for_each(|beat| assert_eq!(client.post(beat).status, 202));
        world.await_drained(SOON);
        let snapshot = world.publish();
        assert_eq!(snapshot.rows().count(), 100 + 50 * (round + 1));
        if round == 2 {
            world.compact().args(CONSOLIDATE).run().expect_code(0);
            world.judge();
        }
    }
    world.audit();
    world.verify();
}

fn of_equal_identities_the_one_published_first_stands(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let client = collector.client();
    let beat = Beats::new(1, 1).next().attributes(json!({ "version": "first" }));
    client.must_keep(std::slice::from_ref(&beat));
    world.await_drained(SOON);
    world.publish();
    client.must_keep(&[beat.attributes(json!({ "version": "a later one" }))]);
    world.await_drained(SOON);

    let snapshot = world.publish();
    let texts: Vec<_> = snapshot.rows().map(|row| row.attributes.clone().unwrap()).collect();
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("first"), "{texts:?}");
}

fn what_differs_in_one_part_of_its_identity_is_another_heartbeat(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().without_compactor().start();
    let beat = Beat::at("user", "device", Beats::new(1, 1).next().identity.timestamp);
    let others = [
        beat.clone(),
        beat.clone().id("a"),
        beat.clone().id("b"),
        Beat::at("user", "device2", beat.identity.timestamp),
        Beat::at("user2", "device", beat.identity.timestamp),
        Beat::at("user", "device", beat.identity.timestamp - 1),
        // No two of them may fall together when their parts are strung together.
        Beat::at("userd", "evice", beat.identity.timestamp),
    ];
    collector.client().must_keep(&others);
    world.await_drained(SOON);
    assert_eq!(world.publish().rows().count(), others.len());
}

fn a_dead_letter_retried_long_after_its_heartbeat_was_published_adds_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().without_compactor().start();
    let client = collector.client();
    // Near the age that the door takes; when the letter is retried nobody asks for its age.
    let beats = Beats::days_ago(1, 1, 28).take(5);
    for half in beats.chunks(3) {
        client.must_keep(half);
        world.await_drained(SOON);
        world.publish();
    }
    collector.stop_batcher();

    // Sent again to a batcher whose writer panics over each row: all of them become dead letters.
    collector.start_batcher_with(&format!("{WRITER}=panic"));
    client.must_keep(&beats);
    support::wait::until("the dead letters", SOON, || world.held("dead") == 5);
    collector.stop_batcher();
    world.compact().args(CONSOLIDATE).run().expect_code(0);

    collector.start_batcher();
    let listed = world.books(&["dead-letters", "list", "--json"]).run().expect_code(0).json();
    assert!(!listed.as_array().unwrap().is_empty());
    world.books(&["dead-letters", "retry", "--all"]).run().expect_code(0);
    support::wait::until("the letters to be written", SOON, || world.held("dead") == 0);
    world.await_drained(SOON);
    assert_eq!(world.publish().rows().count(), 5);
    world.audit();
}

/// Where the batcher's writer can be made to panic.
const WRITER: &str = "batcher.encode";

on_every_buffer! {
    a_heartbeat_sent_five_times_in_one_bulk_is_published_once,
    a_heartbeat_sent_again_across_publishes_and_consolidation_is_published_once,
    of_equal_identities_the_one_published_first_stands,
    what_differs_in_one_part_of_its_identity_is_another_heartbeat,
    a_dead_letter_retried_long_after_its_heartbeat_was_published_adds_nothing,
}
