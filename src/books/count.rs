//! Counting what stands in the files, read along the flow: staging first, then quarantine, then published. A fragment that
//! moves meanwhile is met twice rather than missed, and each claim counts once, so meeting it twice changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::dataset::{Bucket, Dataset, Error, Result};
use crate::heartbeat::{ClaimId, Partition};

/// A bucket whose published files are exchanged while they are read is listed again, at most this often.
const LISTINGS: usize = 5;

/// What the files of one partition hold, in heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct FileBooks {
    /// In fragments that are not merged yet.
    pub staged: u64,
    /// In fragments that were merged into published files.
    pub merged: u64,
    /// In damaged fragments that were laid aside.
    pub quarantined: u64,
    /// Rows of published files.
    pub published: u64,
    /// Rows that publishing dropped as duplicates.
    pub deduplicated: u64,
    /// Merged rows of further fragments of a claim that counted already.
    pub repeated: u64,
    /// Of `staged`, `merged` and `quarantined` together: rows of claims that still stand in the buffer.
    pub of_standing_claims: u64,
}

impl FileBooks {
    /// Rows that must stand opposite the buffer's `acked`.
    pub fn settled(&self) -> u64 {
        (self.staged + self.merged + self.quarantined).saturating_sub(self.of_standing_claims)
    }
}

/// Counts every bucket of the dataset. Memory follows the largest bucket, not the dataset.
///
/// # Errors
/// A folder or a footer that cannot be read.
pub fn count_files(dataset: &Dataset, standing: &HashSet<ClaimId>) -> Result<BTreeMap<Partition, FileBooks>> {
    let mut books: BTreeMap<Partition, FileBooks> = BTreeMap::new();
    for bucket in dataset.buckets()? {
        let counted = count_bucket(dataset, bucket, standing)?;
        add(books.entry(bucket.partition).or_default(), counted);
    }
    Ok(books)
}

fn add(sum: &mut FileBooks, more: FileBooks) {
    sum.staged += more.staged;
    sum.merged += more.merged;
    sum.quarantined += more.quarantined;
    sum.published += more.published;
    sum.deduplicated += more.deduplicated;
    sum.repeated += more.repeated;
    sum.of_standing_claims += more.of_standing_claims;
}

/// Where a claim's rows of one bucket were met. Later in the flow wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Staged,
    Quarantined,
    Merged,
}

fn count_bucket(dataset: &Dataset, bucket: Bucket, standing: &HashSet<ClaimId>) -> Result<FileBooks> {
    let mut claims: HashMap<ClaimId, (Place, u64)> = HashMap::new();
    let mut meet = |claim, place, rows: u64| {
        let met = claims.entry(claim).or_insert((place, rows));
        *met = (met.0.max(place), met.1.max(rows));
    };
    for fragment in dataset.list_fragments(bucket)? {
        meet(fragment.claim, Place::Staged, fragment.rows);
    }
    for quarantined in dataset.quarantined(bucket)? {
        meet(quarantined.name.claim, Place::Quarantined, quarantined.name.rows);
    }
    let (mut books, merged) = count_published(dataset, bucket)?;
    for (claim, rows) in merged {
        meet(claim, Place::Merged, rows);
    }
    for (claim, (place, rows)) in claims {
        match place {
            Place::Staged => books.staged += rows,
            Place::Quarantined => books.quarantined += rows,
            Place::Merged => books.merged += rows,
        }
        if standing.contains(&claim) {
            books.of_standing_claims += rows;
        }
    }
    Ok(books)
}

/// The totals of the published files of a bucket, and the rows of each claim that they name.
fn count_published(dataset: &Dataset, bucket: Bucket) -> Result<(FileBooks, HashMap<ClaimId, u64>)> {
    let mut listings = 0;
    loop {
        listings += 1;
        match count_listed(dataset, bucket) {
            // A consolidation exchanged the folder between the listing and the reading.
            Err(Error::NotFound { .. }) if listings < LISTINGS => {}
            counted => return counted,
        }
    }
}

fn count_listed(dataset: &Dataset, bucket: Bucket) -> Result<(FileBooks, HashMap<ClaimId, u64>)> {
    let mut books = FileBooks::default();
    let mut claims: HashMap<ClaimId, u64> = HashMap::new();
    let mut named = 0;
    for name in dataset.list_published(bucket)? {
        let record = dataset.publish_record(bucket, &name)?;
        books.published += record.published_rows;
        books.deduplicated += record.deduplicated_rows;
        books.merged += record.folded.rows;
        books.repeated += record.folded.repeated_rows;
        for merged in &record.claims {
            named += merged.rows;
            let rows = claims.entry(merged.claim).or_default();
            *rows = merged.rows.max(*rows);
        }
    }
    // Of several fragments of one claim the largest counts; the others were merged as well, but are no rows of their own.
    books.repeated += named - claims.values().sum::<u64>();
    Ok((books, claims))
}
