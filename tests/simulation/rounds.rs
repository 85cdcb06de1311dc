//! Many seeds, and what to do when one fails.

use std::fmt::Debug;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::figures;
use crate::play::{Outcome, play};
use crate::schedule::{Family, Schedule, schedule};
use crate::weather::Tally;

/// Plays of a failed schedule, to find out which of its events it needs, unless `SYSTOLE_SIM_SHORTEN` says how many.
const SHORTENING: usize = 60;
/// Violations shown.
const SHOWN: usize = 6;

/// Calls that timers make. One more or less of them, by a millisecond, changes nothing; what a claim hands over shows in the
/// steps that follow it.
const BY_TIMER: [&str; 4] = ["status", "renew", "announce", "claim"];

fn variable<T: FromStr<Err: Debug>>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The seeds to play: those that the environment asks for, or the first ones.
fn seeds(usual: u64) -> Range<u64> {
    match (variable::<u64>("SYSTOLE_SIM_SEED"), variable::<u64>("SYSTOLE_SIM_ROUNDS")) {
        (None, None) => 1..usual + 1,
        (Some(first), rounds) => first..first + rounds.unwrap_or(1),
        (None, Some(rounds)) => {
            let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % 1_000_000_007;
            first..first + rounds
        }
    }
}

fn asked_for(schedule: Schedule) -> Schedule {
    match variable::<String>("SYSTOLE_SIM_EVENTS") {
        None => schedule,
        Some(list) => pick(&schedule, &list.split(',').map(|at| at.parse().unwrap()).collect::<Vec<_>>()),
    }
}

fn pick(schedule: &Schedule, events: &[usize]) -> Schedule {
    events.iter().map(|at| schedule[*at]).collect()
}

/// Plays so many seeds, and fails at the first that breaks a promise.
pub fn hold(family: Family, usual: u64) {
    let (began, seeds) = (Instant::now(), seeds(usual));
    let (mut sum, mut played, mut acknowledged) = (Outcome::default(), 0_u64, 0);
    for seed in seeds {
        let schedule = asked_for(schedule(family, seed));
        let outcome = play(seed, &schedule);
        played += 1;
        if !outcome.violations.is_empty() {
            eprintln!("seed {seed} of {family:?}, number {played}, broke {} promises:", outcome.violations.len());
            outcome.violations.iter().take(SHOWN).for_each(|violation| eprintln!("  {violation}"));
            fail(seed, &schedule);
        }
        figures::note(&outcome.ledger, 0);
        acknowledged += outcome.ledger.kept();
        sum.published += outcome.published;
        sum.deduplicated += outcome.deduplicated;
        add(&mut sum.tally, outcome.tally);
        add(&mut sum.reached, outcome.reached);
    }
    eprintln!(
        "simulation of {family:?}: {played} seeds in {:.1} s, {acknowledged} heartbeats acknowledged, {} published, {} duplicates \
         dropped, lost 0, doubled 0\n  faults: {}\n  reached: {}",
        began.elapsed().as_secs_f64(),
        sum.published,
        sum.deduplicated,
        told(&sum.tally),
        told(&sum.reached)
    );
}

fn add(sum: &mut Tally, more: Tally) {
    more.into_iter().for_each(|(kind, count)| *sum.entry(kind).or_default() += count);
}

fn told(tally: &Tally) -> String {
    tally.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

fn fail(seed: u64, schedule: &Schedule) -> ! {
    let needed = shorten(seed, schedule);
    eprintln!("events that it needs, each with the time that passes behind it:");
    needed.iter().for_each(|at| eprintln!("  {at}: {:?}", schedule[*at]));
    let events: Vec<String> = needed.iter().map(ToString::to_string).collect();
    panic!("SYSTOLE_SIM_SEED={seed} SYSTOLE_SIM_EVENTS={} plays it again", events.join(","));
}

/// Leaves out what a failure does not need, larger pieces first.
fn shorten(seed: u64, schedule: &Schedule) -> Vec<usize> {
    let mut needed: Vec<usize> = (0..schedule.len()).collect();
    let most = variable("SYSTOLE_SIM_SHORTEN").unwrap_or(SHORTENING);
    let (mut piece, mut plays) = (schedule.len() / 2, 0);
    while piece > 0 && plays < most {
        let mut at = 0;
        while at < needed.len() && plays < most {
            let mut fewer = needed.clone();
            fewer.drain(at..(at + piece).min(needed.len()));
            plays += 1;
            if play(seed, &pick(schedule, &fewer)).violations.is_empty() {
                at += piece;
            } else {
                needed = fewer;
            }
        }
        piece /= 2;
    }
    needed
}

/// The first of these seeds that breaks a promise, and the promise.
pub fn first_violation(family: Family, mut seeds: RangeInclusive<u64>) -> Option<(u64, String)> {
    seeds.find_map(|seed| Some((seed, play(seed, &schedule(family, seed)).violations.into_iter().next()?)))
}

/// Fails unless each of these seeds goes the same way twice.
pub fn replays(family: Family) {
    for seed in seeds(4) {
        let schedule = schedule(family, seed);
        let (first, second) = (play(seed, &schedule), play(seed, &schedule));
        // Two tasks that are ready at once may change places.
        let sorted = |outcome: Outcome| {
            let mut steps: Vec<_> = outcome.trace.into_iter().map(|(_, step)| step).collect();
            steps.retain(|step| !BY_TIMER.contains(&step.as_str()));
            steps.sort();
            (steps, outcome.tally, outcome.ledger.kept())
        };
        let (first, second) = (sorted(first), sorted(second));
        if let Some(at) = first.0.iter().zip(&second.0).position(|(a, b)| a != b) {
            let around = at.saturating_sub(20)..(at + 3).min(first.0.len()).min(second.0.len());
            panic!("seed {seed}, step {at}: {:#?} and {:#?}", &first.0[around.clone()], &second.0[around]);
        }
        assert_eq!(first.0.len(), second.0.len(), "seed {seed}");
        assert_eq!((first.1, first.2), (second.1, second.2), "seed {seed}");
    }
}
