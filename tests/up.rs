//! `systole up` dies, and its parts fail: whatever was answered 202 is published once, and it goes on by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::print_stderr, reason = "what a failed test shows")]

mod support;

use std::sync::Arc;

use support::tmpfs::Tmpfs;
use support::{Beats, Buffer, Client, Collector, Dice, Producers, SOON, World, failpoints, wait};

/// Consolidates at every start whatever can be.
const CONSOLIDATE: [&str; 4] = ["--max-files=4", "--small-file-share=0", "--large-file-rows=500", "--reader-grace=0s"];

/// Producers of singles and of bulks, on users of their own.
fn producers(collector: &Collector<'_>) -> [Producers; 2] {
    let client = |n| vec![collector.client(); n];
    let beats = |name: &str| Arc::new(Beats::new(20, 2).named(name));
    [Producers::start(client(2), beats("single"), 1), Producers::start(client(2), beats("bulk"), 25)]
}

/// Ends the load once all of it was answered 202, and finds all of it published once, the files whole, the books in order.
fn judge(world: &World, producers: [Producers; 2]) {
    producers.into_iter().for_each(|load| assert!(load.stop() > 0));
    world.await_published(3 * SOON);
    world.await_drained(SOON);
    assert_eq!(world.held("dead"), 0, "nothing was to blame");
    world.verify();
    world.audit();
}

#[test]
fn a_hundred_kills_under_load_lose_and_double_nothing() {
    let mut dice = Dice::loaded_anew();
    let world = World::on(Buffer::Embedded);
    let mut collector = world.collector().compactor_args(CONSOLIDATE);
    let load = producers(&collector);
    let (mut unheard, mut rounds) = (0, 0);
    while rounds < 100 {
        rounds += 1;
        // Early in the start, or some time after it listens.
        if dice.roll(3) == 0 {
            unheard += u32::from(!collector.flare_up(dice.millis(200)));
        } else {
            collector.resume();
            std::thread::sleep(dice.millis(350));
            collector.kill();
        }
    }
    collector.resume();
    judge(&world, load);
    collector.stop();
    world.judge();
    eprintln!("{} heartbeats kept; {unheard} kills before it listened", world.ledger.kept());
    assert!(unheard > 0, "none was killed while it started");
    assert!(world.ledger.kept() > 1_000, "hardly anything was sent: {}", world.ledger.kept());
}

#[test]
fn a_birth_that_was_cut_off_anywhere_is_gone_on_with() {
    let mut dice = Dice::loaded_anew();
    for _ in 0..15 {
        let world = World::on(Buffer::Embedded);
        let mut collector = world.collector();
        for _ in 0..dice.roll(3) + 1 {
            collector.flare_up(dice.millis(120));
        }
        collector.resume();
        collector.client().must_keep(&Beats::new(5, 1).take(10));
        world.await_published(SOON);
    }
}

#[test]
fn a_kill_between_any_two_steps_of_an_answer_loses_and_doubles_nothing() {
    let mut steps = failpoints::in_part("buffer/embedded");
    steps.extend(failpoints::in_part("buffer/committer"));
    assert!(steps.len() >= 4, "{steps:?}");
    for step in steps {
        let world = World::on(Buffer::Embedded);
        let mut collector = world.collector();
        let load = producers(&collector);
        // The very first time, while the buffer is being made; and in the middle of everything.
        for hits in [0, 1, 40] {
            collector.dies_at(&format!("{step}=kill+{hits}"));
        }
        collector.resume();
        judge(&world, load);
    }
}

#[test]
fn a_full_disk_means_503_and_recovery_by_itself() {
    let Some(disk) = Tmpfs::mount("192m") else { return };
    let world = World::on(Buffer::Embedded).dataset_in(disk.path());
    let floors = ["--min-free=4MiB", "--buffer-min-free=64MiB"];
    let mut collector = world.collector().batcher_args(floors).start();
    let load = producers(&collector);
    for round in 0..3 {
        load.iter().for_each(|load| load.await_kept(50, 2 * SOON));
        let ballast = disk.fill();
        await_refusal(&collector.client());
        collector.door().await_status("/health/ready", 503, SOON);
        // Some room, and less than pushes need: what waits is written and published all the same.
        if round == 1 {
            let file = std::fs::File::options().write(true).open(&ballast).unwrap();
            file.set_len(file.metadata().unwrap().len() - (32 << 20)).unwrap();
            wait::until("the floor to be named", SOON, || {
                collector.door().get("/health/ready").is_some_and(|answer| answer.text.contains("buffer-min-free"))
            });
            world.await_published(2 * SOON);
            assert_eq!(collector.client().post(&Beats::new(1, 1).named("refused").next()).status, 503);
        }
        // Killed while it is full.
        if round == 2 {
            collector.kill();
        }
        std::fs::remove_file(&ballast).unwrap();
        if round == 2 {
            collector.resume();
        }
        collector.await_ready();
    }
    judge(&world, load);
}

/// Waits until what is posted is refused, as it must be: with 503, saying when to come again.
fn await_refusal(client: &Client) {
    let beats = Beats::new(5, 1).named("refused");
    wait::until("a refusal", SOON, || {
        let answer = client.post(&beats.next());
        assert!([202, 503].contains(&answer.status), "{}", answer.text);
        answer.status == 503 && answer.header("retry-after").is_some()
    });
}

const PARTS: [&str; 6] = ["committer", "monitor", "batcher", "compactor", "http", "socket"];

/// Waits until `/health` says that the part failed so often and runs again, and `/metrics` counts that.
fn await_named(collector: &Collector<'_>, part: &str, failures: u32) {
    let up = collector.door();
    wait::value(&format!("{failures} failures of {part} on /health"), SOON, || {
        let said = up.get("/health").ok_or("no answer")?.body;
        let parts = said["parts"].as_array().ok_or("no parts")?.clone();
        let parts = parts.iter().find(|entry| entry["name"] == "parts").ok_or("not on the board")?;
        let detail = parts["detail"].as_str().unwrap_or_default();
        let named = detail.split("; ").any(|of_one| of_one.starts_with(&format!("{part} failed")));
        let counted = detail.contains(&format!("{failures} failures")) && detail.contains("runs again");
        if named && counted && parts["ok"] == false { Ok(()) } else { Err(detail.to_owned()) }
    });
    let restarts = up.metrics().sum_where("systole_part_restarts_total", |labels| labels["part"] == part);
    assert_eq!(restarts, Some(failures.into()), "{part}");
}

#[test]
fn a_part_that_cannot_start_is_started_again_and_named() {
    for part in PARTS {
        let world = World::on(Buffer::Embedded);
        let collector = world.collector().failpoints(&format!("part.{part}=error*2")).start();
        await_named(&collector, part, 2);
        collector.client().must_keep(&Beats::new(10, 2).take(50));
        world.await_published(SOON);
        world.await_drained(SOON);
        world.audit();
    }
}

#[test]
fn parts_that_panic_all_at_once_are_started_again_and_named() {
    let world = World::on(Buffer::Embedded);
    let list = PARTS.map(|part| format!("part.{part}=panic*2")).join(";");
    let collector = world.collector().failpoints(&list).start();
    PARTS.iter().for_each(|part| await_named(&collector, part, 2));
    collector.client().must_keep(&Beats::new(10, 2).take(50));
    world.await_published(SOON);
    world.await_drained(SOON);
    world.audit();
}

#[test]
fn a_committer_that_panics_with_requests_in_hand_loses_and_doubles_none() {
    let world = World::on(Buffer::Embedded);
    let list = "committer.before_push=panic+5*1;committer.after_push=panic+60*1";
    let collector = world.collector().failpoints(list).start();
    let load = producers(&collector);
    await_named(&collector, "committer", 2);
    load.iter().for_each(|load| load.await_kept(50, SOON));
    judge(&world, load);
}

#[test]
fn a_panic_at_any_step_of_the_work_loses_and_doubles_nothing() {
    let world = World::on(Buffer::Embedded);
    let steps = ["batcher", "dataset", "compactor", "buffer/embedded"].map(failpoints::in_part);
    // One after the other, so that no bucket fails over and over and is left alone for a minute.
    let list: Vec<String> = steps.iter().flatten().zip(1..).map(|(step, n)| format!("{step}=panic+{n}*1")).collect();
    let collector = world.collector().compactor_args(CONSOLIDATE).failpoints(&list.join(";")).start();
    let load = producers(&collector);
    load.iter().for_each(|load| load.await_kept(500, 2 * SOON));
    judge(&world, load);
}
