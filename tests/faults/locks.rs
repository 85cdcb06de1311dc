//! A process stopped (SIGSTOP) while it holds a lock of a bucket: the others do not hang, say so, and work on elsewhere;
//! once it goes on, so does everything. On Redis, where there are others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::oracle::count_rows;
use crate::support::{
    Beats, Buffer, Dice, Launch, Producers, QUICK_LEASE, SOON, Systole, World, failpoints, process, wait,
};

/// How long anyone waits for `.lock`, here.
const LOCK_DEADLINE: &str = "--lock-deadline=300ms";
/// By when somebody who waited in vain has gone on: the deadline, and a busy machine.
const WORKS_ON: Duration = Duration::from_secs(10);

fn await_stopped(process: &Systole) {
    wait::until("it to stop", SOON, || process::state(process.pid()) == 'T');
}

/// Two batchers, two compactors, a door; one of them stops itself at a step of its own.
struct Stage<'w> {
    world: &'w World,
    sleeper: Systole,
    others: Vec<Systole>,
    serve: Systole,
    load: Producers,
}

impl<'w> Stage<'w> {
    /// `sleeper` stops at the failpoint, in the middle of the load.
    fn set(world: &'w World, sleeper: Launch, failpoint: &str, others: Vec<Launch>) -> Self {
        world.register();
        let sleeper = sleeper.failpoints(&format!("{failpoint}=stop*1")).start();
        let others = others.into_iter().map(Launch::start).collect();
        let serve = world.serve().start();
        serve.await_status("/health/ready", 200, SOON);
        let load = Producers::start(vec![world.client(&serve); 2], Arc::new(Beats::new(40, 2)), 10);
        await_stopped(&sleeper);
        Self { world, sleeper, others, serve, load }
    }

    /// What is taken in and what is published grow, though one bucket is locked.
    fn must_work_on(&self) {
        self.load.await_kept(200, WORKS_ON);
        let published = count_rows(self.world.dataset());
        wait::until("other buckets to be published", WORKS_ON, || count_rows(self.world.dataset()) > published + 50);
        assert_eq!(process::state(self.sleeper.pid()), 'T', "it sleeps all the while");
    }

    fn wakes_up_and_all_is_well(self) {
        let slept = Instant::now();
        self.sleeper.cont();
        self.load.await_kept(100, SOON);
        let kept = self.load.stop();
        self.world.await_drained(2 * SOON);
        self.world.await_published(2 * SOON);
        for process in self.others.iter().chain([&self.sleeper, &self.serve]) {
            process.await_status("/health", 200, SOON);
        }
        assert_eq!(self.world.held("dead"), 0, "nothing was to blame");
        self.world.verify();
        self.world.audit();
        eprintln!("{kept} acknowledged, 0 lost, 0 doubled; well again after {:?}", slept.elapsed());
    }
}

fn batch(world: &World) -> Launch {
    world.batch().args(QUICK_LEASE).args([LOCK_DEADLINE])
}

fn watch(world: &World) -> Launch {
    world.watch().args([LOCK_DEADLINE])
}

/// Waits until `/health` of the process is 503 and says these words.
fn await_named(process: &Systole, words: &[&str]) {
    wait::value("the lock to be named", SOON, || {
        let answer = process.get("/health").ok_or("no answer")?;
        let named = answer.status == 503 && words.iter().all(|word| answer.text.contains(word));
        if named { Ok(()) } else { Err(answer.text) }
    });
}

#[test]
fn a_batcher_stopped_with_the_lock_of_a_bucket_holds_up_that_bucket_only() {
    let world = World::on(Buffer::Redis);
    let others = vec![batch(&world), watch(&world)];
    let stage = Stage::set(&world, batch(&world), "fragment.renamed", others);
    stage.must_work_on();
    await_named(&stage.others[1], &["stays locked", "partition="]);
    stage.wakes_up_and_all_is_well();
}

#[test]
fn a_compactor_stopped_with_both_locks_of_a_bucket_holds_up_that_bucket_only() {
    let world = World::on(Buffer::Redis);
    let others = vec![batch(&world), batch(&world), watch(&world)];
    let stage = Stage::set(&world, watch(&world), "fragments.removed", others);
    stage.must_work_on();
    wait::until("a batcher to name the lock", SOON, || {
        let named = |batch: &Systole| {
            let health = batch.get("/health").map(|answer| (answer.status, answer.text)).unwrap_or_default();
            health.0 == 503 && health.1.contains(".lock")
        };
        stage.others.iter().take(2).any(named)
    });
    stage.wakes_up_and_all_is_well();
}

/// Nobody waits for `.compact.lock`: batchers write on, and another compactor leaves the bucket alone.
fn stopped_compactor(failpoint: &str) {
    let world = World::on(Buffer::Redis);
    let consolidating = ["--max-files=3", "--small-file-share=0", "--large-file-rows=300", "--reader-grace=0s"];
    let others = vec![batch(&world).args(["--publish-lag=2s"]), watch(&world).args(consolidating)];
    let stage = Stage::set(&world, watch(&world).args(consolidating), failpoint, others);
    stage.must_work_on();
    // What the batcher is there for goes on whatever the compactor does.
    let taken_in = stage.load.kept();
    wait::until("everything to be written", SOON, || world.held("acked") >= taken_in);
    await_named(&stage.others[0], &["publish lag"]);
    stage.wakes_up_and_all_is_well();
}

#[test]
fn a_compactor_stopped_before_it_publishes_holds_up_no_batcher_and_no_other_bucket() {
    stopped_compactor("compactor.publish.before_commit");
}

#[test]
fn a_compactor_stopped_after_it_published_holds_up_no_batcher_and_no_other_bucket() {
    stopped_compactor("publish.renamed");
}

#[test]
fn a_compactor_stopped_after_an_exchange_holds_up_no_batcher_and_no_other_bucket() {
    stopped_compactor("consolidate.exchanged");
}

/// Failpoints that a claim alone does not reach.
const SPECIAL: [&str; 2] = ["batcher.before_release", "batcher.in_hand"];

/// A batcher stops at each of these steps, past its lease; another one takes over, all is merged; then the first goes on.
fn stop_at_each(steps: &[String], mut dice: Dice) -> usize {
    let world = World::on(Buffer::Redis);
    world.register();
    let serve = world.serve().start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    let beats = Beats::new(30, 2);
    for step in steps {
        client.must_keep(&beats.take(40));
        // At one of the partitions that it works on.
        let nth = dice.roll(2);
        let zombie = batch(&world).failpoints(&format!("{step}=stop+{nth}*1")).start();
        await_stopped(&zombie);
        let next = batch(&world).start();
        world.await_drained(SOON);
        // Unless that holds the lock, it finds nothing any more of what it was about.
        if step != "fragment.renamed" {
            world.compact().args([LOCK_DEADLINE]).run().expect_code(0);
        }
        zombie.cont();
        client.must_keep(&beats.take(10));
        world.await_drained(SOON);
        wait::until("the zombie to be well", SOON, || zombie.get("/health").is_some_and(|answer| answer.status == 200));
        zombie.stop();
        next.stop();
        world.publish();
    }
    assert_eq!(world.held("dead"), 0, "nothing was to blame");
    world.verify();
    world.audit();
    world.ledger.kept()
}

#[test]
fn a_batcher_stopped_past_its_lease_at_any_step_wakes_up_harmless() {
    let mut steps: Vec<String> = failpoints::in_part("batcher").into_iter().collect();
    steps.extend(failpoints::in_part("dataset").into_iter().filter(|name| name.starts_with("fragment.")));
    steps.retain(|name| !SPECIAL.contains(&name.as_str()));
    assert!(steps.len() >= 9, "{steps:?}");
    let mut dice = Dice::loaded_anew();
    // Side by side: most of the time is spent waiting for leases to run out.
    let kept: usize = std::thread::scope(|scope| {
        let parts: Vec<_> = steps
            .chunks(steps.len().div_ceil(3))
            .map(|part| {
                let dice = Dice::of(dice.roll(usize::MAX) as u64);
                scope.spawn(move || stop_at_each(part, dice))
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    });
    eprintln!("{} stops, {kept} acknowledged, 0 lost, 0 doubled", steps.len());
}
