//! Metrics: a registry, buckets that all histograms share, and the text that Prometheus scrapes.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, Result, TextEncoder,
};

use super::process;

/// Buckets for durations in seconds, from 0.5 ms (a push) to 60 s (a consolidation).
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry whose metrics all begin with `systole_`; the process itself is in it from the start.
///
/// # Errors
/// Never in practice: the names are valid, and the first in it.
pub fn registry() -> Result<Registry> {
    let registry = Registry::new_custom(Some("systole".into()), None)?;
    process::expose(&registry)?;
    Ok(registry)
}

/// Registers metrics in one registry, so that a part can build its set of them in one expression.
///
/// Each method fails when the name is taken or breaks Prometheus' rules: a mistake in the program, found at start.
#[derive(Debug, Clone, Copy)]
pub struct Register<'a>(pub &'a Registry);

#[allow(clippy::missing_errors_doc, reason = "said once, of the type")]
impl Register<'_> {
    /// Registers `metric` and hands it back.
    pub fn register<C: Collector + Clone + 'static>(self, metric: C) -> Result<C> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// A counter.
    pub fn counter(self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    /// Counters by label.
    pub fn counters(self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge of whole numbers.
    pub fn gauge(self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    /// Gauges of whole numbers by label.
    pub fn gauges(self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge of seconds.
    pub fn seconds_gauge(self, name: &str, help: &str) -> Result<Gauge> {
        self.register(Gauge::new(name, help)?)
    }

    /// Gauges of seconds by label.
    pub fn seconds_gauges(self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A histogram over these buckets.
    pub fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    /// A histogram of durations.
    pub fn seconds(self, name: &str, help: &str) -> Result<Histogram> {
        self.histogram(name, help, SECONDS)
    }

    /// Histograms of durations by label.
    pub fn seconds_by(self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?)
    }
}

/// All metrics of `registry` in Prometheus' text format.
///
/// # Errors
/// A metric that cannot be written.
pub fn render(registry: &Registry) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}
