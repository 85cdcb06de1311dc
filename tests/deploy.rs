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

/// Metrics that no alert looks at, for none of their values is an illness: what passes by and how long it takes, what others
/// tell better, what is within its limits by itself. Whoever adds one that can mean "unwell" writes an alert instead.
const TELL_NO_ILLNESS: &[&str] = &[
    // What passes by, and what is there of it.
    "systole_build_info",
    "systole_auth_tokens",
    "systole_devices_remembered",
    "systole_http_body_bytes_total",
    "systole_http_requests_in_flight",
    "systole_overview_gatherings_total",
    "systole_push_frames_total",
    "systole_push_heartbeats_total",
    "systole_push_frame_heartbeats",
    "systole_push_batch_requests",
    "systole_read_pages_total",
    "systole_read_rows_total",
    "systole_read_rows_looked_at_total",
    "systole_spill_heartbeats_total",
    "systole_spill_injected_heartbeats_total",
    "systole_silence_events_total",
    // The work of batchers and compactors. That they cannot do it tells what waits for them.
    "systole_batcher_batches_total",
    "systole_batcher_fragments_total",
    "systole_batcher_fragment_bytes_total",
    "systole_batcher_partitions_owned",
    "systole_batcher_claim_seconds",
    "systole_batcher_fragment_write_seconds",
    "systole_compactor_publishes_total",
    "systole_compactor_publish_seconds",
    "systole_compactor_consolidations_total",
    "systole_compactor_consolidation_seconds",
    "systole_compactor_fragments_merged_total",
    "systole_compactor_fragments_known_total",
    "systole_compactor_published_files",
    "systole_compactor_rows_deduplicated_total",
    "systole_compactor_rows_consolidated_total",
    "systole_compactor_staged_rows",
    // The part "silence" is unwell when clocks are too far apart for the rules.
    "systole_silence_clock_skew_seconds",
    // Others tell it: the batchers' age of the oldest fragment (also when nobody compacts), the gauge of what is in quarantine,
    // the ledger's dead letters, the part "certificate", and the 503 that readers get beyond read-streams.
    "systole_compactor_staged_oldest_age_seconds",
    "systole_compactor_fragments_quarantined_total",
    "systole_batcher_condemned_rows_total",
    "systole_read_frames_skipped_total",
    "systole_tls_certificate_reloads_total",
    "systole_http_reads_in_flight",
    "systole_read_busy_total",
    // A page may be as long as its reader asks; keys that have no room share an allowance, and who is refused for it is counted.
    "systole_read_page_seconds",
    "systole_rate_limit_keys",
];

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

#[test]
fn every_metric_that_can_mean_unwell_has_an_alert() {
    let of_histograms = ["_bucket", "_sum", "_count"];
    let known: BTreeSet<String> = prometheus::asked_by_rules().into_iter().map(|one| one.metric).collect();
    let scrapes = exposed::scrapes();
    let exposed: BTreeSet<&str> = scrapes
        .iter()
        .flat_map(|scrape| &scrape.samples)
        .map(|sample| of_histograms.iter().find_map(|end| sample.name.strip_suffix(end)).unwrap_or(&sample.name))
        .collect();
    let looked_at = |name: &str| known.contains(name) || known.contains(&format!("{name}_bucket"));
    let forgotten: Vec<String> = exposed
        .iter()
        .filter(|name| !looked_at(name) && !TELL_NO_ILLNESS.contains(name))
        .map(|name| format!("no alert looks at {name}"))
        .collect();
    support::oracle::fail_on("metrics without an alert", forgotten);
    let superfluous = TELL_NO_ILLNESS.iter().filter(|name| looked_at(name) || !exposed.contains(**name));
    support::oracle::fail_on("names", superfluous.map(|name| format!("{name} is looked at, or is no more")).collect());
}
