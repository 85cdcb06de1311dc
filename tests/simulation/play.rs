//! Playing a schedule from its first event to the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use systole::buffer::{Error, Inlet};
use systole::heartbeat::{Frame, Heartbeat, Partition, partition_of};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use crate::beats::{Beat, Beats};
use crate::dice::Dice;
use crate::disk::Manner;
use crate::ground::Taken;
use crate::heal;
use crate::ledger::Ledger;
use crate::life::Life;
use crate::line::Line;
use crate::schedule::{Event, Schedule};
use crate::weather::Tally;
use crate::world::{PARTITIONS, RIVAL, World};

/// How a schedule ended.
#[derive(Debug, Default)]
pub struct Outcome {
    pub violations: Vec<String>,
    pub ledger: Arc<Ledger>,
    pub published: u64,
    pub deduplicated: u64,
    pub tally: Tally,
    pub reached: Tally,
    /// What was done in which order, for comparing two runs.
    pub trace: Vec<Taken>,
}

/// Virtual time that others get while a process stands still.
const INTERLUDE: u32 = 40;
/// Longer than any lease, by which a rival is ahead of the one that stands still.
const PAST_ALL_LEASES: Duration = Duration::from_secs(40);

/// Plays it, in virtual time and on one thread for what waits and one for what blocks: see the notes on replaying in
/// `main.rs`.
pub fn play(seed: u64, schedule: &Schedule) -> Outcome {
    let manner = if seed.is_multiple_of(2) { Manner::Worst } else { Manner::Journal };
    let world = World::new(manner, seed);
    let within = Arc::downgrade(&world);
    world.ground.set_interlude(Some(Arc::new(move |life: &Life| {
        if let Some(world) = within.upgrade() {
            interlude(&world, life);
        }
    })));
    let runtime = runtime();
    let (playing, schedule) = (world.clone(), schedule.clone());
    let ended = runtime.block_on(async { tokio::spawn(async move { events(&playing, seed, &schedule).await }).await });
    drop(runtime);
    world.ground.set_interlude(None);
    if let Err(panic) = ended {
        world.violation(format!("the play itself failed: {panic}"));
    }
    let (published, deduplicated) = heal::figures(&world);
    Outcome {
        violations: world.violations(),
        ledger: world.ledger.clone(),
        published,
        deduplicated,
        tally: world.ground.weather.tally(),
        reached: world.ground.weather.reached(),
        trace: world.ground.trace(),
    }
}

/// One thread for tasks, which looks for what a blocking thread woke only when it has nothing else to do; one thread for
/// what blocks, in the order in which it was asked for; and a clock that moves on only when both have nothing to do.
fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .global_queue_interval(1 << 30)
        .event_interval(1 << 30)
        .build()
        .unwrap()
}

async fn events(world: &Arc<World>, seed: u64, schedule: &Schedule) {
    let _turn = world.ground.take_turns();
    world.bear().await;
    let mut clients = JoinSet::new();
    for (at, (event, pause)) in schedule.iter().enumerate() {
        world.see_to_the_power().await;
        // Each event has dice of its own: leaving one out does not change the others.
        let dice = Dice::of(seed.wrapping_mul(1_000).wrapping_add(at as u64));
        happen(world, *event, dice, &mut clients).await;
        tokio::time::sleep(*pause).await;
    }
    heal::heal(world, clients).await;
}

async fn happen(world: &Arc<World>, event: Event, mut dice: Dice, clients: &mut JoinSet<()>) {
    match event {
        Event::Push { fresh, again } => {
            let beats = bulk(world, fresh, again, &mut dice);
            clients.spawn(push(world.clone(), dice.roll(usize::MAX) as u64, beats));
        }
        Event::Start(slot) => world.start_batcher(slot).await,
        Event::Stop(slot) => {
            if let Some(running) = world.take_batcher(slot) {
                let life = running.life.clone();
                tokio::select! {
                    () = life.died() => {}
                    () = running.stop() => {}
                }
            }
        }
        Event::Kill(slot, steps) => world.kill_batcher_after(slot, steps),
        Event::Compact(slot, dies_after) => {
            let world = world.clone();
            let look = dice.roll(3) == 0;
            spawn_blocking(move || {
                world.compact(slot, dies_after);
                if look && !world.ground.is_power_gone() {
                    world.look();
                }
            })
            .await
            .unwrap();
        }
        Event::PowerCut(0) => world.ground.cut_power(),
        Event::PowerCut(steps) => world.ground.cut_power_after(steps),
        Event::Weather(forecast) => world.ground.weather.set(forecast),
        Event::Hours => {
            // In the line of all that blocks: no file is being written meanwhile.
            let world = world.clone();
            spawn_blocking(move || world.ground.pass(Duration::from_secs(2 * 3_600))).await.unwrap();
        }
        Event::Look => {
            let world = world.clone();
            spawn_blocking(move || world.look()).await.unwrap();
        }
        Event::Reopen => {
            world.kill_all().await;
            // A client's call may be under way, which ends soon.
            for _ in 0..20 {
                if world.place.reopen().is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            world.violation("the buffer cannot be opened again".into());
        }
        Event::Rest => {}
    }
}

/// New heartbeats, and some that were sent before: as they were, or with other attributes.
fn bulk(world: &World, fresh: usize, again: usize, dice: &mut Dice) -> Vec<Beat> {
    let mut sent = world.sent.lock().unwrap();
    // One bucket that is still being filled and one of a day that is past, of each partition.
    let base = if dice.roll(3) == 0 { Beats::days_ago(3, 2, 3) } else { Beats::new(5, 2) };
    let name = format!("u{}-", dice.roll(3));
    let source = base.named(name);
    (0..dice.roll(5_000)).for_each(|_| drop(source.next()));
    let mut beats = source.take(fresh);
    for _ in 0..again {
        if sent.is_empty() {
            break;
        }
        let mut beat = sent[dice.roll(sent.len())].clone();
        if dice.roll(3) == 0 {
            beat.attributes = Some(json!({ "again": dice.roll(100) }));
        }
        beats.push(beat);
    }
    sent.extend(beats.iter().cloned());
    beats
}

/// One client: sends a bulk and notes what it is told.
async fn push(world: Arc<World>, client: u64, beats: Vec<Beat>) {
    let mut of: BTreeMap<Partition, Vec<Beat>> = BTreeMap::new();
    for beat in beats {
        of.entry(partition_of(&beat.identity.user_id, PARTITIONS)).or_default().push(beat);
    }
    let frames: Vec<(Partition, Frame)> = of.iter().map(|(partition, beats)| (*partition, frame(beats))).collect();
    let life = Life::new(client);
    let line = Line::new(world.place.clone(), world.ground.clone(), life.clone());
    let answers = tokio::select! {
        biased;
        answers = line.push(&frames) => answers,
        () = life.died() => vec![Err(Error::TimedOut { after: Duration::ZERO }); frames.len()],
    };
    for (beats, answer) in of.into_values().zip(answers) {
        for beat in beats {
            match &answer {
                Ok(()) => world.ledger.keep(&beat),
                // Not taken, for sure.
                Err(Error::Refused { .. } | Error::Full { .. }) => {}
                Err(_) => world.ledger.maybe(&beat),
            }
        }
    }
}

fn frame(beats: &[Beat]) -> Frame {
    let heartbeats: Vec<Heartbeat> = beats
        .iter()
        .enumerate()
        .map(|(at, beat)| Heartbeat {
            user_id: beat.identity.user_id.clone(),
            device_id: beat.identity.device_id.clone(),
            timestamp: beat.identity.timestamp,
            id: beat.identity.id.clone(),
            // Ahead of the clock, which does not move as virtual time does: so no heartbeat seems to have waited.
            received_at: crate::beats::now_ms() + 86_400_000 + at as i64,
            attributes: beat.attributes.as_ref().map(ToString::to_string),
        })
        .collect();
    Frame::encode(heartbeats.iter().map(Heartbeat::as_ref)).unwrap()
}

/// What others do while a process stands still before a change of the disk. Blocking, in the thread of that process.
fn interlude(world: &Arc<World>, life: &Life) {
    match world.ground.weather.dice("interlude").roll(5) {
        0 => {
            world.ground.weather.count("killed while it stood still");
            life.kill();
        }
        1 => world.look(),
        2 => drop(world.compact(RIVAL, None)),
        _ => rival(world),
    }
}

/// Another batcher, for which all leases have lapsed, drains what it can.
fn rival(world: &Arc<World>) {
    world.ground.weather.count("another batcher took over meanwhile");
    let now = Instant::now();
    let world = world.clone();
    let runtime = runtime();
    let ended = runtime.block_on(async move {
        let drained = async move {
            let _turn = world.ground.take_turns();
            tokio::time::advance((now + PAST_ALL_LEASES).saturating_duration_since(Instant::now())).await;
            let Some(running) = world.batcher(RIVAL).await else { return };
            // One that dies leaves a claim of its own behind, which the one that stood still must not close.
            if world.ground.weather.dice("rival").roll(3) == 0 {
                let steps = world.ground.weather.dice("rival's death").roll(20);
                running.life.kill_after(steps as i64);
            }
            for _ in 0..INTERLUDE {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if running.life.is_dead() || heal::is_drained(&world).await {
                    break;
                }
            }
            let life = running.life.clone();
            tokio::select! {
                () = life.died() => {}
                () = running.stop() => {}
            }
        };
        tokio::spawn(drained).await
    });
    ended.unwrap();
}
