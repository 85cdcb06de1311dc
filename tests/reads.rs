//! Live reads: a heartbeat that was answered 202 is in the very next answer, whatever moves meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::authors::MayFail;
use support::{Authors, Beats, Buffer, Launch, SOON, World, client, on_every_buffer, process, wait};

/// Everything moves as fast as it can: claims of few heartbeats, publishes and consolidations all the time.
const BATCHER: [&str; 3] = ["--max-delay=5ms", "--look-every=5ms", "--claim-rows=40"];
const COMPACTOR: [&str; 5] =
    ["--publish-after=20ms", "--publish-scan-every=10ms", "--max-files=3", "--small-file-share=0", "--reader-grace=0s"];

fn data(world: &World) -> String {
    format!("--data={}", world.dataset().display())
}

/// `systole serve` that sees the files.
fn serve(world: &World) -> Launch {
    world.serve().args([data(world)])
}

/// What was answered 202 is published in the end. Buckets are exchanged still, so a look of another engine may fail for once.
fn came_through(world: &World) {
    world.await_published(4 * SOON);
    world.await_drained(SOON);
}

fn what_was_answered_202_is_in_the_very_next_answer(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().batcher_args(BATCHER).compactor_args(COMPACTOR);
    if buffer == Buffer::Redis {
        // Makes the dataset, too.
        world.register();
        collector = collector.door_args([data(&world)]);
    }
    let collector = collector.start();
    let authors = Authors::start(&collector.client(), &collector.door().url(), 6, MayFail::Nothing);
    authors.await_checks(100_000);
    let consolidations = || collector.compactor().metrics().sum("systole_compactor_consolidations_total");
    wait::until("a consolidation under the eyes of the readers", 2 * SOON, || consolidations() > Some(0.0));
    assert!(authors.stop() >= 100_000);
    let metrics = collector.door().metrics();
    assert!(metrics.sum("systole_read_rows_total").unwrap() >= 100_000.0);
    assert_eq!(metrics.sum("systole_read_failures_total"), Some(0.0));
    came_through(&world);
}

on_every_buffer! {
    what_was_answered_202_is_in_the_very_next_answer,
}

/// Each death hands a standing claim to another batcher, which writes the same fragments again.
#[test]
fn deaths_of_batchers_hide_nothing() {
    let world = World::on(Buffer::Redis);
    let batch = || world.batch().args(BATCHER).args(support::QUICK_LEASE).start();
    let (mut first, _second, _watch) = (batch(), batch(), world.watch().args(COMPACTOR).start());
    let serve = serve(&world).start();
    serve.await_status("/health/ready", 200, SOON);
    let authors = Authors::start(&world.client(&serve), &serve.url(), 4, MayFail::Nothing);
    for _ in 0..4 {
        authors.await_reads(40);
        first.sigkill();
        first = batch();
    }
    authors.await_reads(40);
    authors.stop();
    came_through(&world);
    world.audit();
}

/// While Redis is away a reading is refused, since nobody knows what lies in it; what was spilled meanwhile is there from
/// the first answer on.
#[test]
fn what_was_spilled_is_in_the_first_answer_and_in_all_others() {
    let mut world = World::on(Buffer::Redis);
    let spill = world.dataset().parent().unwrap().join("spill");
    let (_batch, _watch) = (world.batch().args(BATCHER).start(), world.watch().args(COMPACTOR).start());
    let spilling = [format!("--spill-dir={}", spill.display()), "--spill-after=500ms".to_owned()];
    let serve = serve(&world).args(spilling).start();
    serve.await_status("/health", 200, SOON);
    let authors = Authors::start(&world.client(&serve), &serve.url(), 3, MayFail::Readings);
    for _ in 0..2 {
        authors.await_reads(30);
        let spilled = || serve.metrics().sum("systole_spill_heartbeats_total").unwrap_or(0.0);
        let before = spilled();
        world.redis_mut().shut_down();
        // Each author waits for an answer before it writes on, so there is little of it.
        support::wait::until("something to be spilled", SOON, || spilled() > before);
        world.redis_mut().restart();
        authors.await_reads(30);
    }
    authors.stop();
    came_through(&world);
}

/// A door stands still in the midst of a reading while others take all steps that can be taken. Whatever it had listed by
/// then is gone, and what is there was not when it looked.
#[test]
fn whatever_moves_between_two_looks_of_a_reading_is_found() {
    for step in ["read.buffered", "read.staging_listed", "read.staging_read", "read.published_listed"] {
        let world = World::on(Buffer::Redis);
        let batch = || world.batch().args(BATCHER).start();
        let publish = || world.compact().args(["--max-files=3", "--reader-grace=0s"]).run().expect_code(0);
        let filling = world.serve().start();
        let batcher = batch();
        filling.await_status("/health/ready", 200, SOON);
        let (client, beats) = (world.client(&filling), Beats::new(1, 4));
        // Some files that are to be consolidated; what is staged; what waits.
        for _ in 0..3 {
            client.must_keep(&beats.take(50));
            world.await_drained(SOON);
            publish();
        }
        client.must_keep(&beats.take(50));
        world.await_drained(SOON);
        batcher.stop();
        client.must_keep(&beats.take(50));
        filling.stop();

        let serve = serve(&world).failpoints(&format!("{step}=stop*1")).start();
        let url = format!("{}/v1/users/user-0/heartbeats?limit=1000", serve.url());
        let asked = std::thread::spawn(move || client::get(&url).unwrap());
        wait::until(&format!("it to stand still at {step}"), SOON, || process::state(serve.pid()) == 'T');
        let batcher = batch();
        world.await_drained(SOON);
        batcher.stop();
        publish();
        publish();
        serve.cont();
        let answer = asked.join().unwrap();
        assert_eq!(answer.status, 200, "{step}: {}", answer.text);
        let found = answer.body["heartbeats"].as_array().unwrap().len();
        assert_eq!(found, 250, "at {step}");
        serve.stop();
        world.judge();
    }
}
