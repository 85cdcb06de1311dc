//! Which step fails, and how: by the dice, in shares of a thousand.
//!
//! Constraint: all of it comes from one seed, and is asked for in the order of the steps; so the same schedule meets the
//! same faults at the same places again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::dice::Dice;

/// What is to be expected of the next steps. Numbers are shares of a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    /// A change of the disk fails without being made.
    pub fails_before: usize,
    /// A change of the disk is made, and said to have failed.
    pub fails_after: usize,
    /// A file takes no byte that is written into it.
    pub fails_writing: usize,
    /// A sync of a file fails, and loses the content.
    pub fails_syncing: usize,
    /// Nothing more fits on the disk.
    pub full: bool,
    /// Syncs are answered without being made.
    pub lies: bool,
    /// Others go ahead while a process stands still before a change of the disk.
    pub interlude: usize,
    /// A call of the buffer is refused.
    pub refused: usize,
    /// It is carried out, and its answer lost.
    pub lost_reply: usize,
    /// It is carried out, and its answer comes late, perhaps after the lease.
    pub late_reply: usize,
    /// It is given up by the caller, and carried out later.
    pub late_effect: usize,
    /// The caller dies at it, before or after.
    pub dies_calling: usize,
}

/// What becomes of a call to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Plain(Duration),
    Refused,
    LostReply,
    LateReply(Duration),
    LateEffect(Duration),
    DiesBefore,
    DiesAfter,
}

/// What becomes of a change of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Fine,
    FailsBefore,
    FailsAfter,
}

/// Faults that came about, by kind.
pub type Tally = BTreeMap<&'static str, u64>;

#[derive(Debug)]
pub struct Weather(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    dice: Dice,
    forecast: Forecast,
    tally: Tally,
    reached: Tally,
}

/// No reply is later than this: about three leases.
const LATEST_MS: usize = 45_000;

impl Weather {
    pub fn of(seed: u64) -> Self {
        Self(Mutex::new(Inner {
            dice: Dice::of(seed),
            forecast: Forecast::default(),
            tally: Tally::new(),
            reached: Tally::new(),
        }))
    }

    pub fn set(&self, forecast: Forecast) {
        self.0.lock().unwrap().forecast = forecast;
    }

    pub fn forecast(&self) -> Forecast {
        self.0.lock().unwrap().forecast
    }

    pub fn tally(&self) -> Tally {
        self.0.lock().unwrap().tally.clone()
    }

    pub fn count(&self, what: &'static str) {
        *self.0.lock().unwrap().tally.entry(what).or_default() += 1;
    }

    /// What came about because of the faults, so that a reader of the figures knows what was tried.
    pub fn reached(&self) -> Tally {
        self.0.lock().unwrap().reached.clone()
    }

    pub fn note(&self, what: &'static str, times: u64) {
        if times > 0 {
            *self.0.lock().unwrap().reached.entry(what).or_default() += times;
        }
    }

    /// Something by the dice of the weather.
    pub fn roll(&self, sides: usize) -> usize {
        self.0.lock().unwrap().dice.roll(sides)
    }

    /// Whether a fault with this share of a thousand happens; it is counted.
    pub fn happens(&self, what: &'static str, share: impl FnOnce(&Forecast) -> usize) -> bool {
        let mut inner = self.0.lock().unwrap();
        let share = share(&inner.forecast);
        inner.happens(what, share)
    }

    pub fn step(&self) -> Step {
        let mut inner = self.0.lock().unwrap();
        let forecast = inner.forecast;
        if inner.happens("step failed", forecast.fails_before) {
            Step::FailsBefore
        } else if inner.happens("step done, said to have failed", forecast.fails_after) {
            Step::FailsAfter
        } else {
            Step::Fine
        }
    }

    pub fn call(&self) -> Call {
        let mut inner = self.0.lock().unwrap();
        let forecast = inner.forecast;
        if inner.happens("call refused", forecast.refused) {
            Call::Refused
        } else if inner.happens("reply lost", forecast.lost_reply) {
            Call::LostReply
        } else if inner.happens("reply late", forecast.late_reply) {
            Call::LateReply(inner.dice.millis(LATEST_MS))
        } else if inner.happens("effect late", forecast.late_effect) {
            Call::LateEffect(inner.dice.millis(LATEST_MS))
        } else if inner.happens("died at a call", forecast.dies_calling) {
            if inner.dice.roll(2) == 0 { Call::DiesBefore } else { Call::DiesAfter }
        } else {
            Call::Plain(inner.dice.millis(3))
        }
    }
}

impl Inner {
    fn happens(&mut self, what: &'static str, share: usize) -> bool {
        let happens = share > 0 && self.dice.roll(1_000) < share;
        if happens {
            *self.tally.entry(what).or_default() += 1;
        }
        happens
    }
}
