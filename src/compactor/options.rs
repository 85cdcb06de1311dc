//! How eagerly buckets are published and consolidated.

use crate::settings;

/// The memory of a merge unless set: a watching compactor runs two, beside all else that `up` does.
pub(super) const MERGE_MEMORY: bytesize::ByteSize = bytesize::ByteSize::mib(16);
/// The same for a single pass: one merge, and nothing else in the process. 200 fragments are merged in one step.
const PASS_MERGE_MEMORY: bytesize::ByteSize = bytesize::ByteSize::mib(128);

/// When the compactor publishes and consolidates, and how much memory a merge may take.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Compactor")]
#[group(skip)]
pub struct Options {
    /// Staged heartbeats of a bucket that are published at once; also the most that one publish takes
    #[arg(long, env = "SYSTOLE_PUBLISH_ROWS", default_value = "1000000", value_name = "ROWS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub publish_rows: u64,
    /// Longest wait of staged heartbeats, counted from the bucket's last publish
    #[arg(long, env = "SYSTOLE_PUBLISH_AFTER", default_value = "60s", value_name = "DURATION")]
    pub publish_after: humantime::Duration,
    /// How often the staging tree is looked through
    #[arg(long, env = "SYSTOLE_PUBLISH_SCAN_EVERY", default_value = "1s", value_name = "DURATION")]
    pub publish_scan_every: humantime::Duration,
    /// Small published files in a bucket beyond which they are consolidated
    #[arg(long, env = "SYSTOLE_MAX_FILES", default_value = "64", value_name = "N",
          value_parser = clap::value_parser!(u64).range(2..))]
    pub max_files: u64,
    /// Share of a bucket's rows in small files beyond which they become one large file
    #[arg(long, env = "SYSTOLE_SMALL_FILE_SHARE", default_value = "0.25", value_name = "0..1", value_parser = share)]
    pub small_file_share: f64,
    /// Rows from which a published file is large: it is never rewritten, only linked
    #[arg(long, env = "SYSTOLE_LARGE_FILE_ROWS", default_value = "1000000", value_name = "ROWS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub large_file_rows: u64,
    /// Memory for the sorted runs that one merge holds open (16 MiB unless set, 128 MiB in a single pass of compact); more
    /// runs are merged in several steps
    #[arg(long, env = "SYSTOLE_MERGE_MEMORY", value_name = "SIZE")]
    pub merge_memory: Option<bytesize::ByteSize>,
    /// How long files replaced by consolidation are kept for readers that are still in their folder
    // Readers go by path, and the paths are exchanged at once: only one that holds the old folder itself open (a backup
    // walking it, a shell inside it) still needs it. A quarter of an hour outlasts a walk through one bucket; each
    // further minute is disk space held twice.
    #[arg(long, env = "SYSTOLE_READER_GRACE", default_value = "15m", value_name = "DURATION")]
    pub reader_grace: humantime::Duration,
}

impl Options {
    /// The same for a process that makes a single pass and does nothing else.
    #[must_use]
    pub fn for_single_pass(self) -> Self {
        Self { merge_memory: self.merge_memory.or(Some(PASS_MERGE_MEMORY)), ..self }
    }
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1 is allowed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_beyond_one_and_too_few_files_are_refused() {
        for wrong in ["--small-file-share=1.5", "--small-file-share=NaN", "--max-files=1", "--publish-rows=0"] {
            assert!(settings::parse::<Options>(&[wrong]).is_err(), "{wrong}");
        }
    }
}
