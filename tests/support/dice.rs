//! Numbers that look random and are the same again for the same seed, so that a failure can be looked at again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sets the seed of [`Dice::loaded_anew`], as it was printed by the run that failed.
const SEED: &str = "TEST_SEED";

/// A source of such numbers.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of this seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Others in every run. The seed is printed.
    pub fn loaded_anew() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = std::env::var(SEED).map_or(now.subsec_nanos().into(), |seed| seed.parse().unwrap());
        eprintln!("{SEED}={seed}");
        Self(seed)
    }

    /// One of so many numbers from 0 on.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// A time of at most so many milliseconds.
    pub fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.roll(most + 1) as u64)
    }
}
