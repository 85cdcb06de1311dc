//! How the batcher works, and how its times must relate.

use std::time::Duration;

use bytesize::ByteSize;

use crate::buffer::ClaimBudget;
use crate::settings;

/// Frames in one claim. A frame costs a step inside the buffer, which holds to a smaller bound of its own.
const CLAIM_FRAMES: u32 = 4096;

/// How the batcher works.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Batcher")]
#[group(skip)]
pub struct Options {
    /// Longest wait of an accepted heartbeat for its claim
    #[arg(long, env = "SYSTOLE_MAX_DELAY", default_value = "5s", value_name = "DURATION")]
    pub max_delay: humantime::Duration,
    /// Time between two looks at a quiet partition
    #[arg(long, env = "SYSTOLE_LOOK_EVERY", default_value = "500ms", value_name = "DURATION")]
    pub look_every: humantime::Duration,
    /// Most heartbeats in one claim
    #[arg(long, env = "SYSTOLE_CLAIM_ROWS", default_value = "50000", value_name = "N")]
    pub claim_rows: u64,
    /// Most bytes of unpacked rows in one claim; memory in use is a few times this for each claim in hand
    #[arg(long, env = "SYSTOLE_CLAIM_BYTES", default_value = "8MiB", value_name = "SIZE")]
    pub claim_bytes: ByteSize,
    /// Claims in hand at once, each of another partition
    #[arg(long, env = "SYSTOLE_CLAIMS_AT_ONCE", default_value = "2", value_name = "N")]
    pub claims_at_once: u16,
    /// How long a batcher holds a partition without renewing
    #[arg(long, env = "SYSTOLE_LEASE_TTL", default_value = "15s", value_name = "DURATION")]
    pub lease_ttl: humantime::Duration,
    /// Time between two renewals of a lease
    #[arg(long, env = "SYSTOLE_RENEW_EVERY", default_value = "2s", value_name = "DURATION")]
    pub renew_every: humantime::Duration,
    /// Time between two signs of life to the other batchers
    #[arg(long, env = "SYSTOLE_ANNOUNCE_EVERY", default_value = "2s", value_name = "DURATION")]
    pub announce_every: humantime::Duration,
    /// Time without getting on with a claim after which the partition is left to another batcher
    #[arg(long, env = "SYSTOLE_YIELD_AFTER", default_value = "60s", value_name = "DURATION")]
    pub yield_after: humantime::Duration,
    /// How long a batcher that left a partition lets the others go first
    #[arg(long, env = "SYSTOLE_YIELD_REST", default_value = "5m", value_name = "DURATION")]
    pub yield_rest: humantime::Duration,
    /// First pause after a failed step; it doubles from there
    #[arg(long, env = "SYSTOLE_RETRY_FIRST", default_value = "200ms", value_name = "DURATION")]
    pub retry_first: humantime::Duration,
    /// Longest pause between two retries
    #[arg(long, env = "SYSTOLE_RETRY_MOST", default_value = "10s", value_name = "DURATION")]
    pub retry_most: humantime::Duration,
    /// Age of an unpublished fragment at which /health says that nobody compacts
    #[arg(long, env = "SYSTOLE_PUBLISH_LAG", default_value = "5m", value_name = "DURATION")]
    pub publish_lag: humantime::Duration,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Options {
    /// Checks the values and how they relate to the buffer's `step-deadline` and to `batcher-ttl`.
    ///
    /// - `lease-ttl` > 3 × `renew-every`: two renewals may fail before the lease is lost.
    /// - `lease-ttl` > `step-deadline`: a step that outlived the lease would only learn that it is fenced.
    /// - `batcher-ttl` > 3 × `announce-every`: two missed signs of life are no death.
    ///
    /// # Errors
    /// One line that names the setting, its value and what is allowed.
    pub fn check(&self, step_deadline: Duration, batcher_ttl: Duration) -> Result<(), String> {
        self.check_bounds()?;
        require(*self.lease_ttl > *self.renew_every * 3, || {
            format!("lease-ttl: {} must be longer than 3 × renew-every, {}", self.lease_ttl, self.renew_every)
        })?;
        require(*self.lease_ttl > step_deadline, || {
            let step_deadline = humantime::Duration::from(step_deadline);
            format!("lease-ttl: {} must be longer than step-deadline, {step_deadline}", self.lease_ttl)
        })?;
        require(batcher_ttl > *self.announce_every * 3, || {
            let batcher_ttl = humantime::Duration::from(batcher_ttl);
            format!("batcher-ttl: {batcher_ttl} must be longer than 3 × announce-every, {}", self.announce_every)
        })
    }

    fn check_bounds(&self) -> Result<(), String> {
        let durations = [
            ("max-delay", self.max_delay),
            ("look-every", self.look_every),
            ("renew-every", self.renew_every),
            ("announce-every", self.announce_every),
            ("lease-ttl", self.lease_ttl),
            ("yield-after", self.yield_after),
            ("yield-rest", self.yield_rest),
            ("retry-first", self.retry_first),
            ("retry-most", self.retry_most),
            ("publish-lag", self.publish_lag),
        ];
        for (name, value) in durations {
            require((SHORTEST..=LONGEST).contains(&*value), || {
                format!("{name}: {value} must be between 1ms and 1year")
            })?;
        }
        require(*self.retry_most >= *self.retry_first, || {
            format!("retry-most: {} must not be shorter than retry-first, {}", self.retry_most, self.retry_first)
        })?;
        require(self.claim_rows > 0, || "claim-rows: 0 must be at least 1".to_owned())?;
        require(self.claim_bytes.as_u64() > 0, || "claim-bytes: 0 must be at least 1".to_owned())?;
        require((1..=1024).contains(&self.claims_at_once), || {
            format!("claims-at-once: {} must be between 1 and 1024", self.claims_at_once)
        })
    }

    /// What one claim may hold.
    pub(super) fn claim_budget(&self) -> ClaimBudget {
        ClaimBudget { rows: self.claim_rows, bytes: self.claim_bytes.as_u64(), frames: CLAIM_FRAMES }
    }
}

const SHORTEST: Duration = Duration::from_millis(1);
/// Keeps sums of instants and durations far from overflowing.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_DEADLINE: Duration = Duration::from_secs(10);
    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn the_defaults_pass_the_check() {
        Options::default().check(STEP_DEADLINE, TTL).unwrap();
    }

    #[test]
    fn a_wrong_value_gets_one_line_that_names_setting_value_and_what_is_allowed() {
        let table: &[(&[&str], &str, &str)] = &[
            (&["--lease-ttl", "6s"], "lease-ttl: 6s", "3 × renew-every, 2s"),
            (&["--lease-ttl", "10s"], "lease-ttl: 10s", "step-deadline, 10s"),
            (&["--announce-every", "4s"], "batcher-ttl: 10s", "3 × announce-every, 4s"),
            (&["--max-delay", "0s"], "max-delay: 0s", "1ms"),
            (&["--publish-lag", "2years"], "publish-lag: 2years", "1year"),
            (&["--retry-most", "1ms"], "retry-most: 1ms", "retry-first, 200ms"),
            (&["--claim-rows", "0"], "claim-rows: 0", "at least 1"),
            (&["--claim-bytes", "0B"], "claim-bytes: 0", "at least 1"),
            (&["--claims-at-once", "0"], "claims-at-once: 0", "between 1 and 1024"),
        ];
        for (arguments, names, allows) in table {
            let options: Options = settings::parse(arguments).unwrap();
            let message = options.check(STEP_DEADLINE, TTL).unwrap_err();
            assert!(message.contains(names) && message.contains(allows), "{message}");
            assert!(!message.contains('\n'));
        }
    }
}
