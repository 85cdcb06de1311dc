//! The compactor: fragments become published files, many published files become few.
//!
//! Constraints:
//! - No identity ever stands in two published files, and no row that was merged is ever lost: whatever dies, whenever.
//! - Readers are never disturbed: files appear whole, and folders are exchanged whole and seldom.
//! - Any number of compactors may run. A bucket's `.compact.lock` is held from recovery to the last delete; a bucket that
//!   is taken is skipped. `.lock`, which batchers share, is held only to list, to delete and to quarantine.
//! - What goes wrong in one bucket stays there. A damaged fragment goes to quarantine, a damaged published file holds its
//!   bucket back; both are named and counted, never deleted.
//! - Memory is bounded by `merge_memory` and a constant, whatever the fragments and the day weigh; the cost of a publish
//!   follows the new rows: of what stands it reads the footers of files not seen before, and a few blocks of identity
//!   indexes.
//!
//! This part knows nothing of buffers, leases or HTTP. Decisions are pure (`policy`), the merge is pure (`merge`, `chunk`),
//! every step on the disk is the dataset's.
//!
//! # A visit
//!
//! All work happens in visits to one bucket (`visit`): take `.compact.lock`, recover, then
//!
//! - **publish** (`publish`): list the fragments; delete those whose (claim, hash) a published file names as merged;
//!   merge the others, oldest claims first, at most `publish_rows` at a time; drop rows whose identity is that of their
//!   neighbour (the lowest in the sort order stays) or stands in a published file; commit; delete exactly the fragments
//!   merged. Where no row is new the file has no rows: its record of merged claims is what matters.
//! - **consolidate** (`consolidate`): when `policy` says so and the disk has room for it, link the large files, merge the
//!   small ones, exchange the folders. Nothing is dropped here: a row that stands twice is a broken promise and holds the
//!   bucket back.
//! - **delete what was replaced** after `reader_grace` (`recover`).
//!
//! [`Compactor::pass`] visits every bucket once; [`Compactor::watch`] visits what is due, with a job for each of the two
//! tasks, so that publishing never waits for the consolidation of another bucket.
//!
//! # Crashes
//!
//! Every visit first syncs the published folder and its parents (`recover`): what a dead predecessor renamed becomes
//! durable before anything is deleted because of it. Then:
//!
//! | died after                                 | what stands                                 | the next visit                                                                  |
//! | ------------------------------------------ | ------------------------------------------- | ------------------------------------------------------------------------------- |
//! | listing, merging, writing the new file     | the fragments, temp files                   | merges them; temp files go once older than an hour                              |
//! | the identity index was put in place        | the fragments, an index without a file      | removes the index, merges the fragments                                         |
//! | the new file was renamed, no sync yet      | the fragments, the published file           | syncs; knows the fragments by the file's record; deletes them                   |
//! | … and the power went                       | the fragments, perhaps the published file   | the same, or merges the fragments once more                                     |
//! | some fragments were deleted                | the published file, the other fragments     | deletes the others                                                              |
//! | a fragment's quarantine note was written   | the fragment, its note                      | finds it damaged once more, or whole if its batcher wrote it anew meanwhile     |
//! | the next folder was being gathered         | the published folder, a staged one          | deletes the staged one once older than an hour; its new file is merged again    |
//! | the folders were exchanged, no sync yet    | the new folder, the replaced one in staging | syncs both parents; deletes the replaced one once older than an hour            |
//! | … and the power went                       | either folder, whole, the other in staging  | either is right: they hold the same rows and the same records                   |
//! | a replaced folder was deleted in part      | the rest of it                              | deletes the rest                                                                |
//!
//! # The books
//!
//! A published file's record names each merged fragment as (claim, hash, rows) and says how many rows were merged,
//! published and dropped: `merged = published + deduplicated`, in every file and hence in sums.
//!
//! - A batcher writes one fragment for each claim and bucket, so `rows` of a named claim is what the claim holds for this
//!   bucket. A fragment with an equal hash that appears again (a zombie's late rename) is deleted without a trace.
//! - A fragment of a named claim with *another* hash (written anew by another version) is merged and named as well, since
//!   nobody knows which rows differ; identities drop what stands. Whoever counts a claim's rows (the audit) therefore
//!   groups the named claims of a bucket by claim and counts each once; `merged` counts both, honestly.
//! - Claims past the horizon of [`PublishRecord::fold`](crate::dataset::PublishRecord::fold) become totals in which each
//!   claim counts once. Folding sees one record, so files that name the same claim are consolidated together or not at
//!   all. A fragment that turns up after its claim was folded is merged like a new one: no row doubles, and the audit
//!   reports its rows as surplus.
//! - A claim whose fragment is in quarantine and which is merged by another fragment is likewise one claim.
//!
//! Failpoints, beside those of the dataset: `compactor.` `recover.settled`, `publish.before_commit`,
//! `publish.before_delete`, `quarantine.before`, `consolidate.before_exchange`, `consolidate.after_exchange`,
//! `retired.before_delete`.

mod board;
mod chunk;
mod consolidate;
mod error;
mod funnel;
mod merge;
mod metrics;
mod options;
mod pass;
mod policy;
mod progress;
mod publish;
mod records;
mod recover;
mod runs;
mod scan;
mod summary;
#[cfg(test)]
mod tests;
mod visit;
mod watch;

pub use error::Error;
pub use metrics::Metrics;
pub use options::Options;
pub use progress::{Bar, Progress, Silent};
pub use summary::{Skipped, Summary};

use self::records::Records;
use crate::dataset::Dataset;

/// Publishes and consolidates the buckets of one dataset.
#[derive(Debug)]
pub struct Compactor {
    dataset: Dataset,
    options: Options,
    metrics: Metrics,
    records: Records,
}

impl Compactor {
    /// A compactor; it does nothing until asked for a [`pass`](Self::pass) or to [`watch`](Self::watch).
    pub fn new(dataset: Dataset, options: Options, metrics: Metrics) -> Self {
        Self { dataset, options, metrics, records: Records::new() }
    }
}
