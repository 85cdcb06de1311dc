//! What is under `deploy/` for others to run: it is sound, and says what is true of this Systole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

#[path = "deploy/exposed.rs"]
mod exposed;
#[path = "deploy/expressions.rs"]
mod expressions;
#[path = "deploy/files.rs"]
mod files;
#[path = "deploy/grafana.rs"]
mod grafana;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/prometheus.rs"]
mod prometheus;
mod support;

use std::collections::BTreeSet;

use expressions::Asked;
use support::Metrics;

/// Whether a running process exposes it, with each of the values that are asked for.
fn is_exposed(one: &Asked, scrapes: &[Metrics]) -> Result<(), String> {
    let mut samples =
        scrapes.iter().flat_map(|scrape| &scrape.samples).filter(|sample| sample.name == one.metric).peekable();
    if samples.peek().is_none() {
        return Err(format!("nothing exposes {}", one.metric));
    }
    let samples: Vec<_> = samples.collect();
    let own = one.labels.iter().filter(|(label, _)| !prometheus::OF_THE_SCRAPER.contains(&label.as_str()));
    for (label, values) in own {
        for value in values {
            if !samples.iter().any(|sample| sample.labels.get(label) == Some(value)) {
                return Err(format!("no {} has {label}=\"{value}\"", one.metric));
            }
        }
    }
    Ok(())
}

#[test]
fn running_processes_expose_every_metric_that_rules_dashboard_and_scaler_ask_for() {
    let scrapes = exposed::scrapes();
    let asked: BTreeSet<Asked> =
        [prometheus::asked_by_rules(), grafana::asked_by_dashboard(), kubernetes::asked_by_the_scaler()]
            .into_iter()
            .flatten()
            .collect();
    assert!(asked.len() > 60, "{}", asked.len());
    let faults: Vec<String> = asked.iter().filter_map(|one| is_exposed(one, &scrapes).err()).collect();
    support::oracle::fail_on("what is asked for in vain", faults);
}
