//! `deploy/grafana`: the dashboard.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expressions::{Asked, asked};
use super::files::{self, promtool};
use super::{prometheus, support};

fn dashboard() -> Value {
    serde_json::from_str(&files::text("deploy/grafana/systole.json")).unwrap()
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().unwrap().clone()
}

/// Every expression, as Prometheus would be asked.
fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter().map(|one| &one["target"]);
    let all = targets.chain(annotations).map(|target| target["expr"].as_str().unwrap());
    all.map(|expr| expr.replace("$__rate_interval", "1m").replace("$installation", ".*")).collect()
}

/// What the dashboard asks for, but for what rules record.
pub fn asked_by_dashboard() -> BTreeSet<Asked> {
    let recorded = prometheus::recorded();
    let all = expressions().iter().flat_map(|expr| asked(expr)).collect::<BTreeSet<_>>();
    all.into_iter().filter(|one| !recorded.contains(&one.metric)).collect()
}

#[test]
fn the_panels_have_their_place_their_text_and_one_data_source() {
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap().to_owned();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: an id twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title}: beyond the grid");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{title}: asks for nothing");
            for of in targets.iter().chain([&panel]) {
                assert_eq!(of["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
}

#[test]
fn every_expression_parses() {
    let rules: Vec<String> = expressions()
        .iter()
        .enumerate()
        .map(|(at, expr)| format!("  - {{ record: \"panel:{at}\", expr: {} }}\n", Value::from(expr.as_str())))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("panels.yml");
    std::fs::write(&file, format!("groups:\n- name: panels\n  rules:\n{}", rules.concat())).unwrap();
    let Some((well, said)) = promtool(&["check", "rules", file.to_str().unwrap()]) else {
        return support::skip("the expressions of the dashboard", "promtool is not installed");
    };
    assert!(well && said.contains(&format!("{} rules found", rules.len())), "{said}");
}
