//! From parsed records to what the buffer is given: whose they may be, strictness, rate limits by user, and cutting by
//! partition.

use std::collections::BTreeSet;

use super::admit::{Admitted, admit, rate_limited};
use super::answer::{Rejected, listed_bytes};
use super::auth::Pass;
use super::limits::{Limits, Standing};
use super::problem::{Kind, Problem};
use crate::buffer::{Intake, Parcel, TurnedAway};
use crate::heartbeat::{Block, HeartbeatRef, Parsed, Partition, RejectCode, Rejection};

/// How a request's records are to be treated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handling {
    /// One bad record refuses all.
    pub(super) strict: bool,
    /// Into how many partitions heartbeats are cut.
    pub(super) partitions: Partition,
}

/// What is kept of a request, should the buffer take it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) parcels: Vec<Parcel>,
    /// Heartbeats in them.
    pub(super) accepted: usize,
    pub(super) rejected: Vec<Rejected>,
    /// How the user with the least left stands with its limit.
    pub(super) standing: Option<Standing>,
}

impl Kept {
    /// Bytes of memory that the parcels take, and the list of what was refused.
    pub(super) fn bytes(&self) -> usize {
        let parcels: usize = self.parcels.iter().map(|(_, block)| size_of::<Parcel>() + block.memory_len()).sum();
        parcels + listed_bytes(&self.rejected)
    }
}

/// Keeps the good records, as far as token, limits and strictness let them through. They stand in `text_bytes` of text. The
/// intake hears of users that their limits turn away.
///
/// # Errors
/// None of them is to be kept; the problem lists why.
pub(super) fn keep(
    mut records: Vec<Parsed<'_>>,
    text_bytes: usize,
    limits: &Limits,
    handling: Handling,
    pass: &Pass,
    intake: &dyn Intake,
) -> Result<Kept, Problem> {
    // Before any limit is asked: a token must not use up the allowance of users that it is not about.
    let forbidden = forbid(&mut records, pass);
    let bad = records.iter().filter(|record| record.is_err()).count();
    // What a client cannot mend in its records is said first; `rejected` has the rest.
    if forbidden > 0 && (bad == records.len() || (handling.strict && bad == forbidden)) {
        let detail = "The token may not write the heartbeats of these users; none was kept.";
        return Err(Problem::new(Kind::ForbiddenUser, detail).with_rejected(rejected(records, Vec::new())));
    }
    if bad == records.len() {
        let detail = "None of the records can be accepted; `rejected` says what to mend in each.";
        return Err(Problem::new(Kind::NoneAccepted, detail).with_rejected(rejected(records, Vec::new())));
    }
    if handling.strict && bad > 0 {
        let detail = "Strict handling was asked for and some records are not valid; none was kept.";
        return Err(Problem::new(Kind::StrictRefused, detail).with_rejected(rejected(records, Vec::new())));
    }
    let Admitted { limited, standing } = admit(good(&records).map(|(place, beat)| (place, beat.user_id)), limits)?;
    let accepted = records.len() - bad - limited.len();
    let over = |place| limited.binary_search_by_key(&place, |one| one.index).is_ok();
    if let Some(standing) = &standing
        && !limited.is_empty()
        && (accepted == 0 || handling.strict)
    {
        turn_away(good(&records), intake);
        return Err(rate_limited(standing, limits).with_rejected(rejected(records, limited)));
    }
    if !limited.is_empty() {
        turn_away(good(&records).filter(|(place, _)| over(*place)), intake);
    }
    let kept = good(&records).filter(|(place, _)| limited.is_empty() || !over(*place)).map(|(_, beat)| beat);
    let parcels = if accepted == 1 {
        kept.map(|beat| Block::of_one(&beat, handling.partitions)).collect()
    } else {
        // Users are not spread evenly.
        Block::encode_by_partition(kept, handling.partitions, text_bytes + text_bytes / 4)
    };
    Ok(Kept { parcels, accepted, rejected: rejected(records, limited), standing })
}

/// Tells the intake whose records these are.
fn turn_away<'a>(records: impl Iterator<Item = (u32, HeartbeatRef<'a>)>, intake: &dyn Intake) {
    let users: BTreeSet<&str> = records.map(|(_, beat)| beat.user_id).collect();
    intake.turned_away(TurnedAway::Users(&Vec::from_iter(users)));
}

/// Refuses the good records of users that the token is not about. How many they are.
fn forbid(records: &mut [Parsed<'_>], pass: &Pass) -> usize {
    if pass.is_about_all() {
        return 0;
    }
    let is_foreign = |record: &Parsed<'_>| record.as_ref().is_ok_and(|beat| !pass.is_about(beat.as_ref().user_id));
    let mut forbidden = 0;
    for record in records.iter_mut().filter(|record| is_foreign(record)) {
        let detail = "the token may not write heartbeats of this user";
        *record = Err(Rejection::new(RejectCode::ForbiddenUser, detail));
        forbidden += 1;
    }
    forbidden
}

/// The good records, each with its place in the request.
fn good<'a>(records: &'a [Parsed<'_>]) -> impl Iterator<Item = (u32, HeartbeatRef<'a>)> {
    (0..).zip(records).filter_map(|(place, record)| Some((place, record.as_ref().ok()?.as_ref())))
}

/// The bad records and those over their limit, in the order of the request.
fn rejected(records: Vec<Parsed<'_>>, limited: Vec<Rejected>) -> Vec<Rejected> {
    let bad = (0..).zip(records).filter_map(|(place, record)| Some(Rejected::new(place, record.err()?)));
    let mut rejected: Vec<_> = bad.chain(limited).collect();
    rejected.sort_unstable_by_key(|one| one.index);
    rejected
}
