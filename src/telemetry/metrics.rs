//! Metrics: a registry, buckets that all histograms share, and the text that Prometheus scrapes.

use prometheus::{Encoder, Registry, TextEncoder};

/// Buckets for durations in seconds, from 0.5 ms (a push) to 60 s (a consolidation).
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A registry whose metrics all begin with `systole_`.
///
/// # Errors
/// Never in practice: the prefix is a valid name.
pub fn registry() -> Result<Registry, prometheus::Error> {
    Registry::new_custom(Some("systole".into()), None)
}

/// Registers `metric` and hands it back, so that a part can build its set of metrics in one expression.
///
/// # Errors
/// The name is taken: a mistake in the program, found at start.
pub fn register<C>(registry: &Registry, metric: C) -> Result<C, prometheus::Error>
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// All metrics of `registry` in Prometheus' text format.
///
/// # Errors
/// A metric that cannot be written.
pub fn render(registry: &Registry) -> Result<Vec<u8>, prometheus::Error> {
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}
