//! `systole verify`: reads every file of a dataset and holds it against its name, its place and its neighbours.

use serde::Serialize;

use super::Error;
use super::uniqueness::count_repeats;
use crate::dataset::{self, Bucket, Dataset, PublishedName, check_rows};

/// A fault is reported at most this often; the rest is counted.
const MAX_FAULTS: usize = 1_000;
/// A bucket whose published files are exchanged while they are read is listed again, at most this often.
const LISTINGS: usize = 5;

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
    let list = || dataset.list_published(bucket);
    let Listed { sound, rows, faults } = verify_listed(list, |name| verify_published(dataset, bucket, name))?;
    report.published_files += sound.len() as u64;
    report.published_rows += rows;
    for (name, error) in faults {
        report.fault(format!("heartbeats/{bucket}/{name}"), error);
    }
    verify_uniqueness(dataset, bucket, &sound, report);
    Ok(())
}

/// The published files of one listing.
#[derive(Debug, Default)]
struct Listed {
    sound: Vec<PublishedName>,
    /// Rows of those.
    rows: u64,
    faults: Vec<(PublishedName, dataset::Error)>,
}

/// Verifies the files that are listed; once more where one of them went meanwhile, since what a consolidation made of it was
/// not listed.
fn verify_listed(
    list: impl Fn() -> dataset::Result<Vec<PublishedName>>,
    verify: impl Fn(&PublishedName) -> dataset::Result<u64>,
) -> dataset::Result<Listed> {
    let mut listings = 0;
    'listing: loop {
        listings += 1;
        let mut listed = Listed::default();
        for name in list()? {
            match verify(&name) {
                Ok(rows) => {
                    listed.rows += rows;
                    listed.sound.push(name);
                }
                Err(dataset::Error::NotFound { .. }) if listings < LISTINGS => continue 'listing,
                Err(dataset::Error::NotFound { .. }) => {}
                Err(error) => listed.faults.push((name, error)),
            }
        }
        return Ok(listed);
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn name(file: u8) -> PublishedName {
        let text = format!("heartbeats-01a20783-6a92-77a0-aebf-8{file:011}-d40bb9b2b67be8f2.parquet");
        text.parse().unwrap()
    }

    #[test]
    fn what_a_consolidation_made_of_files_that_went_meanwhile_is_verified_as_well() {
        let listings = Cell::new(0);
        let list = || {
            listings.set(listings.get() + 1);
            Ok(if listings.get() == 1 { vec![name(1), name(2), name(3)] } else { vec![name(1), name(4)] })
        };
        let verify = |file: &PublishedName| match file {
            gone if *gone == name(2) || *gone == name(3) => Err(dataset::Error::NotFound { path: "gone".into() }),
            _ => Ok(10),
        };
        let listed = verify_listed(list, verify).unwrap();
        assert_eq!((listed.sound, listed.rows, listed.faults.len()), (vec![name(1), name(4)], 20, 0));
    }

    #[test]
    fn a_bucket_that_is_exchanged_over_and_over_does_not_keep_verify_from_its_end() {
        let verify = |file: &PublishedName| match file {
            gone if *gone == name(2) => Err(dataset::Error::NotFound { path: "gone".into() }),
            _ => Ok(10),
        };
        let listed = verify_listed(|| Ok(vec![name(1), name(2)]), verify).unwrap();
        assert_eq!((listed.sound, listed.rows), (vec![name(1)], 10));
    }
}
