//! Which heartbeats of a request the rate limit by user lets in.

use std::num::NonZeroU32;

use super::answer::{RateFields, Rejected};
use super::limits::{Limits, Policy, Standing, UserKey, Verdict};
use super::problem::{Kind, Problem};
use crate::heartbeat::{RejectCode, Rejection};

/// What came of asking for every user of a request.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// The heartbeats of users over their limit, in the order of the request. All others pass.
    pub(super) limited: Vec<Rejected>,
    /// The refusal that lasts longest; else how the user with the least left stands.
    pub(super) standing: Option<Standing>,
}

/// Asks for each user once, for all its heartbeats together: all of a user's pass, or none. `users` are those of the
/// heartbeats, each with its place in the request.
///
/// # Errors
/// A user has more heartbeats here than can ever pass at once. Nothing is taken from anybody then.
pub(super) fn admit<'a>(users: impl Iterator<Item = (u32, &'a str)>, limits: &Limits) -> Result<Admitted, Problem> {
    let Some(burst) = limits.user_burst() else { return Ok(Admitted::default()) };
    let mut beats = keyed(users, limits);
    beats.sort_unstable();
    let of_user = || beats.chunk_by(|(one, _), (other, _)| one == other);
    if let Some(most) = of_user().map(<[_]>::len).max().filter(|&most| most > burst as usize) {
        return Err(exceeds_burst(most, burst));
    }
    let mut admitted = Admitted::default();
    let (mut longest, mut least) = (None::<Standing>, None::<Standing>);
    for beats in of_user() {
        let cost = u32::try_from(beats.len()).ok().and_then(NonZeroU32::new);
        let verdict = beats.first().zip(cost).and_then(|((key, _), cost)| limits.check_user(*key, cost));
        match verdict {
            None => {}
            Some(Verdict::Never) => return Err(exceeds_burst(beats.len(), burst)),
            Some(Verdict::Allowed(standing)) => {
                least = Some(least.filter(|least| !standing.is_tighter_than(least)).unwrap_or(standing));
            }
            Some(Verdict::Denied(standing)) => {
                admitted.limited.extend(beats.iter().map(|(_, place)| limited(*place, &standing)));
                longest = Some(longest.filter(|longest| longest.reset_s > standing.reset_s).unwrap_or(standing));
            }
        }
    }
    admitted.limited.sort_unstable_by_key(|one| one.index);
    admitted.standing = longest.or(least);
    Ok(admitted)
}

fn keyed<'a>(users: impl Iterator<Item = (u32, &'a str)>, limits: &Limits) -> Vec<(UserKey, u32)> {
    let mut last: Option<(&str, UserKey)> = None;
    let key = |(place, user)| match last {
        // A bulk mostly holds one user's beats in a row.
        Some((before, key)) if before == user => (key, place),
        _ => {
            let key = limits.user_key(user);
            last = Some((user, key));
            (key, place)
        }
    };
    users.map(key).collect()
}

fn limited(index: u32, standing: &Standing) -> Rejected {
    let detail = format!("this user's heartbeats are over its rate limit; send them again in {} s", standing.reset_s);
    Rejected::new(index, Rejection::new(RejectCode::RateLimited, detail))
}

fn exceeds_burst(cost: usize, burst: u32) -> Problem {
    let detail = format!(
        "The request holds {cost} heartbeats of one user, and the rate limit never lets more than {burst} of one user \
         pass at once; send smaller bulks."
    );
    Problem::new(Kind::ExceedsBurst, detail)
}

/// The refusal of a whole request for a limit.
pub(super) fn rate_limited(standing: &Standing, limits: &Limits) -> Problem {
    let (what, whose) = match standing.policy {
        Policy::Address => ("requests", "this address"),
        Policy::User => ("heartbeats", "a user of this request"),
    };
    let detail = format!("Too many {what} of {whose}; try again in {} s.", standing.reset_s);
    Problem::new(Kind::RateLimited, detail)
        .with_retry_after(standing.reset_s)
        .with_rate(RateFields::of(Some(*standing), limits))
}

#[cfg(test)]
mod tests {
    use super::super::limits::Options;
    use super::*;

    fn limits(user_burst: u32) -> Limits {
        Limits::new(&Options { user_rate: 1, user_burst, ..Options::default() })
    }

    fn admitted(users: &[&str], limits: &Limits) -> Result<Admitted, Problem> {
        admit((0..).zip(users.iter().copied()), limits)
    }

    #[test]
    fn only_the_user_over_its_limit_is_held_back() {
        let limits = limits(3);
        let first = admitted(&["a", "b", "a"], &limits).unwrap();
        assert_eq!(first.limited, []);
        assert_eq!(first.standing.unwrap().remaining, 1, "the user with the least left is named");

        let second = admitted(&["b", "a", "a", "b"], &limits).unwrap();
        assert_eq!(second.limited.iter().map(|one| one.index).collect::<Vec<_>>(), [1, 2]);
        assert!(second.limited.iter().all(|one| one.retryable && one.code == RejectCode::RateLimited));
        assert_eq!(second.standing.unwrap().remaining, 1);
    }

    #[test]
    fn more_than_a_burst_can_hold_is_refused_and_costs_nobody() {
        let limits = limits(3);
        // Many others, so that some are asked before the one that asks too much, whatever the order.
        let others: Vec<String> = (0..20).map(|n| format!("other {n}")).collect();
        let mut users: Vec<&str> = others.iter().map(String::as_str).collect();
        users.extend(["a"; 4]);
        assert_eq!(admitted(&users, &limits).unwrap_err().kind, Kind::ExceedsBurst);
        assert_eq!(admitted(&users[..20].repeat(3), &limits).unwrap().limited, []);
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let limits = Limits::new(&Options { user_rate: 0, ..Options::default() });
        let admitted = admitted(&["a"; 20_000], &limits).unwrap();
        assert_eq!((admitted.limited.len(), admitted.standing), (0, None));
    }
}
