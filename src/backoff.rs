//! Waiting longer and longer between retries: exponential, bounded, with jitter so that those who failed
//! together do not retry together.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The pauses of one series of retries.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    jitter: StdRng,
}

impl Backoff {
    /// Pauses of about `first`, then twice that, never more than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self::with_jitter_of(rand::rng().random(), first, most)
    }

    /// The same with a jitter that follows from `who`, which must be another one for each of those that may fail together.
    /// In a simulation the pauses are then the same each time.
    pub fn with_jitter_of(who: u64, first: Duration, most: Duration) -> Self {
        Self { first, most, next: first, jitter: StdRng::seed_from_u64(who) }
    }

    /// The next pause: between half of the current step and all of it; the step then doubles up to the bound.
    pub fn pause(&mut self) -> Duration {
        let step = self.next.min(self.most);
        self.next = step.saturating_mul(2).min(self.most);
        step.mul_f64(self.jitter.random_range(0.5..=1.0))
    }

    /// The last try succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_over_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        for step in [100, 200, 350, 350, 350] {
            let pause = backoff.pause();
            assert!((ms(step / 2)..=ms(step)).contains(&pause), "{pause:?} in the step of {step} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(100));
    }
}
