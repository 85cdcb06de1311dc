//! Which dataset the buffer must belong to.
//!
//! Constraint: once a process has seen its buffer registered, nothing else will do until it is restarted. An erased
//! buffer, or another one behind the same address, is an alarm and an error, never a fresh start in silence.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Error, Registration, Result};
use crate::heartbeat::DatasetId;

/// What this process knows of its buffer's dataset.
#[derive(Debug, Default)]
pub(super) struct Identity {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    expected: Option<DatasetId>,
    pinned: Option<Registration>,
    alarmed: bool,
}

impl Identity {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each change is one assignment, so a poisoned lock still holds whole values.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registration that was seen, if one was.
    pub(super) fn pinned(&self) -> Option<Registration> {
        self.lock().pinned
    }

    /// The dataset that it must be, as far as is known.
    pub(super) fn expected(&self) -> Option<DatasetId> {
        let known = self.lock();
        known.expected.or(known.pinned.map(|registration| registration.dataset))
    }

    /// Says which dataset it must be.
    pub(super) fn expect(&self, dataset: DatasetId) {
        self.lock().expected = Some(dataset);
    }

    /// Judges what the buffer carries, and holds on to it.
    pub(super) fn judge(&self, found: Option<Registration>) -> Result<Option<Registration>> {
        let expected = self.expected();
        let mut known = self.lock();
        match (found, expected) {
            (None, _) if known.pinned.is_some() => Err(Error::NotRegistered),
            (None, _) => Ok(None),
            (Some(found), Some(expected)) if found.dataset != expected => {
                Err(Error::ForeignDataset { expected, found: found.dataset.to_string() })
            }
            (Some(found), _) => match known.pinned {
                Some(pinned) if pinned.partitions != found.partitions => Err(Error::Corrupt {
                    detail: format!(
                        "registered with {} partitions, before with {}",
                        found.partitions, pinned.partitions
                    ),
                }),
                _ => {
                    known.pinned = Some(found);
                    Ok(Some(found))
                }
            },
        }
    }

    /// Logs once when a buffer that was known is gone or another, and once when it is back.
    pub(super) fn watch(&self, error: Option<&Error>) {
        let gone = matches!(error, Some(Error::NotRegistered | Error::ForeignDataset { .. }));
        // A transient fault says nothing of whose the buffer is.
        if error.is_some() && !gone {
            return;
        }
        let mut known = self.lock();
        let alarm = gone && known.pinned.is_some();
        if known.alarmed == alarm {
            return;
        }
        known.alarmed = alarm;
        match error {
            Some(error) if alarm => tracing::error!(
                %error,
                "the buffer was erased or replaced under a running process: nothing is accepted until it is back, or adopted and the process restarted"
            ),
            _ => tracing::info!("the buffer carries its dataset again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Registration = Registration { dataset: DatasetId::from_u128(1), partitions: 4 };
    const OTHER: Registration = Registration { dataset: DatasetId::from_u128(2), partitions: 4 };

    #[test]
    fn what_was_seen_once_must_stay() {
        let identity = Identity::default();
        assert_eq!(identity.judge(None).unwrap(), None);
        assert_eq!(identity.judge(Some(ONE)).unwrap(), Some(ONE));
        assert!(matches!(identity.judge(None), Err(Error::NotRegistered)));
        assert!(matches!(identity.judge(Some(OTHER)), Err(Error::ForeignDataset { .. })));
        assert!(matches!(identity.judge(Some(Registration { partitions: 5, ..ONE })), Err(Error::Corrupt { .. })));
        assert_eq!(identity.judge(Some(ONE)).unwrap(), Some(ONE));
    }

    #[test]
    fn what_is_expected_is_not_learned() {
        let identity = Identity::default();
        identity.expect(OTHER.dataset);
        assert!(matches!(identity.judge(Some(ONE)), Err(Error::ForeignDataset { .. })));
        assert_eq!(identity.pinned(), None);
    }
}
