//! The settings of watching over silence.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use humantime::Duration as Span;

use crate::settings;

/// How silence is watched over.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Silence")]
pub struct Options {
    /// How often the rules of `[[silence]]` are looked at
    #[arg(long, env = "SYSTOLE_SILENCE_EVERY", default_value = "5s", value_name = "DURATION")]
    pub silence_every: Span,
    /// Authorities to trust for webhooks, PEM, instead of those that browsers trust
    #[arg(long, env = "SYSTOLE_WEBHOOK_CA", value_name = "FILE")]
    pub webhook_ca: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Options {
    /// How long the watch is held without being gone on with. Two looks may fail, or one be slow.
    pub(super) fn ttl(&self) -> Duration {
        3 * *self.silence_every + Duration::from_secs(3)
    }

    /// A longer pause between two looks breaks the watch, unless a look itself takes so long: nobody knows what came and went
    /// meanwhile. Shorter than the time for which it is held.
    pub(super) fn gap(&self) -> Duration {
        2 * *self.silence_every + Duration::from_secs(3)
    }
}
