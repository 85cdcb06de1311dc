//! Which heartbeats of a request the rate limit by user lets in.

use std::num::NonZeroU32;

use super::answer::{RateFields, Rejected};
use super::limits::{Limits, Policy, Standing, UserKey, Verdict};
use super::problem::{Kind, Problem};
use crate::heartbeat::{Heartbeat, RejectCode, Rejection};

/// A heartbeat and its place in the request.
pub(super) type Placed = (u32, Heartbeat);

/// What came of asking for every user of a request.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) heartbeats: Vec<Heartbeat>,
    /// Those of users over their limit.
    pub(super) limited: Vec<Rejected>,
    /// The refusal that lasts longest; else how the user with the least left stands.
    pub(super) standing: Option<Standing>,
}

/// Asks for each user once, for all its heartbeats together: all of a user's pass, or none.
///
/// # Errors
/// A user has more heartbeats here than can ever pass at once. Nothing is taken from anybody then.
pub(super) fn admit(placed: Vec<Placed>, limits: &Limits) -> Result<Admitted, Problem> {
    let Some(burst) = limits.user_burst() else {
        let heartbeats = placed.into_iter().map(|(_, heartbeat)| heartbeat).collect();
        return Ok(Admitted { heartbeats, ..Admitted::default() });
    };
    let keys = keys_of(&placed, limits);
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    let costs = || sorted.chunk_by(|one, other| one == other).map(|run| (run[0], run.len()));
    if let Some(most) = costs().map(|(_, cost)| cost).max().filter(|&most| most > burst as usize) {
        return Err(exceeds_burst(most, burst));
    }
    let mut verdicts = Vec::new();
    for (key, cost) in costs() {
        let countable = u32::try_from(cost).ok().and_then(NonZeroU32::new);
        match countable.and_then(|cost| limits.check_user(key, cost)) {
            None => {}
            Some(Verdict::Never) => return Err(exceeds_burst(cost, burst)),
            Some(Verdict::Allowed(standing)) => verdicts.push(OfUser { key, allowed: true, standing }),
            Some(Verdict::Denied(standing)) => verdicts.push(OfUser { key, allowed: false, standing }),
        }
    }
    Ok(part(placed, &keys, &verdicts))
}

/// What the limit said to one user.
struct OfUser {
    key: UserKey,
    allowed: bool,
    standing: Standing,
}

fn keys_of(placed: &[Placed], limits: &Limits) -> Vec<UserKey> {
    let mut last: Option<(&str, UserKey)> = None;
    placed
        .iter()
        .map(|(_, heartbeat)| match last {
            // A bulk mostly holds one user's beats in a row.
            Some((user, key)) if user == heartbeat.user_id => key,
            _ => {
                let key = limits.user_key(&heartbeat.user_id);
                last = Some((&heartbeat.user_id, key));
                key
            }
        })
        .collect()
}

/// `verdicts` stand in the order of their keys.
fn part(placed: Vec<Placed>, keys: &[UserKey], verdicts: &[OfUser]) -> Admitted {
    let mut admitted = Admitted { heartbeats: Vec::with_capacity(placed.len()), ..Admitted::default() };
    for ((index, heartbeat), key) in placed.into_iter().zip(keys) {
        let found = verdicts.binary_search_by_key(key, |verdict| verdict.key).ok().and_then(|at| verdicts.get(at));
        match found {
            Some(OfUser { allowed: false, standing, .. }) => admitted.limited.push(limited(index, standing)),
            _ => admitted.heartbeats.push(heartbeat),
        }
    }
    let (allowed, denied): (Vec<&OfUser>, Vec<&OfUser>) = verdicts.iter().partition(|verdict| verdict.allowed);
    let longest = denied.into_iter().map(|verdict| verdict.standing).max_by_key(|standing| standing.reset_s);
    let least = allowed
        .into_iter()
        .map(|verdict| verdict.standing)
        .reduce(|least, other| if other.is_tighter_than(&least) { other } else { least });
    admitted.standing = longest.or(least);
    admitted
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

    fn placed(users: &[&str]) -> Vec<Placed> {
        let heartbeat = |user: &str| Heartbeat {
            user_id: user.into(),
            device_id: "d".into(),
            timestamp: 0,
            id: None,
            received_at: 0,
            attributes: None,
        };
        (0..).zip(users).map(|(index, user)| (index, heartbeat(user))).collect()
    }

    #[test]
    fn only_the_user_over_its_limit_is_held_back() {
        let limits = limits(3);
        let first = admit(placed(&["a", "b", "a"]), &limits).unwrap();
        assert_eq!((first.heartbeats.len(), first.limited.len()), (3, 0));
        assert_eq!(first.standing.unwrap().remaining, 1, "the user with the least left is named");

        let second = admit(placed(&["b", "a", "a", "b"]), &limits).unwrap();
        let kept: Vec<_> = second.heartbeats.iter().map(|heartbeat| heartbeat.user_id.as_str()).collect();
        assert_eq!(kept, ["b", "b"]);
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
        assert_eq!(admit(placed(&users), &limits).unwrap_err().kind, Kind::ExceedsBurst);
        assert_eq!(admit(placed(&users[..20].repeat(3)), &limits).unwrap().limited, []);
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let limits = Limits::new(&Options { user_rate: 0, ..Options::default() });
        let admitted = admit(placed(&["a"; 20_000]), &limits).unwrap();
        assert_eq!((admitted.heartbeats.len(), admitted.standing), (20_000, None));
    }
}
