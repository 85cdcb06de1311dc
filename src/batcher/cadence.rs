//! When to claim: policy without I/O.
//!
//! Constraints:
//! - What waits is claimed at the latest `max_delay` after the last claim, or once its oldest heartbeat has waited that
//!   long: by timer, not by arrival, so that a lone heartbeat is never stuck behind the next one.
//! - The wait counts from the *last claim*: after a quiet spell the first heartbeat goes straight through.
//! - Under load a claim is as big as the budget lets it be: a claim's worth goes at once.

use std::time::Duration;

use tokio::time::Instant;

/// Small claims driven by age alone keep this share of `max_delay` apart, lest producers whose clock is behind the buffer's
/// (each of their heartbeats looks old on arrival) turn every look into a tiny fragment.
const AGE_FLOOR_SHARE: u32 = 10;
/// This share of what a claim can hold is not small.
const SMALL_SHARE: u64 = 10;

/// After so many owners died with a claim, its frames are tried one at a time, and the one in hand at a death is suspected.
pub(super) const CAREFUL_AFTER_DEATHS: u32 = 3;
/// A claim that is to be worked with care is left alone for so long first. Whoever kills the process from outside, over and
/// over and soon after each start, would else have a frame condemned that only happened to be in hand; a frame that kills by
/// itself does so however late it is tried.
const CALM_BEFORE_CARE: Duration = Duration::from_secs(3);

/// What a look at the partition found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Heartbeats pending.
    pub(super) rows: u64,
    /// How long the oldest of them has waited, by the buffer's clock.
    pub(super) oldest: Option<Duration>,
    /// How many owners died with the claim that stands, if one does.
    pub(super) standing: Option<u32>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Claim now.
    Claim,
    /// Look again after this long.
    LookAgainIn(Duration),
}

/// The rhythm of one partition.
#[derive(Debug)]
pub(super) struct Cadence {
    max_delay: Duration,
    look_every: Duration,
    full_rows: u64,
    begun: Instant,
    last: Option<LastClaim>,
}

#[derive(Debug, Clone, Copy)]
struct LastClaim {
    at: Instant,
    rows: u64,
}

impl Cadence {
    /// The rhythm from `now` on. `full_rows` is what one claim can hold.
    pub(super) fn new(max_delay: Duration, look_every: Duration, full_rows: u64, now: Instant) -> Self {
        Self { max_delay, look_every, full_rows, begun: now, last: None }
    }

    /// A claim of `rows` heartbeats was made.
    pub(super) fn claimed(&mut self, rows: u64, now: Instant) {
        self.last = Some(LastClaim { at: now, rows });
    }

    pub(super) fn next(&self, waiting: Waiting, now: Instant) -> Next {
        if let Some(deaths) = waiting.standing {
            return self.next_of_standing(deaths, now);
        }
        if waiting.rows >= self.full_rows {
            return Next::Claim;
        }
        if waiting.rows == 0 {
            return Next::LookAgainIn(self.look_every);
        }
        let Some(last) = self.last else {
            return Next::Claim;
        };
        let since_last = now.saturating_duration_since(last.at);
        // As much waiting as the last claim took means that a backlog is being worked off, not that clocks disagree.
        let worth_it = waiting.rows >= last.rows || waiting.rows >= self.full_rows / SMALL_SHARE;
        let floor = if worth_it { Duration::ZERO } else { self.max_delay / AGE_FLOOR_SHARE };
        let due_by_claim = self.max_delay.saturating_sub(since_last);
        let due_by_age =
            self.max_delay.saturating_sub(waiting.oldest.unwrap_or_default()).max(floor.saturating_sub(since_last));
        match due_by_claim.min(due_by_age) {
            Duration::ZERO => Next::Claim,
            due_in => Next::LookAgainIn(due_in.min(self.look_every)),
        }
    }

    fn next_of_standing(&self, deaths: u32, now: Instant) -> Next {
        // The last owner's death is counted only when the claim is handed over.
        let calm = if deaths + 1 < CAREFUL_AFTER_DEATHS { Duration::ZERO } else { CALM_BEFORE_CARE };
        match calm.saturating_sub(now.saturating_duration_since(self.begun)) {
            Duration::ZERO => Next::Claim,
            left => Next::LookAgainIn(left.min(self.look_every)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_DELAY: Duration = Duration::from_secs(5);
    const LOOK: Duration = Duration::from_millis(500);
    const FULL: u64 = 1000;

    /// Rows of the last claim, the time since then, rows pending, how old the oldest is, deaths of the claim that stands; and
    /// what is next.
    type Case = (u64, Duration, u64, Duration, Option<u32>, Next);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn after_claim_of(rows: u64, start: Instant) -> Cadence {
        let mut cadence = Cadence::new(MAX_DELAY, LOOK, FULL, start);
        cadence.claimed(rows, start);
        cadence
    }

    #[test]
    fn a_claim_is_made_when_it_is_due_and_not_before() {
        let start = Instant::now();
        let table: &[Case] = &[
            (10, ms(0), 0, ms(0), None, Next::LookAgainIn(LOOK)),
            (10, ms(60_000), 0, ms(0), None, Next::LookAgainIn(LOOK)),
            // After a quiet spell the first goes straight through.
            (10, ms(60_000), 1, ms(3), None, Next::Claim),
            (10, ms(5_000), 1, ms(3), None, Next::Claim),
            // Shortly after a claim it waits, and is looked at when it is due if that comes first.
            (10, ms(100), 1, ms(3), None, Next::LookAgainIn(LOOK)),
            (10, ms(4_900), 1, ms(3), None, Next::LookAgainIn(ms(100))),
            (10, ms(1_000), 1, ms(4_800), None, Next::LookAgainIn(ms(200))),
            // A claim's worth, or a claim left standing, goes at once.
            (10, ms(0), FULL, ms(3), None, Next::Claim),
            (10, ms(0), 0, ms(0), Some(1), Next::Claim),
            // One that owners died with is left alone until nothing has killed this one for a while.
            (10, ms(0), 0, ms(0), Some(2), Next::LookAgainIn(LOOK)),
            (10, ms(2_900), FULL, ms(9_000), Some(4), Next::LookAgainIn(ms(100))),
            (10, ms(3_000), 0, ms(0), Some(3), Next::Claim),
            // A backlog is worked off without a pause; a few that only look old are not.
            (10, ms(0), 10, ms(5_000), None, Next::Claim),
            (10, ms(0), 9, ms(5_000), None, Next::LookAgainIn(ms(500))),
            (10, ms(499), 9, ms(9_000), None, Next::LookAgainIn(ms(1))),
            (10, ms(500), 9, ms(5_000), None, Next::Claim),
            // The rest of a backlog.
            (FULL, ms(0), FULL / 10, ms(5_000), None, Next::Claim),
            (FULL, ms(0), FULL / 10 - 1, ms(5_000), None, Next::LookAgainIn(LOOK)),
            (FULL, ms(0), FULL / 10, ms(4_900), None, Next::LookAgainIn(ms(100))),
        ];
        for (last, since, rows, oldest, standing, expected) in table.iter().copied() {
            let waiting = Waiting { rows, oldest: Some(oldest), standing };
            let next = after_claim_of(last, start).next(waiting, start + since);
            assert_eq!(next, expected, "{waiting:?} {since:?} after a claim of {last}");
        }
    }

    #[test]
    fn the_first_claim_of_all_waits_for_nothing() {
        let waiting = Waiting { rows: 1, oldest: None, standing: None };
        assert_eq!(Cadence::new(MAX_DELAY, LOOK, FULL, Instant::now()).next(waiting, Instant::now()), Next::Claim);
    }

    proptest! {
        #[test]
        fn nothing_waits_longer_than_the_delay_after_a_claim(
            last in 0..2000_u64, rows in 1..2000_u64, oldest in 0..20_000_u64, since in 0..20_000_u64,
        ) {
            let start = Instant::now();
            let waiting = Waiting { rows, oldest: Some(ms(oldest)), standing: None };
            match after_claim_of(last, start).next(waiting, start + ms(since)) {
                Next::Claim => {}
                Next::LookAgainIn(wait) => {
                    prop_assert!(wait > Duration::ZERO && wait <= LOOK);
                    prop_assert!(ms(since) + wait <= MAX_DELAY);
                }
            }
        }
    }
}
