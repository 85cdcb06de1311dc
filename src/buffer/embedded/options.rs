//! What the embedded buffer needs to know beyond what every buffer does.

use bytesize::ByteSize;

use crate::settings;

/// What the embedded buffer needs to know beyond what every buffer does.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Embedded buffer")]
#[group(skip)]
pub struct Options {
    // Acknowledging, flushing and compacting need room themselves: so that a full disk can still be drained, pushes stop
    // before it is full.
    /// Below this much free disk the embedded buffer takes nothing in; it still gives out
    #[arg(long, env = "SYSTOLE_BUFFER_MIN_FREE", default_value = "256MiB", value_name = "SIZE")]
    pub buffer_min_free: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}
