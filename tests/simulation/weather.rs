//! Which step fails, and how: by the dice, in shares of a thousand.
//!
//! Constraint: all of it follows from the seed, from who is asking for what, and from how often that was asked before. So the
//! same schedule meets the same faults at the same places again, also where two tasks happen to change places.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
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
    seed: u64,
    /// How often was asked, by the hash of who asked for what.
    asked: HashMap<u64, u64>,
    forecast: Forecast,
    tally: Tally,
    reached: Tally,
}

/// No reply is later than this: about three leases.
const LATEST_MS: usize = 45_000;

impl Weather {
    pub fn of(seed: u64) -> Self {
        Self(Mutex::new(Inner {
            seed,
            asked: HashMap::new(),
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

    /// Dice for what `who` asks for next.
    pub fn dice(&self, who: impl Hash) -> Dice {
        self.0.lock().unwrap().dice(who)
    }

    /// Whether a fault with this share of a thousand happens; it is counted.
    pub fn happens(&self, what: &'static str, who: impl Hash, share: impl FnOnce(&Forecast) -> usize) -> bool {
        let mut inner = self.0.lock().unwrap();
        let (share, mut dice) = (share(&inner.forecast), inner.dice((what, who)));
        inner.happens(&mut dice, what, share)
    }

    pub fn step(&self, who: impl Hash) -> Step {
        let mut inner = self.0.lock().unwrap();
        let (forecast, dice) = (inner.forecast, &mut inner.dice(who));
        if inner.happens(dice, "step failed", forecast.fails_before) {
            Step::FailsBefore
        } else if inner.happens(dice, "step done, said to have failed", forecast.fails_after) {
            Step::FailsAfter
        } else {
            Step::Fine
        }
    }

    pub fn call(&self, who: impl Hash) -> Call {
        let mut inner = self.0.lock().unwrap();
        let (forecast, dice) = (inner.forecast, &mut inner.dice(who));
        if inner.happens(dice, "call refused", forecast.refused) {
            Call::Refused
        } else if inner.happens(dice, "reply lost", forecast.lost_reply) {
            Call::LostReply
        } else if inner.happens(dice, "reply late", forecast.late_reply) {
            Call::LateReply(dice.millis(LATEST_MS))
        } else if inner.happens(dice, "effect late", forecast.late_effect) {
            Call::LateEffect(dice.millis(LATEST_MS))
        } else if inner.happens(dice, "died at a call", forecast.dies_calling) {
            if dice.roll(2) == 0 { Call::DiesBefore } else { Call::DiesAfter }
        } else {
            Call::Plain(dice.millis(20))
        }
    }
}

impl Inner {
    fn dice(&mut self, who: impl Hash) -> Dice {
        // Of fixed keys: the same in every run.
        let mut hasher = DefaultHasher::new();
        who.hash(&mut hasher);
        let nth = self.asked.entry(hasher.finish()).or_default();
        *nth += 1;
        (self.seed, *nth).hash(&mut hasher);
        Dice::of(hasher.finish())
    }

    fn happens(&mut self, dice: &mut Dice, what: &'static str, share: usize) -> bool {
        let happens = share > 0 && dice.roll(1_000) < share;
        if happens {
            *self.tally.entry(what).or_default() += 1;
        }
        happens
    }
}
