//! What the backends share of remembering devices: bounds, names, and time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::options::Options;
use super::{Registration, SeenDevice};

/// Devices in one answer at most: a backend serves nobody else meanwhile, for about a millisecond.
pub const DEVICES_AT_ONCE: u32 = 1_000;

/// How long, and how many of, the devices of one partition are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Since they were last seen, in ms.
    pub(super) for_ms: i64,
    /// Zero: none at all.
    pub(super) devices: u64,
}

impl Memory {
    pub(super) fn of(options: &Options, registration: Registration) -> Self {
        let share = options.max_devices / u64::from(registration.partitions.max(1));
        Self {
            for_ms: i64::try_from(options.remember_devices.as_millis()).unwrap_or(i64::MAX),
            // Fewer than there are partitions would else be none.
            devices: if options.max_devices == 0 { 0 } else { share.max(1) },
        }
    }

    /// Whoever was last seen before this is forgotten.
    pub(super) fn since(&self) -> i64 {
        now_ms().saturating_sub(self.for_ms)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The name that a device goes by, as in a [`Sighting`](crate::heartbeat::Sighting): names sort as (user, device) do.
pub(super) fn name(user_id: &str, device_id: &str) -> Vec<u8> {
    [user_id.as_bytes(), &[0], device_id.as_bytes()].concat()
}

/// The device of a name. `None` for what is no such name.
pub(super) fn read(name: &[u8], last_seen: i64) -> Option<SeenDevice> {
    let (user_id, device_id) = std::str::from_utf8(name).ok()?.split_once('\0')?;
    Some(SeenDevice { last_seen, user_id: user_id.to_owned(), device_id: device_id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::DatasetId;

    #[test]
    fn each_partition_has_its_share_and_none_is_left_without_one() {
        let memory = |max_devices, partitions| {
            let registration = Registration { dataset: DatasetId::from_u128(1), partitions };
            Memory::of(&Options { max_devices, ..Options::default() }, registration).devices
        };
        assert_eq!((memory(100_000, 16), memory(3, 16), memory(0, 16), memory(7, 0)), (6_250, 1, 0, 7));
    }

    #[test]
    fn a_name_reads_back_and_nonsense_is_none() {
        let device = SeenDevice { last_seen: 7, user_id: "ü".into(), device_id: "d".into() };
        assert_eq!(read(&name("ü", "d"), 7), Some(device));
        assert_eq!(read(b"no separator", 7), None);
        assert_eq!(read(b"\xff\0d", 7), None);
    }
}
