//! `systole dead-letters`: what could not be written, for people.

use serde::Serialize;

use super::{Done, Failure, Outcome, output, place};
use crate::buffer::{DeadLetter, DeadLetterId, Inspect};
use crate::cli::{DeadLetterAction, DeadLetters, InBuffer, OneDeadLetter, SomeDeadLetters};
use crate::heartbeat::{ClaimId, FrameError, HeartbeatRef, OpenFrame, Partition};

/// Letters fetched in one call while going through all of them.
const PAGE: u32 = 100;
/// Bytes of an undecodable letter that are shown.
const MAX_HEX_BYTES: usize = 4 * 1024;

/// Runs one action.
pub async fn run(args: DeadLetters) -> Outcome {
    match args.action {
        DeadLetterAction::List { limit, of } => list(limit, &of).await,
        DeadLetterAction::Show(one) => show(&one).await,
        DeadLetterAction::Retry(some) => settle(&some, Settle::Retry).await,
        DeadLetterAction::Drop(some) => settle(&some, Settle::Drop).await,
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    id: DeadLetterId,
    partition: Partition,
    claim: ClaimId,
    since: jiff::Timestamp,
    heartbeats: u32,
    bytes: usize,
    reason: String,
}

impl Listed {
    fn new(partition: Partition, letter: &DeadLetter) -> Self {
        Self {
            id: letter.id,
            partition,
            claim: letter.claim,
            since: jiff::Timestamp::from_millisecond(letter.since).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
            heartbeats: letter.rows,
            bytes: letter.bytes.len(),
            reason: letter.reason.clone(),
        }
    }
}

async fn partitions(buffer: &dyn Inspect) -> Result<Partition, Failure> {
    match buffer.registration().await? {
        Some(registration) => Ok(registration.partitions),
        None => Err(crate::buffer::Error::NotRegistered.into()),
    }
}

async fn list(limit: u32, of: &InBuffer) -> Outcome {
    let buffer = place::buffer_near(&of.dataset, &of.buffer, &of.redis).await?;
    let mut letters = Vec::new();
    for partition in 0..partitions(&*buffer).await? {
        letters.extend(oldest(&*buffer, partition, limit).await?);
    }
    letters.sort_by_key(|letter| letter.id);
    if of.output.json {
        output::json(&letters)?;
        return Ok(Done::Well);
    }
    for letter in &letters {
        output::line(format!(
            "{}  {}  partition {}  {} heartbeats  {} bytes  {}",
            letter.id, letter.since, letter.partition, letter.heartbeats, letter.bytes, letter.reason
        ))?;
    }
    output::line(format!("{} dead letters", letters.len()))?;
    Ok(Done::Well)
}

/// The oldest letters of a partition. Large ones come few at a time.
async fn oldest(buffer: &dyn Inspect, partition: Partition, limit: u32) -> Result<Vec<Listed>, Failure> {
    let (mut listed, mut left, mut after) = (Vec::new(), limit, None);
    while left > 0 {
        let page = buffer.dead_letters(partition, after, left).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        listed.extend(page.iter().map(|letter| Listed::new(partition, letter)));
        left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
    }
    Ok(listed)
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    letter: Listed,
    /// The heartbeats, as far as they can be decoded.
    decoded: Vec<ShownHeartbeat<'a>>,
    /// Why decoding ended early.
    undecodable: Option<String>,
    /// The frame, when decoding ended early; cut after 4 KiB.
    hex: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownHeartbeat<'a> {
    user_id: &'a str,
    device_id: &'a str,
    timestamp: i64,
    id: Option<&'a str>,
    received_at: i64,
    attributes: Option<&'a str>,
}

impl<'a> From<HeartbeatRef<'a>> for ShownHeartbeat<'a> {
    fn from(row: HeartbeatRef<'a>) -> Self {
        let HeartbeatRef { user_id, timestamp, device_id, id, received_at, attributes } = row;
        Self { user_id, device_id, timestamp, id, received_at, attributes }
    }
}

async fn show(one: &OneDeadLetter) -> Outcome {
    let buffer = place::buffer_near(&one.of.dataset, &one.of.buffer, &one.of.redis).await?;
    for partition in 0..partitions(&*buffer).await? {
        if let Some(letter) = buffer.dead_letter(partition, one.id).await? {
            // JSON either way: a frame is a list of records, and this is how they came.
            let opened = OpenFrame::open(&letter.bytes);
            output::json(&shown(partition, &letter, &opened))?;
            return Ok(Done::Well);
        }
    }
    Err(no_such(one.id))
}

fn shown<'a>(partition: Partition, letter: &'a DeadLetter, opened: &'a Result<OpenFrame<'_>, FrameError>) -> Shown<'a> {
    let mut decoded = Vec::new();
    let mut undecodable = None;
    match opened {
        Err(error) => undecodable = Some(error.to_string()),
        Ok(frame) => {
            for row in frame.rows() {
                match row {
                    Ok(row) => decoded.push(row.into()),
                    Err(error) => undecodable = Some(error.to_string()),
                }
            }
        }
    }
    let hex = undecodable
        .is_some()
        .then(|| letter.bytes.iter().take(MAX_HEX_BYTES).map(|byte| format!("{byte:02x}")).collect::<String>());
    Shown { letter: Listed::new(partition, letter), decoded, undecodable, hex }
}

fn no_such(id: DeadLetterId) -> Failure {
    Failure::Usage(format!("there is no dead letter {id}; `systole dead-letters list` shows those there are"))
}

/// What a person decides about a letter.
#[derive(Debug, Clone, Copy)]
enum Settle {
    Retry,
    Drop,
}

impl Settle {
    async fn one(self, buffer: &dyn Inspect, partition: Partition, id: DeadLetterId) -> Result<bool, Failure> {
        Ok(match self {
            Self::Retry => buffer.retry_dead_letter(partition, id).await?,
            Self::Drop => buffer.drop_dead_letter(partition, id).await?,
        })
    }
}

#[derive(Debug, Serialize)]
struct Settled {
    action: &'static str,
    letters: u64,
}

async fn settle(some: &SomeDeadLetters, settle: Settle) -> Outcome {
    let buffer = place::buffer_near(&some.of.dataset, &some.of.buffer, &some.of.redis).await?;
    let partitions = partitions(&*buffer).await?;
    let mut letters = 0;
    for partition in 0..partitions {
        letters += match some.id {
            Some(id) => u64::from(settle.one(&*buffer, partition, id).await?),
            None => settle_all(&*buffer, partition, settle).await?,
        };
    }
    if let (Some(id), 0) = (some.id, letters) {
        return Err(no_such(id));
    }
    let action = match settle {
        Settle::Retry => "retried",
        Settle::Drop => "dropped",
    };
    if some.of.output.json {
        output::json(&Settled { action, letters })?;
    } else {
        output::line(format!("{action} {letters} dead letters"))?;
    }
    Ok(Done::Well)
}

/// Settles those that there are now: a retried letter that comes back has a later id, and is not met again.
async fn settle_all(buffer: &dyn Inspect, partition: Partition, settle: Settle) -> Result<u64, Failure> {
    let (mut letters, mut after, last) = (0, None, DeadLetterId::new());
    loop {
        let page = buffer.dead_letters(partition, after, PAGE).await?;
        for letter in &page {
            if letter.id <= last && settle.one(buffer, partition, letter.id).await? {
                letters += 1;
            }
        }
        match page.last() {
            Some(letter) if letter.id <= last => after = Some(letter.id),
            _ => return Ok(letters),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use bytesize::ByteSize;

    use super::*;
    use crate::buffer::embedded::{self, EmbeddedBuffer};
    use crate::buffer::options::Options;
    use crate::buffer::{Buffer, ClaimBudget, Condemned, Inlet, LeaseAnswer, Registration};
    use crate::heartbeat::{BatcherId, DatasetId, Frame};

    /// More than two of these are no answer of a buffer.
    const LARGE: usize = 9 << 20;

    /// A buffer with so many large dead letters in its only partition.
    async fn with_large_letters(letters: u32) -> (tempfile::TempDir, EmbeddedBuffer) {
        let folder = tempfile::tempdir().unwrap();
        let own = embedded::Options { buffer_min_free: ByteSize(0) };
        let buffer = EmbeddedBuffer::open(&folder.path().join("buffer"), &Options::default(), &own).unwrap();
        buffer.register(Registration { dataset: DatasetId::new(), partitions: 1 }).await.unwrap();
        let row =
            HeartbeatRef { user_id: "u", timestamp: 0, device_id: "d", id: None, received_at: 0, attributes: None };
        for _ in 0..letters {
            buffer.push(&[(0, Frame::encode([row]).unwrap())]).await.remove(0).unwrap();
        }
        let leased = buffer.lease(0, BatcherId::new(), Duration::from_secs(60)).await.unwrap();
        let LeaseAnswer::Taken(lease) = leased else { panic!("nobody else has it") };
        let budget = ClaimBudget { rows: u64::MAX, bytes: u64::MAX, frames: letters };
        let claim = buffer.claim(&lease, ClaimId::new(), budget).await.unwrap().unwrap();
        let bytes = Bytes::from(vec![0; LARGE]);
        let condemn = |frame| Condemned {
            id: DeadLetterId::new(),
            frame,
            row: None,
            rows: 1,
            reason: "large".into(),
            bytes: bytes.clone(),
        };
        let condemned: Vec<_> = (0..letters).map(condemn).collect();
        buffer.condemn(&lease, claim.id, &condemned).await.unwrap();
        buffer.ack(&lease, claim.id, &condemned).await.unwrap();
        (folder, buffer)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn letters_are_listed_up_to_the_limit_however_large_they_are() {
        let (_folder, buffer) = with_large_letters(5).await;
        for (limit, listed) in [(100, 5), (5, 5), (3, 3), (1, 1)] {
            let letters = oldest(&buffer, 0, limit).await.unwrap();
            assert_eq!(letters.len(), listed, "of at most {limit}");
            assert!(letters.is_sorted_by(|a, b| a.id < b.id), "each once, oldest first");
        }
    }
}
