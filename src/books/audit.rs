//! `systole audit`: buffer, files, buffer; again while they move.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Error;
use super::count::{FileBooks, count_files};
use crate::buffer::{Inspect, Ledger, PartitionStatus};
use crate::dataset::Dataset;
use crate::heartbeat::{ClaimId, DatasetId, Partition};

/// The buffer and the files are read again at most this often while they move.
const TRIES: u32 = 5;
/// Pause between two readings that moved, so that a claim under way can settle.
const PAUSE: Duration = Duration::from_millis(300);

/// The verdict over all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every accepted heartbeat is accounted for.
    Balanced,
    /// The files hold more than the books say: the buffer came back older than the files. Nothing is lost.
    Surplus,
    /// A ledger does not add up, or counts what the buffer does not hold.
    Unbalanced,
    /// The files hold less than was acknowledged.
    Missing,
}

/// The books of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionBooks {
    /// The partition.
    pub partition: Partition,
    /// What the buffer says.
    pub ledger: Ledger,
    /// What the files say.
    pub files: FileBooks,
    /// Surplus that a person accepted before.
    pub accepted_surplus: u64,
    /// Acknowledged rows that no file holds.
    pub missing: u64,
    /// Rows in files that the buffer does not know of.
    pub surplus: u64,
    /// Heartbeats that the buffer counts as waiting or claimed and does not hold.
    pub vanished: u64,
    /// Both ledgers of the partition add up.
    pub balances: bool,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The dataset.
    pub dataset: DatasetId,
    /// All in one word.
    pub verdict: Verdict,
    /// Buffer and files moved through every try: each side was held against what the other was before and after.
    pub moving: bool,
    /// Each partition.
    pub partitions: Vec<PartitionBooks>,
}

impl Report {
    /// Sum of one figure over the partitions.
    pub fn sum(&self, figure: impl Fn(&PartitionBooks) -> u64) -> u64 {
        self.partitions.iter().map(figure).sum()
    }
}

/// One reading of the buffer.
struct Reading {
    statuses: Vec<PartitionStatus>,
}

impl Reading {
    async fn take(buffer: &dyn Inspect, partitions: Partition) -> Result<Self, Error> {
        let statuses = futures::future::try_join_all((0..partitions).map(|partition| buffer.status(partition))).await?;
        Ok(Self { statuses })
    }

    fn standing(&self) -> impl Iterator<Item = ClaimId> + '_ {
        self.statuses.iter().filter_map(|status| Some(status.claim?.id))
    }

    /// Whether nothing that the files depend on changed: accepting more heartbeats moves nothing on disk.
    fn same_for_files(&self, later: &Self) -> bool {
        self.standing().eq(later.standing())
            && self.statuses.iter().zip(&later.statuses).all(|(a, b)| a.ledger.acked == b.ledger.acked)
    }
}

/// Audits `buffer` against `dataset`.
///
/// # Errors
/// One of them could not be read, or they do not belong together.
pub async fn audit(buffer: Arc<dyn Inspect>, dataset: Dataset) -> Result<Report, Error> {
    check_pair(buffer.as_ref(), &dataset).await?;
    let accepted = dataset.accepted_surplus()?;
    let mut before = Reading::take(buffer.as_ref(), dataset.partitions()).await?;
    for attempt in 1.. {
        let standing: HashSet<ClaimId> = before.standing().collect();
        let files = count(&dataset, standing.clone()).await?;
        let after = Reading::take(buffer.as_ref(), dataset.partitions()).await?;
        let quiet = before.same_for_files(&after);
        if quiet || attempt >= TRIES {
            // Nobody knew of them when the files were counted. What they have there by now is as much as then, or more.
            let begun: HashSet<ClaimId> = after.standing().filter(|claim| !standing.contains(claim)).collect();
            let begun = if begun.is_empty() { BTreeMap::new() } else { count(&dataset, begun).await? };
            return Ok(judge(&dataset, &before, &after, &files, &begun, &accepted, !quiet));
        }
        tokio::time::sleep(PAUSE).await;
        before = Reading::take(buffer.as_ref(), dataset.partitions()).await?;
    }
    Err(Error::Interrupted)
}

async fn check_pair(buffer: &dyn Inspect, dataset: &Dataset) -> Result<(), Error> {
    match buffer.registration().await? {
        None => Err(Error::Mismatch(
            "it is registered for none (new, erased, or the wrong one); see `systole adopt --help`".into(),
        )),
        Some(found) if found.dataset != dataset.id() => {
            Err(Error::Mismatch(format!("it is registered for {}, the data folder is {}", found.dataset, dataset.id())))
        }
        Some(_) => Ok(()),
    }
}

async fn count(dataset: &Dataset, standing: HashSet<ClaimId>) -> Result<BTreeMap<Partition, FileBooks>, Error> {
    let dataset = dataset.clone();
    let counted = tokio::task::spawn_blocking(move || count_files(&dataset, &standing)).await;
    Ok(counted.map_err(|_| Error::Interrupted)??)
}

/// Pure. `files` were counted between the two readings, without the claims that stood before; `begun` later, to know what
/// those have there that stand only after.
fn judge(
    dataset: &Dataset,
    before: &Reading,
    after: &Reading,
    files: &BTreeMap<Partition, FileBooks>,
    begun: &BTreeMap<Partition, FileBooks>,
    accepted: &BTreeMap<Partition, u64>,
    moving: bool,
) -> Report {
    let partitions: Vec<PartitionBooks> = before
        .statuses
        .iter()
        .zip(&after.statuses)
        .map(|(before, after)| {
            let partition = before.partition;
            let of = |books: &BTreeMap<Partition, FileBooks>| books.get(&partition).copied().unwrap_or_default();
            let accepted_surplus = accepted.get(&partition).copied().unwrap_or(0);
            let (files, begun) = (of(files), of(begun).of_standing_claims);
            let books = judge_partition(before.ledger, after.ledger, files, begun, partition, accepted_surplus);
            PartitionBooks { vanished: after.vanished, ..books }
        })
        .collect();
    let verdict = partitions.iter().map(verdict_of).max().unwrap_or(Verdict::Balanced);
    Report { dataset: dataset.id(), verdict, moving, partitions }
}

fn judge_partition(
    before: Ledger,
    after: Ledger,
    files: FileBooks,
    begun: u64,
    partition: Partition,
    accepted_surplus: u64,
) -> PartitionBooks {
    // What was acknowledged before the files were read must stand in them; what stands in them beyond what was
    // acknowledged by the end, or is claimed, is more than the buffer knows of.
    let missing = (before.acked + accepted_surplus).saturating_sub(files.settled());
    let surplus = files.settled().saturating_sub(after.acked + accepted_surplus + begun);
    let merged_adds_up = files.merged + files.repeated == files.published + files.deduplicated;
    PartitionBooks {
        partition,
        ledger: after,
        files,
        accepted_surplus,
        missing,
        surplus,
        vanished: 0,
        balances: before.balances() && after.balances() && merged_adds_up,
    }
}

fn verdict_of(books: &PartitionBooks) -> Verdict {
    match books {
        PartitionBooks { missing: 1.., .. } => Verdict::Missing,
        PartitionBooks { balances: false, .. } | PartitionBooks { vanished: 1.., .. } => Verdict::Unbalanced,
        PartitionBooks { surplus: 1.., .. } => Verdict::Surplus,
        _ => Verdict::Balanced,
    }
}

/// Records the surplus of `report` as known, so that the next audit starts from there.
///
/// # Errors
/// The dataset's file cannot be written.
pub fn accept(dataset: &Dataset, report: &Report) -> Result<(), Error> {
    let surplus: BTreeMap<Partition, u64> = report
        .partitions
        .iter()
        .map(|books| (books.partition, books.accepted_surplus + books.surplus))
        .filter(|(_, rows)| *rows > 0)
        .collect();
    Ok(dataset.record_accepted_surplus(&surplus)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(before: u64, after: u64, files: u64, begun: u64, accepted: u64) -> Verdict {
        let ledger = |acked| Ledger { accepted: acked, acked, ..Ledger::default() };
        let books = |rows| FileBooks { staged: rows, ..FileBooks::default() };
        verdict_of(&judge_partition(ledger(before), ledger(after), books(files), begun, 0, accepted))
    }

    #[test]
    fn files_are_held_against_both_readings() {
        assert_eq!(verdict(10, 10, 10, 0, 0), Verdict::Balanced);
        assert_eq!(verdict(10, 10, 9, 0, 0), Verdict::Missing);
        assert_eq!(verdict(10, 10, 11, 0, 0), Verdict::Surplus);
        assert_eq!(verdict(10, 10, 11, 0, 1), Verdict::Balanced);
        assert_eq!(verdict(10, 10, 10, 0, 1), Verdict::Missing, "an accepted surplus that vanished is missing");
        // Moving: acknowledged 5 more while the files were read.
        assert_eq!(verdict(10, 15, 12, 0, 0), Verdict::Balanced);
        assert_eq!(verdict(10, 15, 16, 0, 0), Verdict::Surplus);
        // A claim has begun, and written some of its rows before the files were read.
        assert_eq!(verdict(10, 15, 18, 3, 0), Verdict::Balanced);
        assert_eq!(verdict(10, 15, 19, 3, 0), Verdict::Surplus);
        assert_eq!(
            verdict(10, 10, 9, 5, 0),
            Verdict::Missing,
            "what has begun stands for nothing that was acknowledged"
        );
    }

    #[test]
    fn a_ledger_that_does_not_add_up_is_no_balance() {
        let crooked = Ledger { accepted: 3, acked: 2, ..Ledger::default() };
        let books = FileBooks { staged: 2, ..FileBooks::default() };
        assert_eq!(verdict_of(&judge_partition(crooked, crooked, books, 0, 0, 0)), Verdict::Unbalanced);
        let level = Ledger { accepted: 2, acked: 2, ..Ledger::default() };
        let lost = FileBooks { merged: 2, published: 1, ..FileBooks::default() };
        assert_eq!(verdict_of(&judge_partition(level, level, lost, 0, 0, 0)), Verdict::Unbalanced);
        let balanced = judge_partition(level, level, books, 0, 0, 0);
        assert_eq!(verdict_of(&balanced), Verdict::Balanced);
        assert_eq!(verdict_of(&PartitionBooks { vanished: 1, ..balanced }), Verdict::Unbalanced);
    }
}
