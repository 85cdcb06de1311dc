//! `systole verify`: reads every file of a dataset and holds it against its name, its place and its neighbours.

use serde::Serialize;

use super::Error;
use super::uniqueness::count_repeats;
use crate::dataset::{self, Bucket, Dataset, PublishedName, check_rows};

/// A fault is reported at most this often; the rest is counted.
const MAX_FAULTS: usize = 1_000;

/// One thing that is wrong, or that a person should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Buckets looked at.
    pub buckets: u64,
    /// Published files read whole.
    pub published_files: u64,
    /// Rows in them.
    pub published_rows: u64,
    /// Fragments read whole.
    pub fragments: u64,
    /// Rows in them.
    pub fragment_rows: u64,
    /// Fragments that were laid aside as damaged before.
    pub quarantined: u64,
    /// Everything wrong, bounded.
    pub faults: Vec<Fault>,
    /// Faults beyond those listed.
    pub more_faults: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, place: impl ToString, reason: impl ToString) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { place: place.to_string(), reason: reason.to_string() });
        } else {
            self.more_faults += 1;
        }
    }
}

/// Verifies every file. Blocking; memory is bounded.
///
/// # Errors
/// A folder that cannot be read. A file that cannot be read is a fault in the report.
pub fn verify(dataset: &Dataset) -> Result<Report, Error> {
    let mut report = Report::default();
    for stranger in dataset.strangers()? {
        report.fault(stranger.display(), "is not of Systole's making; readers may stumble over it");
    }
    for bucket in dataset.buckets()? {
        report.buckets += 1;
        verify_bucket(dataset, bucket, &mut report)?;
    }
    Ok(report)
}

fn verify_bucket(dataset: &Dataset, bucket: Bucket, report: &mut Report) -> Result<(), Error> {
    for name in dataset.list_fragments(bucket)? {
        let checked = dataset
            .verify_fragment(bucket, &name)
            .and_then(|()| dataset.open_fragment(bucket, &name))
            .and_then(|mut reader| check_rows(bucket, dataset.partitions(), &mut reader));
        match checked {
            Ok(checked) => {
                report.fragments += 1;
                report.fragment_rows += checked.rows;
            }
            // The compactor was faster.
            Err(dataset::Error::NotFound { .. }) => {}
            Err(error) => report.fault(format!("staging/{bucket}/{name}"), error),
        }
    }
    for quarantined in dataset.quarantined(bucket)? {
        report.quarantined += 1;
        report.fault(format!("staging/{bucket}/quarantine/{}", quarantined.name), &quarantined.reason);
    }
    let mut sound = Vec::new();
    for name in dataset.list_published(bucket)? {
        match verify_published(dataset, bucket, &name) {
            Ok(rows) => {
                report.published_files += 1;
                report.published_rows += rows;
                sound.push(name);
            }
            Err(dataset::Error::NotFound { .. }) => {}
            Err(error) => report.fault(format!("heartbeats/{bucket}/{name}"), error),
        }
    }
    verify_uniqueness(dataset, bucket, &sound, report);
    Ok(())
}

fn verify_published(dataset: &Dataset, bucket: Bucket, name: &PublishedName) -> dataset::Result<u64> {
    dataset.verify_published(bucket, name)?;
    let mut reader = dataset.open_published(bucket, name)?;
    let checked = check_rows(bucket, dataset.partitions(), &mut reader)?;
    let record = dataset.publish_record(bucket, name)?;
    let damaged = |reason: String| dataset::Error::Damaged { path: name.to_string().into(), reason };
    if checked.repeated > 0 {
        return Err(damaged(format!("{} rows repeat the identity of the row before", checked.repeated)));
    }
    if record.published_rows != checked.rows || !record.balances() {
        return Err(damaged(format!("its record speaks of {} rows, it holds {}", record.published_rows, checked.rows)));
    }
    Ok(checked.rows)
}

fn verify_uniqueness(dataset: &Dataset, bucket: Bucket, names: &[PublishedName], report: &mut Report) {
    match count_repeats(dataset, bucket, names) {
        Ok(0) | Err(dataset::Error::NotFound { .. }) => {}
        Ok(repeats) => {
            report.fault(format!("heartbeats/{bucket}"), format!("{repeats} identities stand in more than one file"));
        }
        Err(error) => report.fault(format!("heartbeats/{bucket}"), error),
    }
}
