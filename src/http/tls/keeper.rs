//! Keeps the certificate in force, and takes up its replacement.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{IntCounterVec, IntGauge, Registry};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::Error;
use super::certificate::{Certificate, Pair};
use super::options::Files;
use crate::telemetry::health::{Affects, Health, Reporter};
use crate::telemetry::metrics::Register;

/// A look that takes longer than this many intervals and [`LOOK_GRACE`] hangs, as on a network file system that is away.
const LOOKS_MISSED: u32 = 3;
/// What a look may take on a busy machine.
const LOOK_GRACE: Duration = Duration::from_secs(10);

/// The certificate in force, and what became of the last attempt to replace it.
pub(super) struct Keeper {
    files: Files,
    every: Duration,
    provider: Arc<CryptoProvider>,
    in_force: ArcSwap<Certificate>,
    seen: Mutex<Seen>,
    reporter: Reporter,
    metrics: Metrics,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What the files held when they were last looked at.
#[derive(Debug)]
struct Seen {
    /// The pair in force.
    in_force: (u128, u128),
    /// A state of the files that cannot be used.
    refused: Option<Refused>,
}

#[derive(Debug)]
struct Refused {
    state: String,
    /// Found the same at two looks in a row, and said.
    stands: bool,
}

#[derive(Debug)]
struct Metrics {
    expires: IntGauge,
    reloads: IntCounterVec,
}

const REPLACED: &str = "replaced";
const REFUSED: &str = "refused";

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let metrics = Self {
            expires: register.gauge(
                "tls_certificate_expires_timestamp_seconds",
                "When the certificate in force expires, in seconds since the Unix epoch.",
            )?,
            reloads: register.counters(
                "tls_certificate_reloads_total",
                "Replaced certificates, by whether they came into force.",
                &["outcome"],
            )?,
        };
        for outcome in [REPLACED, REFUSED] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }
}

impl Keeper {
    /// Reads the first certificate, which must be fit. One that has expired is served all the same, and `/health` says so:
    /// clients that do not look go on being served.
    pub(super) fn open(
        files: Files,
        every: Duration,
        provider: Arc<CryptoProvider>,
        health: &Health,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let pair = Pair::read(&files)?;
        let certificate = Certificate::of(&pair, &files, &provider)?;
        let deadline = every.saturating_mul(LOOKS_MISSED).saturating_add(LOOK_GRACE);
        let keeper = Self {
            every,
            provider,
            seen: Mutex::new(Seen { in_force: pair.fingerprint(), refused: None }),
            reporter: health.part("certificate", Affects::Health, deadline),
            metrics: Metrics::register(registry)?,
            in_force: ArcSwap::from_pointee(certificate),
            files,
        };
        keeper.announce(&pair, "TLS is on");
        keeper.report(None);
        Ok(keeper)
    }

    /// Looks at the files every now and then, until `shutdown`.
    pub(super) async fn keep_current(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let keeper = self.clone();
            // One that hangs is noticed by the health board's deadline.
            if tokio::task::spawn_blocking(move || keeper.look()).await.is_err() {
                tracing::error!("looking at the certificate panicked; the one in force stays");
            }
        }
    }

    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = Pair::read(&self.files).and_then(|pair| {
            if pair.fingerprint() == seen.in_force {
                return Ok(None);
            }
            Certificate::of(&pair, &self.files, &self.provider).map(|certificate| Some((pair, certificate)))
        });
        match outcome {
            Ok(None) => seen.refused = None,
            Ok(Some((pair, certificate))) => {
                *seen = Seen { in_force: pair.fingerprint(), refused: None };
                self.in_force.store(Arc::new(certificate));
                self.metrics.reloads.with_label_values(&[REPLACED]).inc();
                self.announce(&pair, "a replaced certificate is in force");
            }
            Err(error) => self.refuse(&mut seen, error.to_string()),
        }
        let refused = seen.refused.as_ref().filter(|refused| refused.stands);
        self.report(refused.map(|refused| refused.state.as_str()));
    }

    /// Two files cannot be replaced in one step: what does not fit together now may at the next look. Only what then still
    /// stands the same is refused, and said once.
    fn refuse(&self, seen: &mut Seen, state: String) {
        match &mut seen.refused {
            Some(refused) if refused.state == state => {
                if !refused.stands {
                    refused.stands = true;
                    self.metrics.reloads.with_label_values(&[REFUSED]).inc();
                    warn!(reason = state, "a replaced certificate cannot be used; the old one stays in force");
                }
            }
            other => *other = Some(Refused { state, stands: false }),
        }
    }

    fn announce(&self, pair: &Pair, what: &'static str) {
        let certificate = self.in_force.load();
        self.metrics.expires.set(certificate.expires_s);
        info!(expires = certificate.expires(), "{what}");
        if let Err(reason) = certificate.judge(now_s()) {
            warn!(reason, "clients that check the certificate will refuse it");
        }
        if pair.key_is_shared() {
            let file = self.files.key.display();
            warn!(%file, "tls-key: others than its owner can read this file; chmod 600 mends that");
        }
    }

    fn report(&self, refused: Option<&str>) {
        let certificate = self.in_force.load();
        match (refused, certificate.judge(now_s())) {
            (Some(refused), _) => self.reporter.unwell(format!(
                "a replaced certificate cannot be used ({refused}); the old one, which expires at {}, stays in force",
                certificate.expires()
            )),
            (None, Err(reason)) => self.reporter.unwell(reason),
            (None, Ok(())) => self.reporter.well(format!("expires at {}", certificate.expires())),
        }
    }
}

impl ResolvesServerCert for Keeper {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_force.load().key.clone())
    }
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
