//! One rate limit: an allowance for each key, filled at a steady rate up to a burst.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};

use super::store::{CappedStore, Key};

/// What is limited. The names stand in answers and as a metric label: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Requests by client address.
    Address,
    /// Heartbeats by user.
    User,
}

impl Policy {
    /// Every policy.
    pub(crate) const ALL: [Self; 2] = [Self::Address, Self::User];

    /// The name in fields and labels.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
        }
    }
}

/// How a key stands with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) policy: Policy,
    /// What it may still take at once.
    pub(crate) remaining: u32,
    /// What it may take at once when its allowance is whole.
    pub(crate) burst: u32,
    /// Seconds, rounded up: after a yes until the allowance is whole, after a no until what was asked for would pass.
    pub(crate) reset_s: u64,
}

impl Standing {
    /// Whether less of the allowance is left than of the other's.
    pub(crate) fn is_tighter_than(&self, other: &Self) -> bool {
        u64::from(self.remaining) * u64::from(other.burst) < u64::from(other.remaining) * u64::from(self.burst)
    }

    /// The `RateLimit` field of draft-ietf-httpapi-ratelimit-headers.
    pub(crate) fn field(&self) -> String {
        format!(r#""{}";r={};t={}"#, self.policy.as_str(), self.remaining, self.reset_s)
    }
}

/// The answer to asking for some of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken.
    Allowed(Standing),
    /// Nothing was taken; it would pass after [`Standing::reset_s`].
    Denied(Standing),
    /// It is more than a burst: it can never pass.
    Never,
}

/// A limit of one policy.
#[derive(Debug)]
pub(super) struct Limiter<C: Clock = DefaultClock> {
    policy: Policy,
    quota: Quota,
    limiter: RateLimiter<Key, CappedStore, C, StateInformationMiddleware>,
    policy_field: HeaderValue,
    overflowed: Arc<AtomicBool>,
}

impl<C: Clock> Limiter<C> {
    /// `None` when either number is zero: no limit.
    pub(super) fn new(policy: Policy, rate_per_second: u32, burst: u32, max_keys: usize, clock: C) -> Option<Self> {
        let burst = NonZeroU32::new(burst)?;
        let quota = Quota::per_second(NonZeroU32::new(rate_per_second)?).allow_burst(burst);
        let window_s = burst.get().div_ceil(rate_per_second);
        let field = format!(r#""{}";q={burst};w={window_s}"#, policy.as_str());
        let policy_field = HeaderValue::try_from(field).ok()?;
        let overflowed = Arc::new(AtomicBool::new(false));
        let store = CappedStore::new(max_keys, Arc::clone(&overflowed));
        let limiter = RateLimiter::new(quota, store, clock);
        Some(Self { policy, quota, limiter, policy_field, overflowed })
    }

    /// The `RateLimit-Policy` field: how much in how many seconds.
    pub(super) fn policy_field(&self) -> &HeaderValue {
        &self.policy_field
    }

    pub(super) fn burst(&self) -> u32 {
        self.quota.burst_size().get()
    }

    /// Takes `cost` from the key's allowance, all of it or nothing.
    pub(super) fn check(&self, key: Key, cost: NonZeroU32) -> Verdict {
        let (policy, burst) = (self.policy, self.burst());
        match self.limiter.check_key_n(&key, cost) {
            Err(_) => Verdict::Never,
            Ok(Ok(state)) => {
                let remaining = state.remaining_burst_capacity();
                let missing = burst.saturating_sub(remaining);
                let reset_s = whole_seconds(self.quota.replenish_interval().saturating_mul(missing));
                Verdict::Allowed(Standing { policy, remaining, burst, reset_s })
            }
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                let missing = wait.as_nanos().div_ceil(self.quota.replenish_interval().as_nanos().max(1));
                let missing = u32::try_from(missing).unwrap_or(u32::MAX);
                let remaining = cost.get().saturating_sub(missing);
                Verdict::Denied(Standing { policy, remaining, burst, reset_s: whole_seconds(wait).max(1) })
            }
        }
    }

    /// Forgets keys whose allowance is whole again. Walks all keys: not for an async thread.
    pub(super) fn prune(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    pub(super) fn keys(&self) -> usize {
        self.limiter.len()
    }

    /// Whether newcomers have had to share since this was last asked.
    pub(super) fn take_overflowed(&self) -> bool {
        self.overflowed.swap(false, Ordering::Relaxed)
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limiter(rate: u32, burst: u32, max_keys: usize) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(Policy::User, rate, burst, max_keys, clock.clone()).unwrap(), clock)
    }

    fn take(limiter: &Limiter<FakeRelativeClock>, key: Key, cost: u32) -> Verdict {
        limiter.check(key, NonZeroU32::new(cost).unwrap())
    }

    fn allowed(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Allowed(_))
    }

    #[test]
    fn an_allowance_is_spent_and_comes_back_at_its_rate() {
        let (limiter, clock) = limiter(10, 100, 10);
        let standing = |remaining, reset_s| Standing { policy: Policy::User, remaining, burst: 100, reset_s };
        assert_eq!(take(&limiter, 1, 40), Verdict::Allowed(standing(60, 4)));
        assert_eq!(take(&limiter, 1, 60), Verdict::Allowed(standing(0, 10)));
        assert_eq!(take(&limiter, 1, 25), Verdict::Denied(standing(0, 3)));
        clock.advance(Duration::from_secs(2));
        assert_eq!(take(&limiter, 1, 25), Verdict::Denied(standing(20, 1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(take(&limiter, 1, 25), Verdict::Allowed(standing(5, 10)));
        assert_eq!(take(&limiter, 1, 101), Verdict::Never);
    }

    #[test]
    fn the_fields_are_those_of_the_draft() {
        let (limiter, _) = limiter(10, 95, 10);
        assert_eq!(limiter.policy_field(), r#""user";q=95;w=10"#);
        let Verdict::Allowed(standing) = take(&limiter, 1, 5) else { panic!("a whole allowance holds five") };
        assert_eq!(standing.field(), r#""user";r=90;t=1"#);
        assert!(standing.is_tighter_than(&Standing { remaining: 96, burst: 100, ..standing }));
        assert!(!standing.is_tighter_than(&Standing { remaining: 90, burst: 100, ..standing }));
    }

    #[test]
    fn zero_means_no_limit() {
        assert!(Limiter::new(Policy::User, 0, 5, 10, FakeRelativeClock::default()).is_none());
        assert!(Limiter::new(Policy::User, 5, 0, 10, FakeRelativeClock::default()).is_none());
    }

    #[test]
    fn rotating_keys_neither_pass_the_cap_nor_shut_out_the_known() {
        let (limiter, clock) = limiter(1, 2, 100);
        let known = 7_000_000;
        assert!(allowed(take(&limiter, known, 1)));
        for key in 0..50_000 {
            take(&limiter, key, 1);
        }
        assert_eq!(limiter.keys(), 100);
        assert!(allowed(take(&limiter, known, 1)), "a key with a place keeps its own count");
        // Newcomers share: this one has sent nothing, yet its slot is spent.
        assert!(!allowed(take(&limiter, 60_000, 1)));
        // And they are slowed down, not shut out.
        clock.advance(Duration::from_secs(1));
        assert!(allowed(take(&limiter, 60_000, 1)));

        clock.advance(Duration::from_secs(60));
        limiter.prune();
        assert_eq!(limiter.keys(), 0);
        assert!(allowed(take(&limiter, 60_000, 2)), "after pruning newcomers have places of their own");
        assert_eq!(limiter.keys(), 1);
    }

    #[test]
    fn pruning_forgets_only_whole_allowances() {
        let (limiter, clock) = limiter(1, 100, 100);
        take(&limiter, 1, 100);
        take(&limiter, 2, 1);
        clock.advance(Duration::from_secs(50));
        limiter.prune();
        assert_eq!(limiter.keys(), 1);
        assert!(!allowed(take(&limiter, 1, 51)), "a spent allowance survives pruning");
        assert!(allowed(take(&limiter, 1, 50)));
    }
}
