//! What the gate counts. Every series exists from the start.

use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

use super::Refusal;
use crate::telemetry::metrics::Register;

/// The gate's metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    refused: [IntCounter; Refusal::NAMES.len()],
    known: IntGauge,
    age: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let refused = register.counters(
            "auth_refused_total",
            "Requests turned away for want of a token that allows them, by reason.",
            &["reason"],
        )?;
        Ok(Self {
            refused: Refusal::NAMES.map(|name| refused.with_label_values(&[name])),
            known: register.gauge("auth_tokens", "Tokens that there were when they were last read.")?,
            age: register.register(Gauge::new(
                "auth_tokens_age_seconds",
                "How long ago the tokens were last read; 0 before the first time.",
            )?)?,
        })
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal.number()].inc();
    }

    pub(super) fn known(&self, tokens: usize) {
        self.known.set(i64::try_from(tokens).unwrap_or(i64::MAX));
    }

    pub(super) fn age(&self, age: Option<Duration>) {
        self.age.set(age.unwrap_or_default().as_secs_f64());
    }
}
