//! Taking in a partition, page by page, from the backend that moves here (`../drain/`).
//!
//! Constraint: a partition that is being filled carries the drain's mark and no dataset id, so every step of the contract
//! refuses it as unregistered until the last script writes its whole state at once.

use bytes::Bytes;
use redis::Cmd;

use super::super::handover::{FrameList, Handover, Move, Place, Standing};
use super::super::{Error, Registration, Result, letter};
use super::buffer::{RedisBuffer, only, within};
use super::connection::Call;
use super::reply::{Asked, Reply};
use super::script::{self, Script};
use crate::heartbeat::{DatasetId, Partition};

/// Partitions that are looked at in one round trip at most.
const LOOK_AT_ONCE: usize = 256;

/// What a partition holds before a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Found {
    /// Nothing of it is there.
    pub(in super::super) is_new: bool,
    /// The dataset id that it carries.
    pub(in super::super) dataset: Option<String>,
    /// The mark of the drain that has filled it, or begun to.
    pub(in super::super) drain: Option<String>,
}

/// How far a drain has come with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Begun {
    /// It is to be filled.
    Filling,
    /// It was finished by an earlier try.
    Finished,
}

impl RedisBuffer {
    /// Looks at partitions without changing anything.
    pub(in super::super) async fn look_before_drain(&self, partitions: Partition) -> Result<Vec<Found>> {
        let all: Vec<Partition> = (0..partitions).collect();
        let mut found = Vec::new();
        for some in all.chunks(LOOK_AT_ONCE) {
            let calls = some.iter().map(|&partition| call(&script::DRAIN_LOOK, partition)).collect();
            let outcomes = within(*self.common.step_deadline, self.connections.run(calls, None)).await?;
            for (&partition, outcome) in some.iter().zip(outcomes) {
                found.push(read_found(Reply::read(script::DRAIN_LOOK.name, outcome.answer?, unasked(partition))?)?);
            }
        }
        Ok(found)
    }

    /// Marks a partition as being filled.
    pub(in super::super) async fn begin_drain(&self, partition: Partition, drain: Move) -> Result<Begun> {
        let reply = self.fill(&script::DRAIN_BEGIN, partition, drain, |_| {}).await?;
        match reply.word() {
            "begun" => Ok(Begun::Filling),
            "finished" => Ok(Begun::Finished),
            _ => Err(reply.strange()),
        }
    }

    /// How many frames the list holds after taking these in, at least one, if it held `at` of them before.
    pub(in super::super) async fn take_frames(
        &self,
        partition: Partition,
        drain: Move,
        list: FrameList,
        at: u64,
        frames: &[Bytes],
    ) -> Result<u64> {
        let mut reply = self
            .fill(&script::DRAIN_FRAMES, partition, drain, |command| {
                let list = if list == FrameList::Claimed { "processing" } else { "pending" };
                command.arg(list).arg(at);
                for frame in frames {
                    command.arg(&frame[..]);
                }
            })
            .await?;
        reply.expect("at")?;
        reply.count()
    }

    /// Takes dead letters in, at least one.
    pub(in super::super) async fn take_letters(
        &self,
        partition: Partition,
        drain: Move,
        letters: impl Iterator<Item = &Bytes>,
    ) -> Result<()> {
        let reply = self.fill(&script::DRAIN_LETTERS, partition, drain, |command| {
            for letter in letters {
                command.arg(&letter[..]);
            }
        });
        reply.await?.only("done")
    }

    /// Takes devices in, at least one: names, and when each was last seen.
    pub(in super::super) async fn take_devices(
        &self,
        partition: Partition,
        drain: Move,
        devices: &[(Vec<u8>, i64)],
    ) -> Result<()> {
        let reply = self.fill(&script::DRAIN_DEVICES, partition, drain, |command| {
            for (name, last_seen) in devices {
                command.arg(last_seen).arg(&name[..]);
            }
        });
        reply.await?.only("done")
    }

    /// Takes in what the standing claim condemned, at least one entry.
    pub(in super::super) async fn take_condemned(
        &self,
        partition: Partition,
        drain: Move,
        entries: &[(Place, Bytes)],
    ) -> Result<()> {
        let reply = self.fill(&script::DRAIN_CONDEMNED, partition, drain, |command| {
            for ((frame, row), letter) in entries {
                let row = row.map_or_else(|| letter::ALL.to_owned(), |row| row.to_string());
                command.arg(format!("{frame}:{row}")).arg(&letter[..]);
            }
        });
        reply.await?.only("done")
    }

    /// Makes a partition of what came over, if that is all.
    pub(in super::super) async fn finish_drain(
        &self,
        partition: Partition,
        drain: Move,
        handover: &Handover,
        letters: u64,
        condemned: u64,
    ) -> Result<()> {
        let reply = self.fill(&script::DRAIN_FINISH, partition, drain, |command| {
            command.arg(handover.pending_frames).arg(handover.claimed_frames).arg(letters).arg(condemned);
            for (field, value) in fields(handover) {
                command.arg(field).arg(value);
            }
        });
        reply.await?.only("done")
    }

    /// Runs a script of a drain, and waits for replicas where that is asked for.
    async fn fill(
        &self,
        script: &'static Script,
        partition: Partition,
        drain: Move,
        build: impl FnOnce(&mut Cmd),
    ) -> Result<Reply> {
        let mut call = call(script, partition);
        call.command.arg(drain.to_string());
        build(&mut call.command);
        let outcomes = within(*self.common.step_deadline, self.connections.run(vec![call], self.replicas())).await?;
        let outcome = only(outcomes)?;
        let reply = Reply::read(script.name, outcome.answer?, unasked(partition))?;
        if reply.word() == "taken" {
            return Err(Error::Unsafe {
                advice: format!(
                    "partition {partition} in this Redis is not, or not any more, what this drain has begun"
                ),
            });
        }
        self.check_replicas(outcome.replicas)?;
        Ok(reply)
    }
}

fn call(script: &'static Script, partition: Partition) -> Call {
    Call { script, command: script.call(partition), key: script.first_key(partition) }
}

/// The scripts of a drain are told no dataset, so they never refuse for one.
fn unasked(partition: Partition) -> Asked {
    Asked { dataset: DatasetId::from_u128(0), partition }
}

fn read_found(mut reply: Reply) -> Result<Found> {
    reply.expect("found")?;
    let is_new = reply.count()? == 0;
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(Found { is_new, dataset: some(reply.text()?), drain: some(reply.text()?) })
}

/// The state of a partition, field by field (`keys.rs`). The lease is not moved: whoever held it is gone.
fn fields(handover: &Handover) -> Vec<(&'static str, String)> {
    let Handover { registration: Registration { dataset, partitions }, ledger, epoch, claim, .. } = handover;
    let mut fields = vec![("dataset", dataset.to_string()), ("partitions", partitions.to_string())];
    let numbers = [
        ("accepted", ledger.accepted),
        ("pending", ledger.pending),
        ("claimed", ledger.claimed),
        ("acked", ledger.acked),
        ("dead", ledger.dead),
        ("dropped", ledger.dropped),
        ("bytes", ledger.bytes),
        ("lease_epoch", *epoch),
    ];
    fields.extend(numbers.map(|(field, number)| (field, number.to_string())));
    fields.extend(claim.iter().flat_map(claim_fields));
    fields
}

fn claim_fields(claim: &Standing) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("claim_id", claim.id.to_string()),
        ("claim_rows", claim.rows.to_string()),
        ("claim_bytes", claim.bytes.to_string()),
        ("claim_since", claim.since.to_string()),
        ("claim_epoch", claim.epoch.to_string()),
        ("claim_left", u8::from(claim.left).to_string()),
        ("claim_deaths", claim.deaths.to_string()),
    ];
    fields.extend(claim.hand.map(|frame| ("hand_frame", frame.to_string())));
    fields.extend(claim.last_hand.map(|frame| ("hand_last", frame.to_string())));
    if !claim.hand_deaths.is_empty() {
        let deaths: Vec<String> = claim.hand_deaths.iter().map(|(frame, deaths)| format!("{frame}:{deaths}")).collect();
        fields.push(("hand_deaths", deaths.join(" ")));
    }
    fields
}
