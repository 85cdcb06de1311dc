//! Rate limits, by client address and by user.
//!
//! Constraints: each process counts for itself, in memory; keys are bounded (`store`); asking takes no lock but one
//! shard's read lock of the key map. An address is asked about before the body is read and costs one a request; a user is
//! asked about after parsing and costs one a heartbeat.
//!
//! An allowance that was taken is not given back when the buffer then refuses: the work of reading was done, and a client
//! that retries through an outage should come slower. It loses nothing by that: the allowance fills while it waits.

mod limiter;
mod options;
mod store;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use governor::clock::DefaultClock;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) use limiter::{Policy, Standing, Verdict};
pub use options::{ForwardedHeader, Options};

use limiter::Limiter;

/// How often keys are pruned while there is room.
const PRUNE_EVERY: Duration = Duration::from_secs(30);
/// How soon they are pruned again once newcomers had to share.
const PRUNE_WHEN_FULL_EVERY: Duration = Duration::from_secs(1);

/// Both limits.
#[derive(Debug)]
pub(crate) struct Limits {
    address: Option<Limiter>,
    user: Option<Limiter>,
    /// Seeded at random, so that nobody can choose names that share an allowance with somebody else's.
    hasher: RandomState,
}

/// A user as a limiter knows it.
pub(crate) type UserKey = u64;

impl Limits {
    pub(crate) fn new(options: &Options) -> Self {
        let limiter =
            |policy, rate, burst| Limiter::new(policy, rate, burst, options.rate_limit_keys, DefaultClock::default());
        Self {
            address: limiter(Policy::Address, options.address_rate, options.address_burst),
            user: limiter(Policy::User, options.user_rate, options.user_burst),
            hasher: RandomState::new(),
        }
    }

    /// Takes one request from the allowance of an address. `None` without a limit.
    pub(crate) fn check_address(&self, address: IpAddr) -> Option<Verdict> {
        let limiter = self.address.as_ref()?;
        Some(limiter.check(self.hasher.hash_one(unit_of(address)), NonZeroU32::MIN))
    }

    pub(crate) fn user_key(&self, user_id: &str) -> UserKey {
        self.hasher.hash_one(user_id)
    }

    /// Takes heartbeats from the allowance of a user. `None` without a limit.
    pub(crate) fn check_user(&self, user: UserKey, heartbeats: NonZeroU32) -> Option<Verdict> {
        Some(self.user.as_ref()?.check(user, heartbeats))
    }

    /// The most heartbeats of one user that can ever pass at once. `None` without a limit.
    pub(crate) fn user_burst(&self) -> Option<u32> {
        self.user.as_ref().map(Limiter::burst)
    }

    /// The `RateLimit-Policy` field of a policy.
    pub(crate) fn policy_field(&self, policy: Policy) -> Option<&HeaderValue> {
        self.limiter(policy).map(Limiter::policy_field)
    }

    /// Keys counted one by one.
    pub(crate) fn keys(&self, policy: Policy) -> usize {
        self.limiter(policy).map_or(0, Limiter::keys)
    }

    fn limiter(&self, policy: Policy) -> Option<&Limiter> {
        match policy {
            Policy::Address => self.address.as_ref(),
            Policy::User => self.user.as_ref(),
        }
    }

    fn prune(&self) {
        for limiter in [&self.address, &self.user].into_iter().flatten() {
            limiter.prune();
        }
    }

    fn take_overflowed(&self) -> bool {
        let overflowed = |limiter: &Option<Limiter>| limiter.as_ref().is_some_and(Limiter::take_overflowed);
        // Not short-circuited: both marks are to be wiped.
        overflowed(&self.address) | overflowed(&self.user)
    }

    /// Prunes keys until `shutdown`.
    pub(crate) async fn keep_pruned(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(PRUNE_WHEN_FULL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pruned_at = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            if self.take_overflowed() || pruned_at.elapsed() >= PRUNE_EVERY {
                let limits = Arc::clone(&self);
                if tokio::task::spawn_blocking(move || limits.prune()).await.is_err() {
                    tracing::error!("pruning the rate limits panicked; they stay bounded by their cap");
                }
                pruned_at = tokio::time::Instant::now();
            }
        }
    }
}

/// What counts as one address: an IPv6 client holds a whole /64.
pub(crate) fn unit_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_by_64_and_mapped_ipv4_as_ipv4() {
        let unit = |text: &str| unit_of(text.parse().unwrap()).to_string();
        assert_eq!(unit("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(unit("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_ne!(unit("2001:db8:1:3::1"), "2001:db8:1:2::");
        assert_eq!(unit("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn a_device_that_was_offline_for_an_hour_catches_up_in_one_bulk_at_the_defaults() {
        let limits = Limits::new(&Options::default());
        let user = limits.user_key("a user with twenty devices");
        for device in 0..20 {
            let beats = NonZeroU32::new(3600 / 10).unwrap();
            assert!(matches!(limits.check_user(user, beats), Some(Verdict::Allowed(_))), "device {device}");
        }
    }

    #[tokio::test]
    async fn keys_that_overflow_are_pruned_without_waiting_for_the_usual_time() {
        // A thousandth of a second makes these allowances whole again.
        let limits = Limits::new(&Options { rate_limit_keys: 10, address_rate: 1000, ..Options::default() });
        for last in 0..50 {
            limits.check_address(IpAddr::from([192, 0, 2, last]));
        }
        assert_eq!(limits.keys(Policy::Address), 10);
        let limits = Arc::new(limits);
        let shutdown = CancellationToken::new();
        let pruning = tokio::spawn(Arc::clone(&limits).keep_pruned(shutdown.clone()));
        let pruned = async {
            while limits.keys(Policy::Address) > 0 {
                limits.check_address(IpAddr::from([192, 0, 2, 99]));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PRUNE_EVERY / 2, pruned).await.unwrap();
        shutdown.cancel();
        pruning.await.unwrap();
    }
}
