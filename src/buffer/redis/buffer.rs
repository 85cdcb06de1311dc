//! The steps of the contract, each as one call of its script.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Value};

use super::super::identity::Identity;
use super::super::letter;
use super::super::options::Options as Common;
use super::super::{
    Buffer, Claim, ClaimBudget, Condemned, Durability, Error, InHand, Inlet, Lease, LeaseAnswer, Reach, Registration,
    Result, Room,
};
use super::connection::{Call, Connections, Outcome, Replicas};
use super::marks::Marks;
use super::options::Options;
use super::reply::{Asked, Reply};
use super::script::{self, Script};
use super::{keys, startup};
use crate::heartbeat::{BatcherId, ClaimId, DatasetId, Frame, Partition};

/// Frames that one claim moves at most: LMOVE of a thousand holds Redis up for some 3 ms.
const MAX_CLAIM_FRAMES: u32 = 1_000;
/// Bytes at which a claim ends at the latest: what one answer carries.
const MAX_CLAIM_BYTES: u64 = 64 << 20;

/// The buffer on a Redis server, on the master of a Sentinel group, or on a Cluster.
#[derive(Debug)]
pub struct RedisBuffer {
    pub(super) connections: Connections,
    pub(super) identity: Identity,
    pub(super) marks: Marks,
    pub(super) common: Common,
    options: Options,
}

impl RedisBuffer {
    /// Reads the options and the files that they name. Redis need not be up.
    ///
    /// # Errors
    /// [`Error::Unsafe`], naming the setting and what is allowed.
    pub fn connect(common: &Common, options: &Options) -> Result<Self> {
        common.check()?;
        options.check(common)?;
        let connections = Connections::new(common, options)?;
        let (identity, marks) = (Identity::default(), Marks::default());
        Ok(Self { connections, identity, marks, common: common.clone(), options: options.clone() })
    }

    /// Looks whether Redis is fit to keep heartbeats, and says how durably it does.
    ///
    /// # Errors
    /// [`Error::Unsafe`] with the line to put into redis.conf; a transient error while Redis is away.
    pub async fn startup_check(&self) -> Result<Durability> {
        within(*self.common.step_deadline, startup::look(&self.connections, &self.options)).await
    }

    /// Says which dataset the buffer must belong to. Without it, the first one found is held on to; in both cases
    /// another one is refused until this process is restarted.
    pub fn expect_dataset(&self, dataset: DatasetId) {
        self.identity.expect(dataset);
    }

    pub(super) fn caps(&self, registration: Registration) -> (u64, u64) {
        let partitions = u64::from(registration.partitions.max(1));
        (self.common.buffer_max_heartbeats / partitions, self.common.buffer_max_bytes.as_u64() / partitions)
    }

    /// Runs a script of one partition; `build` adds the arguments behind the dataset id.
    pub(super) async fn step(
        &self,
        script: &'static Script,
        partition: Partition,
        build: impl FnOnce(&mut Cmd, Registration),
    ) -> Result<Reply> {
        self.step_by(script, partition, script.call(partition), build).await
    }

    /// The same for a script that writes nothing.
    pub(super) async fn look(
        &self,
        script: &'static Script,
        partition: Partition,
        build: impl FnOnce(&mut Cmd),
    ) -> Result<Reply> {
        self.step_by(script, partition, script.call_to_look(partition), |command, _| build(command)).await
    }

    async fn step_by(
        &self,
        script: &'static Script,
        partition: Partition,
        mut command: Cmd,
        build: impl FnOnce(&mut Cmd, Registration),
    ) -> Result<Reply> {
        let answer = within(*self.common.step_deadline, async {
            let registration = self.registered().await?;
            command.arg(registration.dataset.to_string());
            build(&mut command, registration);
            let call = Call { script, command, key: script.first_key(partition) };
            let value = single(self.connections.run(vec![call], None).await?)?;
            Reply::read(script.name, value, Asked { dataset: registration.dataset, partition })
        })
        .await;
        self.watch(answer.as_ref().err());
        answer
    }

    /// Learns from the outcome of a step whether this is the buffer that was known.
    fn watch(&self, error: Option<&Error>) {
        self.identity.watch(error);
        self.marks.watch(error);
    }

    /// What a partition that has accepted so much must not forget, by the word of its master alone.
    pub(super) fn sure(&self, accepted: u64) -> Option<u64> {
        self.replicas().is_none().then_some(accepted)
    }

    /// Heartbeats that a partition has accepted so far, by a server that takes writes.
    async fn accepted(&self, partition: Partition) -> Result<u64> {
        let mut reply = self.step(&script::PING, partition, |_, _| {}).await?;
        reply.expect("done")?;
        reply.count()
    }

    /// A step that carries a lease.
    async fn leased(&self, script: &'static Script, lease: &Lease, build: impl FnOnce(&mut Cmd)) -> Result<Reply> {
        self.step(script, lease.partition, |command, _| {
            command.arg(lease.batcher.to_string()).arg(lease.epoch);
            build(command);
        })
        .await
    }

    /// Runs a script on keys that belong to no dataset, and waits for replicas where that is asked for.
    pub(super) async fn apart(
        &self,
        script: &'static Script,
        replicas: Option<Replicas>,
        build: impl FnOnce(&mut Cmd),
    ) -> Result<Reply> {
        within(*self.common.step_deadline, async {
            let mut command = script.call(0);
            build(&mut command);
            let call = Call { script, command, key: script.first_key(0) };
            let outcome = only(self.connections.run(vec![call], replicas).await?)?;
            // These scripts know no dataset, so they never refuse for one.
            let asked = Asked { dataset: DatasetId::from_u128(0), partition: 0 };
            let reply = Reply::read(script.name, outcome.answer?, asked)?;
            if replicas.is_some() {
                self.check_replicas(outcome.replicas)?;
            }
            Ok(reply)
        })
        .await
    }

    pub(super) fn replicas(&self) -> Option<Replicas> {
        let want = self.options.wait_replicas;
        (want > 0).then(|| Replicas { want, timeout: *self.options.wait_replicas_timeout })
    }

    /// Fails unless as many replicas confirmed as must.
    pub(super) fn check_replicas(&self, confirmed: Option<u32>) -> Result<()> {
        let (have, want) = (confirmed.unwrap_or(0), self.options.wait_replicas);
        if have < want { Err(Error::TooFewReplicas { have, want }) } else { Ok(()) }
    }

    async fn room_of_all(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let registration = self.registered().await?;
        let (cap_rows, cap_bytes) = self.caps(registration);
        // One call a partition, however many loads are asked about.
        let mut partitions: Vec<(Partition, Vec<usize>)> = Vec::new();
        for (place, (partition, _, _)) in wanted.iter().enumerate() {
            match partitions.iter_mut().find(|(known, _)| known == partition) {
                Some((_, places)) => places.push(place),
                None => partitions.push((*partition, vec![place])),
            }
        }
        let calls = partitions
            .iter()
            .map(|(partition, places)| {
                let mut command = script::ROOM.call(*partition);
                command.arg(registration.dataset.to_string()).arg(cap_rows).arg(cap_bytes);
                for &place in places {
                    command.arg(wanted[place].1).arg(wanted[place].2);
                }
                Call { script: &script::ROOM, command, key: script::ROOM.first_key(*partition) }
            })
            .collect();
        let outcomes = self.connections.run(calls, None).await?;
        let mut rooms = vec![Room::Full; wanted.len()];
        for ((partition, places), outcome) in partitions.into_iter().zip(outcomes) {
            let asked = Asked { dataset: registration.dataset, partition };
            let mut reply = Reply::read(script::ROOM.name, outcome.answer?, asked)?;
            reply.expect("room")?;
            for place in places {
                rooms[place] = if reply.count()? == 1 { Room::Fits } else { Room::Full };
            }
        }
        Ok(rooms)
    }
}

/// Puts a deadline on a call. Dropping it on the way throws its connection away.
pub(super) async fn within<T>(after: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(after, call).await.unwrap_or(Err(Error::TimedOut { after }))
}

/// The outcome of the only call.
pub(super) fn only(outcomes: Vec<Outcome>) -> Result<Outcome> {
    let missing = || Error::Corrupt { detail: "Redis gave no answer to one question".into() };
    outcomes.into_iter().next().ok_or_else(missing)
}

fn single(outcomes: Vec<Outcome>) -> Result<Value> {
    only(outcomes)?.answer
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn read_claim(mut reply: Reply) -> Result<Option<Claim>> {
    if reply.word() == "nothing" {
        return Ok(None);
    }
    reply.expect("claim")?;
    let (id, standing) = (reply.id()?, reply.count()? == 1);
    let (rows, deaths) = (reply.count()?, reply.small()?);
    let (frame, hand_deaths) = (reply.count_or_none()?, reply.small()?);
    let condemned = letter::read_condemned(&reply.list()?)?;
    let in_hand = frame
        .map(|frame| {
            let frame = u32::try_from(frame).map_err(|_| reply.strange())?;
            Ok::<_, Error>(InHand { frame, deaths: hand_deaths })
        })
        .transpose()?;
    Ok(Some(Claim { id, frames: reply.list()?, rows, standing, deaths, in_hand, condemned }))
}

#[async_trait]
impl Reach for RedisBuffer {
    async fn durability(&self) -> Result<Durability> {
        self.startup_check().await
    }

    async fn ping(&self) -> Result<()> {
        self.accepted(0).await.map(drop)
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        let found = within(*self.common.step_deadline, self.look_up()).await;
        self.watch(found.as_ref().err());
        found
    }
}

#[async_trait]
impl Inlet for RedisBuffer {
    async fn room(&self, wanted: &[(Partition, u64, u64)]) -> Result<Vec<Room>> {
        let rooms = within(*self.common.push_deadline, self.room_of_all(wanted)).await;
        self.watch(rooms.as_ref().err());
        rooms
    }

    async fn push(&self, frames: &[(Partition, Frame)]) -> Vec<Result<()>> {
        if frames.is_empty() {
            return Vec::new();
        }
        let pushed = within(*self.common.push_deadline, self.push_all(frames)).await;
        let outcomes = pushed.unwrap_or_else(|error| vec![Err(error); frames.len()]);
        self.watch(outcomes.iter().find_map(|outcome| outcome.as_ref().err()));
        outcomes
    }
}

#[async_trait]
impl Buffer for RedisBuffer {
    async fn register(&self, registration: Registration) -> Result<()> {
        if registration.partitions == 0 {
            return Err(Error::Unsafe { advice: "partitions: 0 is too few; give at least 1".into() });
        }
        if let Some(expected) = self.identity.expected().filter(|expected| *expected != registration.dataset) {
            return Err(Error::ForeignDataset { expected, found: registration.dataset.to_string() });
        }
        within(*self.common.step_deadline, self.register_all(registration)).await
    }

    async fn announce(&self, batcher: BatcherId, ttl: Duration) -> Result<Vec<BatcherId>> {
        let mut reply = self
            .apart(&script::ANNOUNCE, None, |command| {
                command.arg(batcher.to_string()).arg(millis(ttl));
            })
            .await?;
        reply.expect("alive")?;
        (0..reply.left()).map(|_| reply.id()).collect()
    }

    async fn retire(&self, batcher: BatcherId) -> Result<()> {
        let batchers = keys::batchers(0);
        let mut command = redis::cmd("ZREM");
        command.arg(&batchers).arg(batcher.to_string());
        within(*self.common.step_deadline, self.connections.ask(command, &batchers)).await.map(drop)
    }

    async fn lease(&self, partition: Partition, batcher: BatcherId, ttl: Duration) -> Result<LeaseAnswer> {
        let mut reply = self
            .step(&script::LEASE, partition, |command, _| {
                command.arg(batcher.to_string()).arg(millis(ttl));
            })
            .await?;
        match reply.word() {
            "taken" => Ok(LeaseAnswer::Taken(Lease { partition, batcher, epoch: reply.count()? })),
            "held" => Ok(LeaseAnswer::Held { by: reply.id()?, expires_in: Duration::from_millis(reply.count()?) }),
            _ => Err(reply.strange()),
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<()> {
        let reply = self.leased(&script::RENEW, lease, |command| {
            command.arg(millis(ttl));
        });
        reply.await?.only("done")
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.leased(&script::RELEASE, lease, |_| {}).await?.only("done")
    }

    async fn claim(&self, lease: &Lease, id: ClaimId, budget: ClaimBudget) -> Result<Option<Claim>> {
        let reply = self.leased(&script::CLAIM, lease, |command| {
            command
                .arg(id.to_string())
                .arg(budget.rows)
                .arg(budget.bytes.min(MAX_CLAIM_BYTES))
                .arg(budget.frames.min(MAX_CLAIM_FRAMES));
        });
        read_claim(reply.await?)
    }

    async fn take_in_hand(&self, lease: &Lease, claim: ClaimId, frame: Option<u32>) -> Result<()> {
        let reply = self.leased(&script::IN_HAND, lease, |command| {
            let frame = frame.map_or_else(|| "none".to_owned(), |frame| frame.to_string());
            command.arg(claim.to_string()).arg(frame);
        });
        reply.await?.only("done")
    }

    async fn condemn(&self, lease: &Lease, claim: ClaimId, condemned: &[Condemned]) -> Result<()> {
        let reply = self.leased(&script::CONDEMN, lease, |command| {
            command.arg(claim.to_string());
            for entry in condemned {
                command
                    .arg(entry.id.to_string())
                    .arg(entry.frame)
                    .arg(row_of(entry))
                    .arg(&entry.reason)
                    .arg(&entry.bytes[..]);
            }
        });
        reply.await?.only("done")
    }

    async fn ack(&self, lease: &Lease, claim: ClaimId, left_out: &[Condemned]) -> Result<()> {
        let reply = self.leased(&script::ACK, lease, |command| {
            command.arg(claim.to_string());
            for entry in left_out {
                command.arg(format!("{}:{}", entry.frame, row_of(entry)));
            }
        });
        reply.await?.only("done")
    }
}

fn row_of(entry: &Condemned) -> String {
    entry.row.map_or_else(|| letter::ALL.to_owned(), |row| row.to_string())
}
