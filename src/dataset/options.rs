//! The settings of a dataset.

use std::path::PathBuf;

use bytesize::ByteSize;

use crate::heartbeat::Partition;
use crate::settings;

/// Partitions of a new dataset when none are asked for.
pub(super) const DEFAULT_PARTITIONS: Partition = 16;
/// More would only make more and smaller files.
const MAX_PARTITIONS: i64 = 4096;

/// Where the dataset stands and how it is treated.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Data")]
#[group(skip)]
pub struct Options {
    /// Folder of the dataset
    #[arg(long, env = "SYSTOLE_DATA", default_value = "./data", value_name = "DIR")]
    pub data: PathBuf,
    /// Partitions of a new dataset (16 unless set); fixed at its birth
    // Not a clap default: a command that opens a dataset of 32 must be able to tell "not said" from "16".
    #[arg(long, env = "SYSTOLE_PARTITIONS", value_name = "N",
          value_parser = clap::value_parser!(Partition).range(1..=MAX_PARTITIONS))]
    pub partitions: Option<Partition>,
    /// Free disk space below which no new data is claimed and nothing is consolidated
    #[arg(long, env = "SYSTOLE_MIN_FREE", default_value = "256MiB", value_name = "SIZE")]
    pub min_free: ByteSize,
    /// Longest wait for the lock of a bucket
    #[arg(long, env = "SYSTOLE_LOCK_DEADLINE", default_value = "10s", value_name = "DURATION")]
    pub lock_deadline: humantime::Duration,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_without_partitions_is_refused() {
        assert!(settings::parse::<Options>(&["--partitions", "0"]).is_err());
        assert_eq!(settings::parse::<Options>(&["--partitions", "3"]).unwrap().partitions, Some(3));
    }
}
