//! Sorting many heartbeats by the sort order of the project, without comparing names more than once each.
//!
//! Constraint: the result is that of sorting by [`HeartbeatRef`]'s `Ord`. Rows that tie in it are equal, so any sort by it
//! gives the same rows.
//!
//! A batch holds many heartbeats of few users, whose names often begin alike: a sort by comparison spends its time on
//! these names. Here each user's name is compared once with the others', which gives it a rank, and rows are sorted by
//! (rank, timestamp) as one integer. Only rows that tie in both are compared by the rest.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::HeartbeatRef;

/// Bits of a key below the timestamp: where the row stood.
const PLACE_BITS: u32 = 32;
/// Bits of a key below the rank of the user.
const TIME_BITS: u32 = PLACE_BITS + 64;

/// Sorts by the sort order (see [`HeartbeatRef`]).
///
/// Afterwards all rows of a user borrow their name from one place: whoever goes through them in their new order finds it
/// near, where the rows themselves lie scattered.
pub fn sort(rows: &mut [HeartbeatRef<'_>]) {
    let Some((mut keys, users)) = keys(rows) else {
        return rows.sort_unstable();
    };
    keys.sort_unstable();
    arrange(rows, &mut keys);
    for (row, key) in rows.iter_mut().zip(&keys) {
        row.user_id = users[rank(*key)];
    }
    let mut start = 0;
    for tied in keys.chunk_by(|a, b| a >> PLACE_BITS == b >> PLACE_BITS) {
        let end = start + tied.len();
        if tied.len() > 1 {
            rows[start..end].sort_unstable_by(|a, b| behind_time(a).cmp(&behind_time(b)));
        }
        start = end;
    }
}

/// What the order looks at where user and timestamp are the same: so beat the devices of one user in many a fleet.
fn behind_time<'a>(row: &HeartbeatRef<'a>) -> (&'a str, Option<&'a str>, i64, Option<&'a str>) {
    (row.device_id, row.id, row.received_at, row.attributes)
}

fn rank(key: u128) -> usize {
    (key >> TIME_BITS) as usize
}

/// Rank of the user, timestamp and place of each row, as an integer that sorts as they do; and the users by their ranks.
/// `None` for more rows than places have numbers.
fn keys<'a>(rows: &[HeartbeatRef<'a>]) -> Option<(Vec<u128>, Vec<&'a str>)> {
    u32::try_from(rows.len()).ok()?;
    let mut numbers: HashMap<&str, u32, RandomState> = HashMap::default();
    let mut keys = Vec::with_capacity(rows.len());
    for (place, row) in (0_u128..).zip(rows) {
        let next = numbers.len() as u32;
        let number = *numbers.entry(row.user_id).or_insert(next);
        // With the sign flipped, the bits of a timestamp sort as it does.
        let time = (row.timestamp ^ i64::MIN) as u64;
        keys.push(u128::from(number) << TIME_BITS | u128::from(time) << PLACE_BITS | place);
    }
    let mut users: Vec<(&str, u32)> = numbers.into_iter().collect();
    users.sort_unstable();
    let mut ranks = vec![0_u32; users.len()];
    for (rank, (_, number)) in (0..).zip(&users) {
        ranks[*number as usize] = rank;
    }
    for key in &mut keys {
        let ranked = ranks[rank(*key)];
        *key = u128::from(ranked) << TIME_BITS | *key & ((1 << TIME_BITS) - 1);
    }
    Some((keys, users.into_iter().map(|(user, _)| user).collect()))
}

/// Moves each row to where its key stands, along the cycles of the permutation. The keys lose their places by it.
fn arrange(rows: &mut [HeartbeatRef<'_>], keys: &mut [u128]) {
    let place = |key: u128| key as u32 as usize;
    for start in 0..rows.len() {
        let (mut to, first) = (start, rows[start]);
        loop {
            let from = place(keys[to]);
            keys[to] = keys[to] >> PLACE_BITS << PLACE_BITS | to as u128;
            if from == start {
                rows[to] = first;
                break;
            }
            rows[to] = rows[from];
            to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Heartbeat;
    use super::*;

    fn heartbeat() -> impl Strategy<Value = Heartbeat> {
        let time = prop_oneof![-2..2_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
        let id = proptest::option::of("[xy]{1,2}");
        ("(user-){0,2}[abé]{0,2}", time, "[de]", id, 0..2_i64, proptest::option::of("[{}]")).prop_map(
            |(user_id, timestamp, device_id, id, received_at, attributes)| Heartbeat {
                user_id,
                device_id,
                timestamp,
                id,
                received_at,
                attributes,
            },
        )
    }

    proptest! {
        #[test]
        fn it_is_the_order_of_comparing_whole_heartbeats(rows in proptest::collection::vec(heartbeat(), 0..60)) {
            let mut sorted: Vec<_> = rows.iter().map(Heartbeat::as_ref).collect();
            sort(&mut sorted);
            let mut expected: Vec<_> = rows.iter().map(Heartbeat::as_ref).collect();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }
}
