//! The books: `audit` and `verify` find what is wrong, say where, and are quiet when nothing is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;

use support::oracle::published_files;
use support::{Beats, Buffer, Producers, SOON, World, on_every_buffer};

/// A world with some published heartbeats, its servers stopped.
fn published(buffer: Buffer) -> World {
    let world = World::on(buffer);
    let mut collector = world.collector().without_compactor().start();
    collector.client().must_keep(&Beats::new(20, 2).take(200));
    world.await_drained(SOON);
    collector.stop();
    drop(collector);
    world.publish();
    world
}

fn the_books_of_every_stage_balance(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().without_batcher().without_compactor().start();
    let client = collector.client();
    let beats = Beats::new(20, 2);
    client.must_keep(&beats.take(100));
    let pending = world.audit();
    assert_eq!(pending["verdict"], "balanced");

    collector.start_batcher();
    world.await_drained(SOON);
    collector.stop_batcher();
    assert_eq!(world.audit()["verdict"], "balanced", "staged");
    world.publish();
    client.must_keep(&beats.take(100));
    assert_eq!(world.audit()["verdict"], "balanced", "published, and pending again");
    let text = world.books(&["audit"]).run().expect_code(0).stdout;
    assert!(text.contains("accepted 200 = pending 100 + claimed 0 + acked 100 + dead 0 + dropped 0"), "{text}");
    assert!(text.contains("the books balance"), "{text}");
}

fn the_books_balance_while_everything_moves(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().start();
    let producers = Producers::start(vec![collector.client(); 2], Arc::new(Beats::new(50, 2)), 20);
    for _ in 0..6 {
        producers.await_kept(200, SOON);
        assert_eq!(world.audit()["verdict"], "balanced");
    }
    producers.stop();
    collector.stop();
}

fn a_published_file_that_vanished_is_missing(buffer: Buffer) {
    let world = published(buffer);
    std::fs::remove_file(&published_files(world.dataset())[0]).unwrap();
    let audit = world.books(&["audit", "--json"]).run().expect_code(1).json();
    assert_eq!(audit["verdict"], "missing");
    let missing: u64 = audit["partitions"].as_array().unwrap().iter().map(|p| p["missing"].as_u64().unwrap()).sum();
    assert!(missing > 0);
    let text = world.books(&["audit"]).run().expect_code(1).stdout;
    assert!(text.contains(&format!("MISSING: {missing} acknowledged heartbeats")), "{text}");
}

fn a_flipped_bit_is_found_and_named(buffer: Buffer) {
    let world = published(buffer);
    world.verify();
    let file = &published_files(world.dataset())[0];
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 4;
    std::fs::write(file, bytes).unwrap();
    let found = world.books(&["verify", "--json"]).run().expect_code(1).json();
    let faults = found["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{found}");
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(faults[0]["place"].as_str().unwrap().contains(&name), "{found}");
}

fn a_row_in_two_files_and_a_stranger_in_the_tree_are_found(buffer: Buffer) {
    let world = published(buffer);
    let file = &published_files(world.dataset())[0];
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    // The same content under another file id: whole and sound by itself.
    let (id, hash) = name.strip_suffix(".parquet").unwrap().rsplit_once('-').unwrap();
    let last = if id.ends_with('0') { "1" } else { "0" };
    let twin = format!("{}{last}-{hash}.parquet", &id[..id.len() - 1]);
    std::fs::copy(file, file.with_file_name(twin)).unwrap();
    let stranger = file.with_file_name("notes.txt");
    std::fs::write(&stranger, "mine").unwrap();
    let found = world.books(&["verify"]).run().expect_code(1).stdout;
    assert!(found.contains("identities stand in more than one file"), "{found}");
    assert!(found.contains("notes.txt"), "{found}");
    std::fs::remove_file(stranger).unwrap();
}

// A buffer that comes back older than the files, and `adopt`: of Redis only. The embedded one lies beside them.
#[test]
fn a_surplus_is_reported_accepted_and_then_part_of_the_books() {
    let mut world = published(Buffer::Redis);
    world.redis_mut().restart_empty();
    world.books(&["adopt"]).run().expect_code(0);
    let audit = world.books(&["audit", "--json"]).run().expect_code(0).json();
    assert_eq!(audit["verdict"], "surplus");
    world.books(&["audit", "--accept"]).run().expect_code(0);
    assert_eq!(world.audit()["verdict"], "balanced");
    std::fs::remove_file(&published_files(world.dataset())[0]).unwrap();
    let audit = world.books(&["audit", "--json"]).run().expect_code(1).json();
    assert_eq!(audit["verdict"], "missing", "what was accepted counts from then on");
}

fn dead_letters_can_be_seen_retried_and_dropped(buffer: Buffer) {
    let world = World::on(buffer);
    let broken = world.collector().without_compactor().batcher_failpoints("batcher.encode=panic");
    let mut collector = broken.start();
    let client = collector.client();
    let beats = Beats::new(1, 1).take(2);
    client.must_keep(&beats);
    support::wait::until("two dead letters", SOON, || world.held("dead") == 2);
    collector.stop_batcher();

    let letters = |words: &[&str]| world.books(&[&["dead-letters"], words].concat()).run();
    let listed = letters(&["list", "--json"]).expect_code(0).json();
    let ids: Vec<String> =
        listed.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    let shown = letters(&["show", &ids[0]]).expect_code(0).json();
    let users: Vec<&str> = beats.iter().map(|beat| beat.identity.user_id.as_str()).collect();
    assert!(users.contains(&shown["decoded"][0]["user_id"].as_str().unwrap()), "{shown}");

    letters(&["drop", &ids[0]]).expect_code(0);
    letters(&["drop", &ids[0]]).expect_code(2);
    letters(&["retry", &ids[1]]).expect_code(0);
    collector.start_batcher();
    world.await_drained(SOON);
    world.compact().run().expect_code(0);
    assert_eq!(support::oracle::count_rows(world.dataset()), 1);
    let books = world.audit();
    let dropped: u64 =
        books["partitions"].as_array().unwrap().iter().map(|p| p["ledger"]["dropped"].as_u64().unwrap()).sum();
    assert_eq!(dropped, 1);
}

on_every_buffer! {
    the_books_of_every_stage_balance,
    the_books_balance_while_everything_moves,
    a_published_file_that_vanished_is_missing,
    a_flipped_bit_is_found_and_named,
    a_row_in_two_files_and_a_stranger_in_the_tree_are_found,
    dead_letters_can_be_seen_retried_and_dropped,
}
