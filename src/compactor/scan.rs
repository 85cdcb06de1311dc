//! Looking through the staging tree for what is due, without locks and without opening a file.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::policy::{self, Waiting};
use super::{Compactor, Error};
use crate::dataset::{self, Bucket};

/// What waits in the staging tree.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Buckets to publish now, the newest date first: fresh data does not queue behind a backlog of late rows.
    pub due: Vec<Bucket>,
    /// Buckets in which something waits.
    pub staged: HashSet<Bucket>,
    pub fragments: u64,
    pub rows: u64,
    pub oldest_age: Duration,
    /// Buckets that could not be looked at.
    pub failed: Vec<(Bucket, Error)>,
}

impl Compactor {
    pub(super) fn scan(&self) -> Result<Scan, Error> {
        let mut scan = Scan::default();
        for bucket in self.dataset.buckets()?.into_iter().rev() {
            match self.waiting(bucket) {
                Ok(waiting) => {
                    scan.fragments += waiting.fragments as u64;
                    scan.rows = scan.rows.saturating_add(waiting.rows);
                    scan.oldest_age = scan.oldest_age.max(waiting.oldest_age);
                    if waiting.fragments > 0 {
                        scan.staged.insert(bucket);
                    }
                    if policy::publish_due(&self.options, &waiting).is_some() {
                        scan.due.push(bucket);
                    }
                }
                Err(error) => {
                    scan.staged.insert(bucket);
                    scan.failed.push((bucket, error.into()));
                }
            }
        }
        Ok(scan)
    }

    fn waiting(&self, bucket: Bucket) -> dataset::Result<Waiting> {
        let fragments = self.dataset.list_fragments(bucket)?;
        let Some(first) = fragments.first() else {
            return Ok(Waiting { rows: 0, fragments: 0, oldest_age: Duration::ZERO, since_publish: None });
        };
        // The names are in the order of the claims' births: the first is the oldest, near enough to judge a wait by.
        let oldest_age = match self.dataset.fragment_age(bucket, first) {
            Err(dataset::Error::NotFound { .. }) => Duration::ZERO,
            other => other?,
        };
        let newest = self.dataset.list_published(bucket)?.last().map(|name| name.file.born());
        Ok(Waiting {
            rows: fragments.iter().fold(0, |rows, name| name.rows.saturating_add(rows)),
            fragments: fragments.len(),
            oldest_age,
            // A birth that lies ahead (the clock was set back) must not hold a publish up.
            since_publish: newest.and_then(|born| policy::elapsed(born, Timestamp::now())),
        })
    }
}
