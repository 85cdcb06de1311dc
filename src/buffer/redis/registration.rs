//! Reading and writing which dataset the partitions carry.
//!
//! Constraint: the first partition is written last and alone, so where it carries an id, all others do; a registration
//! that was cut short reads as none, and is completed by doing it again.

use super::super::{Error, Registration, Result};
use super::buffer::RedisBuffer;
use super::connection::Call;
use super::reply::{Asked, Reply};
use super::{keys, script};
use crate::heartbeat::Partition;

/// Partitions that are registered in one round trip at most.
const REGISTER_AT_ONCE: usize = 256;

impl RedisBuffer {
    /// The registration, looked up if it is not known yet.
    pub(super) async fn registered(&self) -> Result<Registration> {
        match self.identity.pinned() {
            Some(registration) => Ok(registration),
            None => self.look_up().await?.ok_or(Error::NotRegistered),
        }
    }

    /// Reads what every partition carries, and judges it.
    pub(super) async fn look_up(&self) -> Result<Option<Registration>> {
        // The first partition is registered last, so where it carries nothing, no registration was ever finished.
        let Some(first) = self.read_registration(0).await? else { return self.identity.judge(None) };
        for partition in 1..first.partitions {
            match self.read_registration(partition).await? {
                Some(found) if found == first => {}
                Some(found) if found.dataset == first.dataset => {
                    let detail = format!("partition {partition} is registered as one of {}", found.partitions);
                    return Err(Error::Corrupt { detail });
                }
                Some(found) => {
                    return Err(Error::ForeignDataset { expected: first.dataset, found: found.dataset.to_string() });
                }
                None => return self.identity.judge(None),
            }
        }
        self.identity.judge(Some(first))
    }

    async fn read_registration(&self, partition: Partition) -> Result<Option<Registration>> {
        let state = keys::state(partition);
        let mut command = redis::cmd("HMGET");
        command.arg(&state).arg("dataset").arg("partitions");
        let answer = self.connections.ask(command, &state).await?;
        let wrong = || Error::Corrupt { detail: format!("the registration of partition {partition} cannot be read") };
        let (dataset, partitions) =
            redis::from_redis_value::<(Option<String>, Option<Partition>)>(answer).map_err(|_| wrong())?;
        match (dataset, partitions) {
            (None, _) => Ok(None),
            (Some(dataset), Some(partitions)) if partitions > 0 => {
                Ok(Some(Registration { dataset: dataset.parse().map_err(|_| wrong())?, partitions }))
            }
            _ => Err(wrong()),
        }
    }

    /// Writes the dataset's id into every partition.
    pub(super) async fn register_all(&self, registration: Registration) -> Result<()> {
        // Look everywhere before writing anywhere, so that a buffer of another dataset stays whole.
        let mut partitions: Vec<Partition> = (0..registration.partitions).collect();
        for &partition in &partitions {
            if let Some(found) = self.read_registration(partition).await?
                && found.dataset != registration.dataset
            {
                let (expected, found) = (registration.dataset, found.dataset.to_string());
                return Err(Error::ForeignDataset { expected, found });
            }
        }
        partitions.rotate_left(1);
        // The first partition goes last and alone: where it carries the id, all the others do.
        let (rest, first) = partitions.split_at(partitions.len().saturating_sub(1));
        for some in rest.chunks(REGISTER_AT_ONCE).chain([first]) {
            let calls = some.iter().map(|&partition| register_call(partition, registration)).collect();
            for (&partition, outcome) in some.iter().zip(self.connections.run(calls, None).await?) {
                let asked = Asked { dataset: registration.dataset, partition };
                Reply::read(script::REGISTER.name, outcome.answer?, asked)?.only("done")?;
            }
        }
        self.identity.judge(Some(registration)).map(drop)
    }
}

fn register_call(partition: Partition, registration: Registration) -> Call {
    let mut command = script::REGISTER.call(partition);
    command.arg(registration.dataset.to_string()).arg(registration.partitions);
    Call { script: &script::REGISTER, command, key: script::REGISTER.first_key(partition) }
}
