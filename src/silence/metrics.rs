//! What is counted.

use prometheus::{Gauge, IntCounterVec, IntGauge, Registry};

use crate::buffer::EventKind;
use crate::telemetry::metrics::Register;

/// See the names.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) events: IntCounterVec,
    pub(super) deliveries: IntCounterVec,
    pub(super) raised: IntGauge,
    pub(super) outbox: IntGauge,
    pub(super) watching: IntGauge,
    pub(super) clock_skew: Gauge,
}

/// What became of an event or of a try to deliver it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    Failed,
    GivenUp,
    Dropped,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Delivered, Self::Failed, Self::GivenUp, Self::Dropped];

    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
            Self::Dropped => "dropped",
        }
    }
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Silent => "silent",
        EventKind::Beating => "beating",
    }
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let events =
            register.counters("silence_events_total", "Events of silence that this process raised", &["kind"])?;
        let help = "Tries to deliver an event (delivered, failed), and events that never were (given_up, dropped)";
        let deliveries = register.counters("webhook_deliveries_total", help, &["outcome"])?;
        for kind in [EventKind::Silent, EventKind::Beating] {
            events.with_label_values(&[name(kind)]);
        }
        for outcome in Outcome::ALL {
            deliveries.with_label_values(&[outcome.name()]);
        }
        Ok(Self {
            events,
            deliveries,
            raised: register.gauge(
                "silence_raised",
                "Devices that are raised as silent, over all rules; 0 where another process watches",
            )?,
            outbox: register
                .gauge("silence_outbox_events", "Events that wait to be delivered; 0 where another process watches")?,
            watching: register.gauge("silence_watching", "Whether this process is the one that watches")?,
            clock_skew: register.seconds_gauge(
                "silence_clock_skew_seconds",
                "By how much this process's clock is ahead of the buffer's for certain, below 0 when it is behind",
            )?,
        })
    }

    pub(super) fn event(&self, kind: EventKind) {
        self.events.with_label_values(&[name(kind)]).inc();
    }

    pub(super) fn delivery(&self, outcome: Outcome, count: u64) {
        self.deliveries.with_label_values(&[outcome.name()]).inc_by(count);
    }
}
