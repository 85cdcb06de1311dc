//! Which devices have beaten, and when last: the sorted set that pushes keep (`lua/push.lua`).
//!
//! It is sorted by time, which is what most ask for. For the devices of one user it is gone through whole, in steps of about a
//! thousand: some seven for a partition's share of 100,000.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::super::devices::{self, Memory};
use super::super::{DEVICES_AT_ONCE, Devices, Error, Result, SeenDevice};
use super::RedisBuffer;
use super::script;
use crate::heartbeat::Partition;

#[async_trait]
impl Devices for RedisBuffer {
    async fn devices_of(
        &self,
        partition: Partition,
        user_id: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        let (pattern, limit) = (pattern(user_id), limit.min(DEVICES_AT_ONCE) as usize);
        let mut first: BTreeMap<String, SeenDevice> = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = self.step(&script::DEVICES_OF, partition, |command, registration| {
                let since = Memory::of(&self.common, registration).since();
                command.arg(&cursor).arg(&pattern).arg(since).arg(DEVICES_AT_ONCE);
            });
            let mut reply = reply.await?;
            reply.expect("devices")?;
            cursor = reply.text()?;
            for device in read(&reply.list()?)? {
                if after.is_none_or(|after| device.device_id.as_str() > after) {
                    first.insert(device.device_id.clone(), device);
                }
                if first.len() > limit {
                    first.pop_last();
                }
            }
            if cursor == "0" {
                return Ok(first.into_values().collect());
            }
        }
    }

    async fn devices_unseen(
        &self,
        partition: Partition,
        before: i64,
        after: Option<&SeenDevice>,
        limit: u32,
    ) -> Result<Vec<SeenDevice>> {
        let reply = self.step(&script::DEVICES_UNSEEN, partition, |command, registration| {
            let since = Memory::of(&self.common, registration).since();
            command.arg(since).arg(before).arg(limit.min(DEVICES_AT_ONCE));
            match after {
                None => command.arg("").arg(""),
                Some(after) => command.arg(after.last_seen).arg(devices::name(&after.user_id, &after.device_id)),
            };
        });
        let mut reply = reply.await?;
        reply.expect("devices")?;
        read(&reply.list()?)
    }
}

/// What matches the names of a user's devices and no others. Redis takes some characters in a pattern for more than themselves.
fn pattern(user_id: &str) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(2 * user_id.len() + 2);
    for byte in user_id.bytes() {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.extend_from_slice(b"\0*");
    pattern
}

/// Names and times by turns.
fn read(found: &[bytes::Bytes]) -> Result<Vec<SeenDevice>> {
    let wrong = || Error::Corrupt { detail: "a device that cannot be read".into() };
    let devices = found.chunks(2).map(|pair| {
        let [name, time] = pair else { return Err(wrong()) };
        let time = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok()).ok_or_else(wrong)?;
        devices::read(name, time).ok_or_else(wrong)
    });
    devices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_matches_itself_only() {
        assert_eq!(pattern("user-1"), b"user-1\0*");
        assert_eq!(pattern(r"a*b?[c]\"), br"a\*b\?\[c\]\\".iter().chain(b"\0*").copied().collect::<Vec<u8>>());
    }
}
