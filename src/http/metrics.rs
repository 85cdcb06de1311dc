//! What the edge counts.
//!
//! Every series exists from the start, so that a rate over a counter that first moves today sees that move.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, PullingGauge, Registry};

use super::answer::Rejected;
use super::budget::ByteBudget;
use super::limits::{Limits, Policy};
use super::read::Reads;
use super::routes::Route;
use crate::heartbeat::RejectCode;
use crate::telemetry::metrics::Register;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The edge's metrics. Children of labels are looked up once, not for each request.
#[derive(Debug)]
pub(super) struct Metrics {
    requests: [[IntCounter; CLASSES.len()]; Route::ALL.len()],
    seconds: [prometheus::Histogram; Route::ALL.len()],
    in_flight: IntGauge,
    body_bytes: IntCounter,
    accepted: IntCounter,
    rejected: IntCounterVec,
    limited: [IntCounter; Policy::ALL.len()],
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let requests = register.counters(
            "http_requests_total",
            "Requests answered, by route and class of status.",
            &["route", "status"],
        )?;
        let seconds =
            register.seconds_by("http_request_seconds", "Time from a request's head to its answer.", &["route"])?;
        let limited = register.counters(
            "rate_limited_total",
            "What rate limits refused: requests by address, heartbeats by user.",
            &["policy"],
        )?;
        let metrics = Self {
            requests: Route::ALL
                .map(|route| CLASSES.map(|class| requests.with_label_values(&[route.template(), class]))),
            seconds: Route::ALL.map(|route| seconds.with_label_values(&[route.template()])),
            in_flight: register.gauge("http_requests_in_flight", "Requests not yet answered.")?,
            body_bytes: register.counter(
                "http_body_bytes_total",
                "Bytes of bodies that were read whole, as they came over the wire.",
            )?,
            accepted: register
                .counter("heartbeats_accepted_total", "Heartbeats that the buffer held before the answer.")?,
            rejected: register.counters(
                "heartbeats_rejected_total",
                "Heartbeats that an answer listed as rejected, by code.",
                &["code"],
            )?,
            limited: Policy::ALL.map(|policy| limited.with_label_values(&[policy.as_str()])),
        };
        for code in RejectCode::ALL {
            metrics.rejected.with_label_values(&[code.as_str()]);
        }
        Ok(metrics)
    }

    /// Gauges that are read when they are scraped.
    pub(super) fn register_state(
        registry: &Registry,
        budget: &Arc<ByteBudget>,
        limits: &Arc<Limits>,
    ) -> Result<(), prometheus::Error> {
        let most = Register(registry).gauge("http_byte_budget_bytes", "Memory that they may reserve.")?;
        most.set(i64::try_from(budget.limit()).unwrap_or(i64::MAX));
        let budget = Arc::clone(budget);
        let gauge = PullingGauge::new(
            "http_byte_budget_used_bytes",
            "Memory reserved by bodies and what is made of them.",
            Box::new(move || budget.used() as f64),
        )?;
        registry.register(Box::new(gauge))?;
        let limits = Arc::clone(limits);
        let gauge = PullingGauge::new(
            "rate_limit_keys",
            "Addresses and users that rate limits count one by one.",
            Box::new(move || Policy::ALL.iter().map(|&policy| limits.keys(policy)).sum::<usize>() as f64),
        )?;
        registry.register(Box::new(gauge))
    }

    /// How many answers are being read, when it is scraped.
    pub(super) fn register_reads(registry: &Registry, reads: Arc<Reads>) -> Result<(), prometheus::Error> {
        let most = reads.free();
        let gauge = PullingGauge::new(
            "http_reads_in_flight",
            "Answers of heartbeats under way; at read_streams, more are refused.",
            Box::new(move || most.saturating_sub(reads.free()) as f64),
        )?;
        registry.register(Box::new(gauge))
    }

    /// Connections of one listener that are open, of at most so many.
    pub(super) fn register_connections(registry: &Registry, most: usize) -> Result<IntGauge, prometheus::Error> {
        let register = Register(registry);
        let max = register.gauge("http_connections_max", "Connections that may be open; more wait to be accepted.")?;
        max.set(i64::try_from(most).unwrap_or(i64::MAX));
        register.gauge("http_connections", "Connections that are open.")
    }

    /// Counts a request as under way until the guard is dropped, which happens also when its handling is cut off.
    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(super) fn answered(&self, route: Route, status: u16, seconds: f64) {
        let class = usize::from(status / 100).saturating_sub(1).min(CLASSES.len() - 1);
        self.requests[route as usize][class].inc();
        self.seconds[route as usize].observe(seconds);
    }

    pub(super) fn body_read(&self, bytes: usize) {
        self.body_bytes.inc_by(bytes as u64);
    }

    pub(super) fn accepted(&self, heartbeats: usize) {
        self.accepted.inc_by(heartbeats as u64);
    }

    pub(super) fn rejected(&self, rejected: &[Rejected]) {
        for one in rejected {
            if one.code == RejectCode::RateLimited {
                self.limited(Policy::User, 1);
            }
            self.rejected.with_label_values(&[one.code.as_str()]).inc();
        }
    }

    /// A whole body that was no JSON: it has no list, but must not go uncounted.
    pub(super) fn rejected_body(&self) {
        self.rejected.with_label_values(&[RejectCode::MalformedJson.as_str()]).inc();
    }

    pub(super) fn limited(&self, policy: Policy, count: u64) {
        self.limited[policy as usize].inc_by(count);
    }
}

/// See [`Metrics::in_flight`].
#[derive(Debug)]
pub(super) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
