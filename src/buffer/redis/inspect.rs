//! What people and monitors ask of the buffer, and what people decide about its dead letters.

use std::time::Duration;

use async_trait::async_trait;

use super::super::letter::{self, MAX_LISTED, MAX_LISTED_BYTES};
use super::super::{
    Batchers, DeadLetter, DeadLetterId, DeadLetterNote, Inspect, Ledger, PartitionStatus, Result, StandingClaim,
    Witness,
};
use super::buffer::{RedisBuffer, within};
use super::reply::Reply;
use super::{script, startup};
use crate::heartbeat::Partition;

#[async_trait]
impl Inspect for RedisBuffer {
    async fn status(&self, partition: Partition) -> Result<PartitionStatus> {
        let asked = self.marks.known(partition);
        let reply = self.step(&script::STATUS, partition, |_, _| {}).await?;
        let status = read_status(reply, partition, self.caps(self.registered().await?))?;
        let accepted = status.ledger.accepted;
        if accepted < asked.accepted {
            self.make_sure(partition).await;
        } else {
            self.marks.see(partition, asked, accepted, self.sure(accepted));
        }
        Ok(status)
    }

    fn witness(&self, partition: Partition) -> Witness {
        self.marks.witness(partition)
    }

    async fn replicas_online(&self) -> Result<Option<u32>> {
        if self.replicas().is_none() {
            return Ok(None);
        }
        within(*self.common.step_deadline, startup::replicas_online(&self.connections)).await.map(Some)
    }

    async fn batchers(&self) -> Result<Batchers> {
        let mut reply = self.apart(&script::BATCHERS, None, |_| {}).await?;
        reply.expect("batchers")?;
        (0..reply.left() / 2).map(|_| Ok((reply.id()?, Duration::from_millis(reply.count()?)))).collect()
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let reply = self.step(&script::DEAD_LIST, partition, |command, _| {
            let after = after.map(|id| id.to_string()).unwrap_or_default();
            command.arg(after).arg(limit.min(MAX_LISTED)).arg(MAX_LISTED_BYTES);
        });
        let mut reply = reply.await?;
        reply.expect("letters")?;
        (0..reply.left()).map(|_| letter::read(&reply.bytes()?)).collect()
    }

    async fn newest_dead_letters(&self, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>> {
        let reply = self.look(&script::DEAD_NEWEST, partition, |command| {
            command.arg(limit.min(MAX_LISTED));
        });
        let mut reply = reply.await?;
        reply.expect("letters")?;
        (0..reply.left()).map(|_| letter::read(&reply.bytes()?).map(Into::into)).collect()
    }

    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        let reply = self.step(&script::DEAD_SHOW, partition, |command, _| {
            command.arg(id.to_string());
        });
        let mut reply = reply.await?;
        match reply.word() {
            "none" => Ok(None),
            "letter" => letter::read(&reply.bytes()?).map(Some),
            _ => Err(reply.strange()),
        }
    }

    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        let reply = self.step(&script::DEAD_RETRY, partition, |command, registration| {
            let (cap_rows, cap_bytes) = self.caps(registration);
            command.arg(cap_rows).arg(cap_bytes).arg(id.to_string());
        });
        done_or_none(reply.await?)
    }

    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        let reply = self.step(&script::DEAD_DROP, partition, |command, _| {
            command.arg(id.to_string());
        });
        done_or_none(reply.await?)
    }
}

fn done_or_none(reply: Reply) -> Result<bool> {
    match reply.word() {
        "done" => Ok(true),
        "none" => Ok(false),
        _ => Err(reply.strange()),
    }
}

fn read_status(mut reply: Reply, partition: Partition, (cap_rows, cap_bytes): (u64, u64)) -> Result<PartitionStatus> {
    reply.expect("status")?;
    let ledger = Ledger {
        accepted: reply.count()?,
        pending: reply.count()?,
        claimed: reply.count()?,
        acked: reply.count()?,
        dead: reply.count()?,
        dropped: reply.count()?,
        bytes: reply.count()?,
    };
    let oldest_pending = reply.count_or_none()?.map(Duration::from_millis);
    let (owner, claim) = (reply.id_or_none()?, reply.id_or_none()?);
    let (rows, age, deaths) = (reply.count()?, Duration::from_millis(reply.count()?), reply.small()?);
    let claim = claim.map(|id| StandingClaim { id, rows, age, deaths });
    let (devices, devices_forgotten) = (reply.count()?, reply.count()?);
    Ok(PartitionStatus {
        partition,
        ledger,
        oldest_pending,
        owner,
        claim,
        cap_rows,
        cap_bytes,
        devices,
        devices_forgotten,
    })
}
