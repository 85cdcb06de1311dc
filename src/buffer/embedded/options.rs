//! What the embedded buffer needs to know beyond what every buffer does.

use bytesize::ByteSize;

use crate::settings;

/// What the embedded buffer needs to know beyond what every buffer does.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Embedded buffer")]
#[group(skip)]
pub struct Options {
    // Acknowledging, flushing and compacting need room themselves, and so do the fragments on the same disk: pushes stop
    // well before the batcher does (`min-free`), so that what waits can still be drained.
    /// Below this much free disk the embedded buffer takes nothing in; it still gives out
    #[arg(long, env = "SYSTOLE_BUFFER_MIN_FREE", default_value = "512MiB", value_name = "SIZE")]
    pub buffer_min_free: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}
