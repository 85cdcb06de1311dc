//! How much is read at a time.

use std::time::Duration;

use crate::settings;

/// How long a walk waits for its first turn.
pub(super) const FIRST_TURN_WITHIN: Duration = Duration::from_secs(5);
/// How long one that has given pages already waits for its next: to cut it off wastes what was done.
pub(super) const NEXT_TURN_WITHIN: Duration = Duration::from_secs(30);

/// How much is read at a time.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Reading")]
#[group(skip)]
pub struct Options {
    /// Pages of live reads that are made at the same time; others wait a little, then get 503
    #[arg(
        long,
        env = "SYSTOLE_READS_AT_ONCE",
        default_value = "1",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub reads_at_once: u16,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}
