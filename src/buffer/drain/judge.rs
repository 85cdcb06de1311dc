//! Which Redis may take a buffer in, and whether all of it has arrived: pure, without I/O.

use uuid::Uuid;

use super::super::handover::{Mark, Move};
use super::super::redis::Found;
use super::super::{Error, PartitionStatus, Registration, Result};

/// The target that this Redis is to the drain: the one that an earlier try made it, or `None` where it is new.
///
/// # Errors
/// [`Error::ForeignDataset`] when it belongs to another dataset; [`Error::Unsafe`] when it is not new for another reason, or
/// not the one that an earlier try had sealed.
pub(super) fn target(
    found: &[Found],
    known: Option<Mark>,
    registration: Registration,
    abandon_other: bool,
) -> Result<Option<Uuid>> {
    let refuse = |advice: &str| Err(Error::Unsafe { advice: advice.into() });
    let mut target = None;
    for partition in found.iter().filter(|partition| !partition.is_new) {
        let moving = partition.drain.as_deref().and_then(|text| text.parse::<Move>().ok());
        match (&partition.dataset, moving) {
            (Some(found), _) if *found != registration.dataset.to_string() => {
                return Err(Error::ForeignDataset { expected: registration.dataset, found: found.clone() });
            }
            (_, Some(moving)) if Some(moving.drain) == known.map(|mark| mark.drain) => {
                if target.is_some_and(|target| target != moving.target) {
                    return refuse("this Redis holds what two tries of this drain began; give it another, empty one");
                }
                target = Some(moving.target);
            }
            (Some(_), _) => {
                return refuse(
                    "this Redis carries this dataset already, but not by this drain; give it another, empty one",
                );
            }
            (None, Some(_)) => {
                return refuse("another drain has begun to fill this Redis; give this one another, empty one");
            }
            (None, None) => return refuse("this Redis holds keys of Systole already; give the drain an empty one"),
        }
    }
    let sealed = known.and_then(|mark| mark.sealed);
    if sealed.is_some() && sealed != target && !abandon_other {
        return refuse(
            "an earlier try has moved all of it into another Redis, which may have accepted heartbeats since: run it again \
             with that one, or, if that one is lost, with --abandon-other",
        );
    }
    Ok(target)
}

/// Whether a partition is after the move what it was before, or that and what was pushed since. People may also have settled
/// dead letters; claims and acknowledgements there can have been none, since no batcher begins before the move is over.
pub(super) fn arrived(before: &PartitionStatus, after: &PartitionStatus) -> bool {
    let claim = |status: &PartitionStatus| status.claim.map(|claim| (claim.id, claim.rows, claim.deaths));
    let (old, new) = (before.ledger, after.ledger);
    let same_bytes = (new.accepted, new.dropped) == (old.accepted, old.dropped);
    new.balances()
        && new.accepted >= old.accepted
        && new.dropped >= old.dropped
        && (new.claimed, new.acked) == (old.claimed, old.acked)
        && claim(before) == claim(after)
        && (new.bytes == old.bytes || !same_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Ledger;
    use crate::heartbeat::DatasetId;

    const OURS: Registration = Registration { dataset: DatasetId::from_u128(1), partitions: 2 };
    const DRAIN: Uuid = Uuid::from_u128(10);
    const HERE: Uuid = Uuid::from_u128(20);
    const ELSEWHERE: Uuid = Uuid::from_u128(21);

    fn new() -> Found {
        Found { is_new: true, dataset: None, drain: None }
    }

    fn carrying(dataset: Option<u128>, drain: Option<(Uuid, Uuid)>) -> Found {
        Found {
            is_new: false,
            dataset: dataset.map(|id| DatasetId::from_u128(id).to_string()),
            drain: drain.map(|(drain, target)| Move { drain, target }.to_string()),
        }
    }

    fn judged(found: &[Found], sealed: Option<Uuid>) -> Result<Option<Uuid>, String> {
        target(found, Some(Mark { drain: DRAIN, sealed }), OURS, false).map_err(|error| error.to_string())
    }

    #[test]
    fn a_new_redis_or_one_of_an_earlier_try_will_do() {
        assert_eq!(target(&[new(), new()], None, OURS, false).unwrap(), None);
        let begun = carrying(None, Some((DRAIN, HERE)));
        let finished = carrying(Some(1), Some((DRAIN, HERE)));
        assert_eq!(judged(&[begun.clone(), new()], None), Ok(Some(HERE)));
        assert_eq!(judged(&[begun, finished.clone()], None), Ok(Some(HERE)));
        assert_eq!(judged(&[finished.clone(), finished], Some(HERE)), Ok(Some(HERE)));
        assert_eq!(judged(&[new(), new()], None), Ok(None), "another one, as long as none is sealed");
    }

    #[test]
    fn a_redis_with_anything_else_in_it_is_refused() {
        for (found, said) in [
            (carrying(Some(2), None), "belongs to dataset"),
            (carrying(Some(2), Some((DRAIN, HERE))), "belongs to dataset"),
            (carrying(Some(1), None), "not by this drain"),
            (carrying(Some(1), Some((Uuid::from_u128(11), HERE))), "not by this drain"),
            (carrying(None, Some((Uuid::from_u128(11), HERE))), "another drain"),
            (carrying(None, None), "keys of Systole"),
            (Found { drain: Some("nonsense".into()), ..carrying(None, None) }, "keys of Systole"),
        ] {
            for at in 0..2 {
                let mut both = [new(), new()];
                both[at] = found.clone();
                assert!(judged(&both, None).unwrap_err().contains(said), "{found:?}");
            }
        }
        let two = [carrying(None, Some((DRAIN, HERE))), carrying(None, Some((DRAIN, ELSEWHERE)))];
        assert!(judged(&two, None).unwrap_err().contains("two tries"));
        let unknown = target(&[carrying(None, Some((DRAIN, HERE)))], None, OURS, false);
        assert!(unknown.unwrap_err().to_string().contains("another drain"));
    }

    #[test]
    fn what_is_sealed_to_one_redis_goes_to_no_other_unless_a_person_says_so() {
        let begun = carrying(None, Some((DRAIN, HERE)));
        for found in [&[new(), new()], &[begun, new()]] {
            assert!(judged(found, Some(ELSEWHERE)).unwrap_err().contains("--abandon-other"));
            let mark = Some(Mark { drain: DRAIN, sealed: Some(ELSEWHERE) });
            assert!(target(found, mark, OURS, true).is_ok());
        }
    }

    #[test]
    fn more_may_have_come_since_and_nothing_may_have_gone() {
        let ledger = Ledger { accepted: 10, pending: 4, claimed: 2, acked: 2, dead: 1, dropped: 1, bytes: 70 };
        let status = |ledger| PartitionStatus {
            partition: 0,
            ledger,
            oldest_pending: None,
            owner: None,
            claim: None,
            cap_rows: 0,
            cap_bytes: 0,
            devices: 0,
            devices_forgotten: 0,
            vanished: 0,
        };
        let before = status(ledger);
        let after = |change: fn(&mut Ledger)| {
            let mut ledger = ledger;
            change(&mut ledger);
            arrived(&before, &status(ledger))
        };
        assert!(after(|_| {}));
        assert!(after(|new| (new.accepted, new.pending, new.bytes) = (13, 7, 99)), "pushed since");
        assert!(after(|new| (new.pending, new.dead) = (5, 0)), "a letter retried");
        assert!(after(|new| (new.dropped, new.dead, new.bytes) = (2, 0, 60)), "a letter dropped");
        assert!(!after(|new| (new.accepted, new.pending) = (9, 3)), "fewer");
        assert!(!after(|new| new.pending = 3), "unbalanced");
        assert!(!after(|new| (new.claimed, new.acked) = (0, 4)), "acknowledged by nobody");
        assert!(!after(|new| new.bytes = 69), "bytes");
    }
}
