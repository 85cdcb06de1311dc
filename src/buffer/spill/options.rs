//! Whether there is a spill, where, and how much it may hold.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use humantime::Duration as Span;

use super::super::Error;
use crate::settings;

/// Whether there is a spill, where, and how much it may hold.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Spill")]
#[group(skip)]
pub struct Options {
    /// Keep heartbeats in this directory while Redis is out of reach; such a 202 depends on this host's disk
    #[arg(long, env = "SYSTOLE_SPILL_DIR", value_name = "DIR")]
    pub spill_dir: Option<PathBuf>,
    /// Bytes of frames that the spill may hold; beyond it producers get 503
    #[arg(long, env = "SYSTOLE_SPILL_MAX_BYTES", default_value = "1GiB", value_name = "SIZE")]
    pub spill_max_bytes: ByteSize,
    // Short, because every producer waits so long once for each absence of Redis. A Redis that is only slow loses nothing by
    // it: what it held after all is dropped as a duplicate.
    /// A push that Redis does not answer for so long is spilled; shorter than the push deadline
    #[arg(long, env = "SYSTOLE_SPILL_AFTER", default_value = "2s", value_name = "DURATION")]
    pub spill_after: Span,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Options {
    /// Checks how the settings relate: `push_deadline` is the committer's, `replicas_timeout` how long Redis may wait for
    /// its replicas where it is asked to.
    ///
    /// # Errors
    /// [`Error::Unsafe`], naming the setting, its value and what is allowed.
    pub fn check(&self, push_deadline: Duration, replicas_timeout: Option<Duration>) -> Result<(), Error> {
        let wrong = |advice: String| Err(Error::Unsafe { advice });
        let after = *self.spill_after;
        if self.spill_dir.is_none() {
            return Ok(());
        }
        if after.is_zero() {
            return wrong("spill-after: 0s is too short; give Redis time to answer (2s suits most)".into());
        }
        if after >= push_deadline {
            return wrong(format!(
                "spill-after: {} must be shorter than push-deadline, {}, so that a push can still be spilled in time",
                self.spill_after,
                Span::from(push_deadline)
            ));
        }
        // Else too few replicas, which is no absence, would look like one.
        if let Some(replicas) = replicas_timeout.filter(|replicas| *replicas >= after) {
            return wrong(format!(
                "spill-after: {} must be longer than wait-replicas-timeout, {}",
                self.spill_after,
                Span::from(replicas)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_relation_is_one_line_that_names_both() {
        let second = Duration::from_secs;
        let with = |after: u64| Options {
            spill_dir: Some("d".into()),
            spill_after: second(after).into(),
            ..Options::default()
        };
        for (after, push, replicas, words) in [
            (5, 5, None, &["spill-after: 5s", "push-deadline, 5s"][..]),
            (0, 5, None, &["spill-after: 0s"]),
            (1, 5, Some(1), &["spill-after: 1s", "wait-replicas-timeout, 1s"]),
        ] {
            let said = with(after).check(second(push), replicas.map(second)).unwrap_err().to_string();
            assert!(words.iter().all(|word| said.contains(word)) && !said.contains('\n'), "{said}");
        }
        with(2).check(second(5), Some(second(1))).unwrap();
        let unused = Options { spill_dir: None, ..with(9) };
        unused.check(second(5), None).unwrap();
    }
}
