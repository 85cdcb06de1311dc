//! How much the buffer may hold, and how long to wait for it, whichever backend it is.

use bytesize::ByteSize;
use humantime::Duration as Span;

use super::Error;

use crate::settings;

/// How much the buffer may hold, and how long to wait for it.
///
/// How the waits relate: `push_deadline` <= `step_deadline` < the batchers' lease. A claim or an acknowledgement that
/// outlived the lease would only learn that it is fenced.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Buffer")]
#[group(skip)]
pub struct Options {
    /// Heartbeats that the buffer may hold in all, dead letters among them; each partition gets an equal share
    #[arg(long, env = "SYSTOLE_BUFFER_MAX_HEARTBEATS", default_value_t = 10_000_000, value_name = "N")]
    pub buffer_max_heartbeats: u64,
    /// Bytes of frames that the buffer may hold in all; each partition gets an equal share
    #[arg(long, env = "SYSTOLE_BUFFER_MAX_BYTES", default_value = "2GiB", value_name = "SIZE")]
    pub buffer_max_bytes: ByteSize,
    // Redis answers a push after its fsync (`always`), and under `everysec` holds writes back while an fsync of the
    // last second is still under way, for 2 s at most. Five seconds outlast both on a disk that is merely slow.
    /// How long a push may take until it counts as unanswered; longer than the slowest fsync
    #[arg(long, env = "SYSTOLE_PUSH_DEADLINE", default_value = "5s", value_name = "DURATION")]
    pub push_deadline: Span,
    /// How long any other step may take; shorter than the batchers' lease
    #[arg(long, env = "SYSTOLE_STEP_DEADLINE", default_value = "10s", value_name = "DURATION")]
    pub step_deadline: Span,
    /// A batcher without a sign of life for this long counts as dead
    #[arg(long, env = "SYSTOLE_BATCHER_TTL", default_value = "10s", value_name = "DURATION")]
    pub batcher_ttl: Span,
    /// How long a device is remembered after it was last seen
    #[arg(long, env = "SYSTOLE_REMEMBER_DEVICES", default_value = "7d", value_name = "DURATION")]
    pub remember_devices: Span,
    /// Devices that are remembered in all, the latest seen of each partition's equal share; 0 remembers none
    #[arg(long, env = "SYSTOLE_MAX_DEVICES", default_value_t = 100_000, value_name = "N")]
    pub max_devices: u64,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Options {
    /// Checks how the settings relate.
    ///
    /// # Errors
    /// [`Error::Unsafe`], naming the setting, its value and what is allowed.
    pub fn check(&self) -> Result<(), Error> {
        if *self.push_deadline <= *self.step_deadline {
            return Ok(());
        }
        let advice = format!(
            "push-deadline: {} must not be longer than step-deadline, {}",
            self.push_deadline, self.step_deadline
        );
        Err(Error::Unsafe { advice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_the_check_and_a_push_longer_than_a_step_does_not() {
        Options::default().check().unwrap();
        let slow = settings::parse::<Options>(&["--push-deadline", "20s"]).unwrap();
        let said = slow.check().unwrap_err().to_string();
        assert!(said.contains("push-deadline: 20s") && said.contains("step-deadline"), "{said}");
    }
}
