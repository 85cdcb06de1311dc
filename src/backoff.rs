//! Waiting longer and longer between retries: exponential, bounded, with jitter so that those who failed
//! together do not retry together.

use std::time::Duration;

use rand::Rng;

/// The pauses of one series of retries.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses of about `first`, then twice that, never more than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next pause: between half of the current step and all of it; the step then doubles up to the bound.
    pub fn pause(&mut self) -> Duration {
        let step = self.next.min(self.most);
        self.next = step.saturating_mul(2).min(self.most);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
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
