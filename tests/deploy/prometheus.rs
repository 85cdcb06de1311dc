//! `deploy/prometheus`: alert rules, their tests, and an example of scraping.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::Value;

use super::expressions::{Asked, asked};
use super::files::{self, promtool};
use super::support;

const RULES: &str = "deploy/prometheus/systole.rules.yml";
const TESTS: &str = "deploy/prometheus/systole.rules.test.yml";
/// What takes a day.
const OF_A_DAY: &str = "deploy/prometheus/systole.rules.day.test.yml";
const EXAMPLE: &str = "deploy/prometheus/prometheus.yml";

/// Labels that the one who scrapes gives.
pub const OF_THE_SCRAPER: [&str; 4] = ["installation", "job", "instance", "namespace"];

/// Both files, read once.
fn documents() -> &'static [Value] {
    static READ: OnceLock<Vec<Value>> = OnceLock::new();
    READ.get_or_init(|| files::yaml(&[files::path(RULES), files::path(TESTS)]))
}

/// The groups of the rules.
pub fn groups() -> &'static Value {
    &documents()[0]["groups"]
}

/// Every rule, of every group.
fn rules() -> impl Iterator<Item = &'static Value> {
    groups().as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
}

fn alerts() -> Vec<&'static Value> {
    rules().filter(|rule| rule.get("alert").is_some()).collect()
}

fn tests() -> &'static [Value] {
    documents()[1]["tests"].as_array().unwrap()
}

fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap()
}

/// What the rules ask for, but for what they record themselves.
pub fn asked_by_rules() -> BTreeSet<Asked> {
    let recorded = recorded();
    let all = rules().flat_map(|rule| asked(rule["expr"].as_str().unwrap())).collect::<BTreeSet<_>>();
    all.into_iter().filter(|one| !recorded.contains(&one.metric)).collect()
}

/// The names that rules record.
pub fn recorded() -> BTreeSet<String> {
    rules().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_rules_are_sound_and_every_alert_passes_its_tests() {
    let [rules, tests, of_a_day, example] = [RULES, TESTS, OF_A_DAY, EXAMPLE].map(files::path);
    for words in [
        ["check", "rules", rules.to_str().unwrap()].as_slice(),
        &["test", "rules", tests.to_str().unwrap(), of_a_day.to_str().unwrap()],
        &["check", "config", "--syntax-only", example.to_str().unwrap()],
    ] {
        let Some((well, said)) = promtool(words) else {
            return support::skip("the alert rules", "promtool is not installed");
        };
        assert!(well, "promtool {}\n{said}", words.join(" "));
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    for alert in alerts() {
        let name = name(alert);
        assert!(name.starts_with("Systole"), "{name}");
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("critical" | "warning")), "{name}");
        assert!(alert["for"].is_string(), "{name}: no `for`, not even 0m");
        for text in ["summary", "description", "remedy"] {
            let said = alert["annotations"][text].as_str().unwrap_or_default();
            assert!(said.len() > 20, "{name}: no {text}");
            assert!(
                !said.contains("http://") && !said.contains("https://"),
                "{name}: {text} is to say it, not to link"
            );
        }
    }
}

#[test]
fn an_alert_is_named_only_where_there_is_one() {
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| name(alert)).collect();
    assert_eq!(names.len(), alerts.len(), "two of one name");
    for alert in &alerts {
        let said = alert["annotations"].to_string();
        for word in said.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 7) {
            let named = word.starts_with("Systole") && word.chars().nth(7).is_some_and(char::is_uppercase);
            assert!(!named || names.contains(word), "{} sends people to {word}", name(alert));
        }
    }
}

#[test]
fn every_alert_is_seen_to_fire_to_wait_and_to_stay_silent_when_all_is_well() {
    let group = |of: &str| tests().iter().find(|test| test["name"] == of).unwrap_or_else(|| panic!("no test of {of}"));
    let expectations = |test: &Value, of: &str| -> Vec<usize> {
        let all = test["alert_rule_test"].as_array().unwrap();
        let of_it = all.iter().filter(|one| one["alertname"] == of);
        of_it.map(|one| one["exp_alerts"].as_array().unwrap().len()).collect()
    };
    for alert in alerts() {
        let name = name(alert);
        let own = expectations(group(name), name);
        assert!(own.iter().any(|fire| *fire > 0), "{name} is never seen to fire");
        assert!(own.contains(&0), "{name} is never seen to wait");
        for quiet in ["a fleet that is well raises nothing", "a fleet whose processes are restarted raises nothing"] {
            let seen = expectations(group(quiet), name);
            assert!(!seen.is_empty() && seen.iter().all(|fire| *fire == 0), "{name} in: {quiet}");
        }
    }
}

/// A fleet that is well says nothing only if it shows what the alerts look at.
#[test]
fn the_fleets_that_are_well_show_what_every_alert_looks_at() {
    let wanted: BTreeSet<String> = asked_by_rules().into_iter().map(|one| one.metric).collect();
    for fleet in tests().iter().filter(|test| test["name"].as_str().unwrap().starts_with("a fleet")) {
        let series = fleet["input_series"].as_array().unwrap().iter().map(|one| one["series"].as_str().unwrap());
        let shown: BTreeSet<String> = series.map(|one| one.split('{').next().unwrap().to_owned()).collect();
        // Of one process alone, or of no fault: written and published rows stand in recording rules only.
        let left: Vec<&String> =
            wanted.difference(&shown).filter(|name| !ONLY_RECORDED.contains(&name.as_str())).collect();
        assert!(left.is_empty(), "{}: {left:?}", fleet["name"]);
    }
}

/// No alert stands on them.
const ONLY_RECORDED: [&str; 2] = ["systole_batcher_rows_total", "systole_compactor_rows_published_total"];
