//! Holding on to a partition while work on it goes on.
//!
//! Constraints:
//! - The lease is renewed by a task of its own, so that neither a write that takes long nor a buffer call that hangs lets
//!   it expire.
//! - Whether it stands is judged by our own monotonic clock, counted from the instant *before* the buffer was asked and
//!   shortened by a margin, so that we stop believing in a lease before the buffer does. A process that was stopped for
//!   longer than that finds out at its next check, before it renames or acknowledges anything.
//! - A check can be outrun: a writer may be stopped right after it. What such a zombie still writes is harmless by
//!   design. Its acknowledgement carries an epoch that the buffer refuses, and its fragment has the name of the one that
//!   the next owner makes of the same claim; where the name differs, row identity drops the rows at publishing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault::Ending;
use crate::buffer::{self, Buffer, Lease};

/// This share of the lease is kept as a margin between our clock and the buffer's.
const MARGIN_SHARE: u32 = 5;
/// After a failed renewal the next one comes sooner by this factor.
const RETRY_SHARE: u32 = 4;

/// A lease that renews itself until it is dropped. Dropping it gives nothing back: that is a step
/// of the buffer.
#[derive(Debug)]
pub(super) struct Held {
    lease: Lease,
    standing: Standing,
    renewer: AbortHandle,
}

/// Whether a lease stands: a cheap handle that blocking code can ask, too.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    believed_until: Arc<Mutex<Instant>>,
    lost: CancellationToken,
}

impl Held {
    /// Begins to renew a lease that was asked for at `asked_at`.
    pub(super) fn begin(
        buffer: Arc<dyn Buffer>,
        lease: Lease,
        asked_at: Instant,
        ttl: Duration,
        renew_every: Duration,
    ) -> Self {
        let standing = Standing {
            believed_until: Arc::new(Mutex::new(believed_until(asked_at, ttl))),
            lost: CancellationToken::new(),
        };
        let renewer = tokio::spawn(renew(buffer, lease, standing.clone(), ttl, renew_every)).abort_handle();
        Self { lease, standing, renewer }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Lets it expire from now on, or be given back.
    pub(super) fn stop_renewing(&self) {
        self.renewer.abort();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop_renewing();
    }
}

impl Standing {
    /// Fails once the lease is, or may be, another's.
    pub(super) fn check(&self) -> Result<(), Ending> {
        if self.lost.is_cancelled() || Instant::now() >= self.until() { Err(Ending::Lost) } else { Ok(()) }
    }

    /// Resolves once [`Standing::check`] fails.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    fn until(&self) -> Instant {
        *self.believed_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, until: Instant) {
        *self.believed_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

fn believed_until(asked_at: Instant, ttl: Duration) -> Instant {
    asked_at + ttl - ttl / MARGIN_SHARE
}

async fn renew(buffer: Arc<dyn Buffer>, lease: Lease, standing: Standing, ttl: Duration, renew_every: Duration) {
    let mut pause = renew_every;
    loop {
        let until = standing.until();
        tokio::time::sleep_until((Instant::now() + pause).min(until)).await;
        let asked_at = Instant::now();
        match tokio::time::timeout_at(until, buffer.renew(&lease, ttl)).await {
            Ok(Ok(())) => {
                standing.extend(believed_until(asked_at, ttl));
                pause = renew_every;
            }
            Ok(Err(buffer::Error::Fenced { .. })) | Err(_) => {
                tracing::warn!(partition = lease.partition, epoch = lease.epoch, "lost the lease");
                standing.lost.cancel();
                return;
            }
            Ok(Err(error)) => {
                tracing::debug!(partition = lease.partition, %error, "could not renew the lease");
                pause = renew_every / RETRY_SHARE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_disbelieved_before_the_buffer_can_give_it_away() {
        let ttl = Duration::from_secs(100);
        let now = Instant::now();
        let asked = |ago| Standing {
            believed_until: Arc::new(Mutex::new(believed_until(now - Duration::from_secs(ago), ttl))),
            lost: CancellationToken::new(),
        };
        assert_eq!(asked(0).check(), Ok(()));
        assert_eq!(asked(81).check(), Err(Ending::Lost));
        let fenced = asked(0);
        fenced.lost.cancel();
        assert_eq!(fenced.check(), Err(Ending::Lost));
    }
}
