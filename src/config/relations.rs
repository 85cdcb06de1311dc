//! How the timeouts of different parts relate. Each part checks its own; what crosses parts is checked here, at start.
//!
//! ```text
//! connect-timeout < push-deadline ≤ step-deadline < lease-ttl       a step must not outlive the lease it was taken under
//! 3 × renew-every  < lease-ttl                                      two renewals may fail
//! 3 × announce-every < batcher-ttl                                  two announcements may fail
//! wait-replicas-timeout < spill-after < push-deadline               too few replicas is no absence; what Redis does not answer
//!                                                                   is spilled before its producer is given up
//! max-delay < drain-lag                                             a batch that is due is no lag (checked for `up`; in
//!                                                                   processes apart the defaults agree: 5 s < 10 s)
//! silence-every ≤ after ≤ remember-devices                         of each rule: who is forgotten is not missed (`silence/rule.rs`)
//! min-free < buffer-min-free                                        `up`: on a disk that fills, what waits is drained
//! lock-deadline < 60 s                                          the compactor's health part would call a wait a death
//! batcher-ttl + 2 × monitor-every < 15 s                            /health tells of a dead batcher within 15 s
//! ```

use std::time::Duration;

use super::Error;
use crate::{batcher, buffer, dataset};

/// The compactor reports to `/health` at least this often, between two steps of its work.
const COMPACTOR_REPORTS_WITHIN: Duration = Duration::from_secs(60);

/// `/health` names a dead batcher within this time.
const NOTICE_WITHIN: Duration = Duration::from_secs(15);

/// Checks the settings of `systole serve`.
///
/// # Errors
/// One line that names the setting, its value and what is allowed.
pub fn check_serve(buffer: &buffer::options::Options, monitor: &buffer::monitor::Options) -> Result<(), Error> {
    buffer.check().map_err(|error| Error::new(error.to_string()))?;
    let notice = *buffer.batcher_ttl + 2 * *monitor.monitor_every;
    if notice > NOTICE_WITHIN {
        return Err(Error::new(format!(
            "batcher-ttl ({}) and twice monitor-every ({}) must be at most 15s together, so that /health tells of a dead \
             batcher in time",
            buffer.batcher_ttl, monitor.monitor_every
        )));
    }
    Ok(())
}

/// Checks the settings of the spill of `systole serve`.
///
/// # Errors
/// One line that names the setting, its value and what is allowed.
pub fn check_spill(
    buffer: &buffer::options::Options,
    redis: &buffer::redis::Options,
    spill: &buffer::spill::Options,
) -> Result<(), Error> {
    let replicas_timeout = (redis.wait_replicas > 0).then_some(*redis.wait_replicas_timeout);
    spill.check(*buffer.push_deadline, replicas_timeout).map_err(|error| Error::new(error.to_string()))
}

/// Checks the settings of `systole batch`.
///
/// # Errors
/// One line that names the setting, its value and what is allowed.
pub fn check_batch(buffer: &buffer::options::Options, batcher: &batcher::Options) -> Result<(), Error> {
    buffer.check().map_err(|error| Error::new(error.to_string()))?;
    batcher.check(*buffer.step_deadline, *buffer.batcher_ttl).map_err(Error::new)
}

/// Checks the settings of `systole compact`.
///
/// # Errors
/// One line that names the setting, its value and what is allowed.
pub fn check_compact(dataset: &dataset::Options) -> Result<(), Error> {
    if *dataset.lock_deadline >= COMPACTOR_REPORTS_WITHIN {
        return Err(Error::new(format!(
            "lock-deadline: {} must be shorter than 60s, after which /health takes the compactor for dead",
            dataset.lock_deadline
        )));
    }
    Ok(())
}

/// Checks what meets only where everything is one process: `systole up`.
///
/// # Errors
/// One line that names the setting, its value and what is allowed.
pub fn check_up(
    monitor: &buffer::monitor::Options,
    batcher: &batcher::Options,
    embedded: &buffer::embedded::Options,
    dataset: &dataset::Options,
) -> Result<(), Error> {
    if *batcher.max_delay >= *monitor.drain_lag {
        return Err(Error::new(format!(
            "max-delay: {} must be shorter than drain-lag, {}, or /health calls every batch late",
            batcher.max_delay, monitor.drain_lag
        )));
    }
    if embedded.buffer_min_free < dataset.min_free {
        return Err(Error::new(format!(
            "buffer-min-free: {} must be at least min-free, {}, so that a disk that fills can still be drained",
            embedded.buffer_min_free, dataset.min_free
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_agree_with_each_other() {
        let buffer = buffer::options::Options::default();
        let monitor = buffer::monitor::Options::default();
        let batcher = batcher::Options::default();
        check_serve(&buffer, &monitor).unwrap();
        check_batch(&buffer, &batcher).unwrap();
        check_compact(&dataset::Options::default()).unwrap();
        let spill = buffer::spill::Options { spill_dir: Some("spill".into()), ..Default::default() };
        check_spill(&buffer, &buffer::redis::Options::default(), &spill).unwrap();
        let (embedded, dataset) = (buffer::embedded::Options::default(), dataset::Options::default());
        check_up(&monitor, &batcher, &embedded, &dataset).unwrap();
    }

    #[test]
    fn what_does_not_fit_together_is_one_line_that_names_it() {
        let late = buffer::monitor::Options { monitor_every: Duration::from_secs(5).into(), ..Default::default() };
        let line = check_serve(&buffer::options::Options::default(), &late).unwrap_err().to_string();
        assert!(line.contains("monitor-every (5s)") && !line.contains('\n'), "{line}");
        let slow = buffer::options::Options { step_deadline: Duration::from_secs(60).into(), ..Default::default() };
        let line = check_batch(&slow, &batcher::Options::default()).unwrap_err().to_string();
        assert!(line.contains("lease-ttl") && line.contains("step-deadline"), "{line}");
        let patient = dataset::Options { lock_deadline: Duration::from_secs(90).into(), ..Default::default() };
        assert!(check_compact(&patient).unwrap_err().to_string().contains("lock-deadline: 1m 30s"));
    }
}
