//! Schedules: what happens when, from a seed.

use std::time::Duration;

use crate::dice::Dice;
use crate::weather::Forecast;

/// Batchers, and compactors, that may run side by side.
pub const SLOTS: usize = 2;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A client sends a bulk of new heartbeats and of some that it sent before.
    Push { fresh: usize, again: usize },
    /// A batcher comes up, if that one is not up.
    Start(usize),
    /// A batcher is told to stop.
    Stop(usize),
    /// A batcher is killed after so many more changes of the disk.
    Kill(usize, i64),
    /// A compactor makes a pass; it dies at the given change of the disk, or not at all.
    Compact(usize, Option<i64>),
    /// The power goes after so many more changes of the disk, by whomever.
    PowerCut(i64),
    /// The weather changes.
    Weather(Forecast),
    /// For what is left behind on the disk, hours pass.
    Hours,
    /// A reader looks.
    Look,
    /// The buffer's process ends and comes back, and with it all that is in one process with it.
    Reopen,
    /// Nothing.
    Rest,
}

/// What kind of faults a schedule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Deaths,
    PowerCuts,
    DiskErrors,
    DiskFull,
    Buffer,
    Zombies,
    Mixed,
    /// No fault but power cuts, on a disk that lies about syncs.
    Liar,
}

/// A schedule: each event, and the time that passes before the next.
pub type Schedule = Vec<(Event, Duration)>;

/// The schedule of a seed.
pub fn schedule(family: Family, seed: u64) -> Schedule {
    let mut dice = Dice::of(seed);
    let length = 25 + dice.roll(35);
    let mut events = vec![(Event::Weather(weather(family, &mut dice)), Duration::ZERO)];
    for slot in 0..SLOTS {
        events.push((Event::Start(slot), dice.millis(3_000)));
    }
    for _ in 0..length {
        if matches!(family, Family::PowerCuts | Family::Mixed) && dice.roll(8) == 0 {
            events.extend(in_a_row(&mut dice));
            continue;
        }
        let event = event(family, &mut dice);
        // Mostly moments, now and then longer than a lease.
        let pause = if dice.roll(6) == 0 { dice.millis(25_000) } else { dice.millis(2_500) };
        events.push((event, pause));
    }
    events
}

/// One dies between two steps, another takes over what it left, and the power goes before anything else is synced: what
/// would hardly ever come about by chance.
fn in_a_row(dice: &mut Dice) -> Schedule {
    let at_once = Duration::from_millis(1);
    if dice.roll(2) == 0 {
        let dies_after = 20 + dice.roll(40) as i64;
        return vec![
            (Event::Compact(0, Some(dies_after)), at_once),
            (Event::Compact(1, None), at_once),
            (Event::PowerCut(0), at_once),
        ];
    }
    let step = dice.roll(8) as i64;
    vec![
        (Event::Start(0), Duration::from_secs(1)),
        (Event::Start(1), Duration::from_secs(8)),
        (Event::Kill(0, step), at_once),
        (Event::Kill(1, step), at_once),
        (Event::Push { fresh: 4, again: 1 }, Duration::from_secs(7)),
        (Event::Start(0), at_once),
        (Event::Start(1), dice.millis(2_000)),
        (Event::PowerCut(0), at_once),
    ]
}

fn event(family: Family, dice: &mut Dice) -> Event {
    let of_its_kind = match family {
        Family::Mixed => {
            const ALL: [Family; 6] = [
                Family::Deaths,
                Family::PowerCuts,
                Family::DiskErrors,
                Family::DiskFull,
                Family::Buffer,
                Family::Zombies,
            ];
            ALL[dice.roll(ALL.len())]
        }
        one => one,
    };
    match dice.roll(20) {
        0..6 => Event::Push { fresh: 1 + dice.roll(30), again: dice.roll(8) },
        6..9 => Event::Start(dice.roll(SLOTS)),
        9 => Event::Stop(dice.roll(SLOTS)),
        10..13 => Event::Compact(dice.roll(SLOTS), None),
        13 => Event::Look,
        14 => Event::Hours,
        15 => Event::Rest,
        _ => special(of_its_kind, family, dice),
    }
}

fn special(kind: Family, family: Family, dice: &mut Dice) -> Event {
    match kind {
        Family::Deaths => match dice.roll(6) {
            0..2 => Event::Kill(dice.roll(SLOTS), dice.roll(12) as i64),
            2 => Event::Reopen,
            3 => Event::Weather(weather(family, dice)),
            _ => Event::Compact(dice.roll(SLOTS), Some(dice.roll(60) as i64)),
        },
        Family::PowerCuts | Family::Liar => match dice.roll(6) {
            0 => Event::PowerCut(0),
            // What a process left undone when it died is on the disk or not when the power goes.
            1 => Event::Kill(dice.roll(SLOTS), dice.roll(12) as i64),
            2 => Event::Compact(dice.roll(SLOTS), Some(dice.roll(60) as i64)),
            _ => Event::PowerCut(dice.roll(40) as i64),
        },
        // What a failed sync has lost is seen when the power goes.
        Family::DiskErrors if dice.roll(2) == 0 => Event::PowerCut(dice.roll(40) as i64),
        _ => Event::Weather(weather(family, dice)),
    }
}

/// Bad or fair, as it may be in a schedule of this kind.
fn weather(family: Family, dice: &mut Dice) -> Forecast {
    let mut forecast = Forecast { lies: family == Family::Liar, ..Forecast::default() };
    let bad = |dice: &mut Dice| dice.roll(3) > 0;
    let has = |kind| family == kind || family == Family::Mixed;
    if has(Family::DiskErrors) && bad(dice) {
        forecast.fails_before = dice.roll(60);
        forecast.fails_after = dice.roll(60);
        forecast.fails_writing = dice.roll(60);
        forecast.fails_syncing = dice.roll(200);
    }
    if has(Family::DiskFull) && dice.roll(2) == 0 {
        forecast.full = true;
    }
    if has(Family::Buffer) && bad(dice) {
        forecast.refused = dice.roll(60);
        forecast.lost_reply = dice.roll(60);
        forecast.late_reply = dice.roll(60);
        forecast.late_effect = dice.roll(60);
        forecast.dies_calling = dice.roll(20);
    }
    if has(Family::Deaths) && bad(dice) {
        forecast.dies_calling = dice.roll(80);
    }
    if has(Family::Zombies) && bad(dice) {
        forecast.interlude = 20 + dice.roll(100);
    }
    forecast
}
