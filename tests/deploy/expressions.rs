//! What a PromQL expression asks for: the names of metrics, and the values of labels. Not a parser: promtool is one.

use std::collections::BTreeSet;

/// A metric that is asked for, with the values of the labels that are asked for by `=` or `=~`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub metric: String,
    /// The label and the values one of which it must have.
    pub labels: Vec<(String, Vec<String>)>,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Every metric of ours that an expression names: those that processes expose and those that rules record (with colons).
pub fn asked(expression: &str) -> BTreeSet<Asked> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(at) = rest.find(|c| is_name(c) || c == '"') {
        let begin = &rest[at..];
        if let Some(value) = begin.strip_prefix('"') {
            rest = value.split_once('"').map_or("", |(_, behind)| behind);
            continue;
        }
        let (name, behind) = begin.split_at(begin.find(|c| !is_name(c)).unwrap_or(begin.len()));
        if name.starts_with("systole_") || name.contains(":systole_") {
            let selector = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let labels = selector.map(|(inner, _)| matchers(inner)).unwrap_or_default();
            found.insert(Asked { metric: name.to_owned(), labels });
        }
        rest = behind;
    }
    found
}

fn matchers(inner: &str) -> Vec<(String, Vec<String>)> {
    let mut matchers = Vec::new();
    for one in inner.split("\",").map(|one| one.trim().trim_end_matches('"')).filter(|one| !one.is_empty()) {
        let Some((label, value)) = one.split_once("=~\"").or_else(|| one.split_once("=\"")) else { continue };
        if !label.ends_with('!') {
            matchers.push((label.trim().to_owned(), value.split('|').map(str::to_owned).collect()));
        }
    }
    matchers
}

#[test]
fn metrics_and_the_values_that_are_asked_for_are_found() {
    let found = asked(
        r#"sum by (le) (rate(systole_push_seconds_bucket{le="1", status!="5xx", column=~"a|b"}[5m])) > a:systole_b:sum / up"#,
    );
    let names: Vec<&str> = found.iter().map(|one| one.metric.as_str()).collect();
    assert_eq!(names, ["a:systole_b:sum", "systole_push_seconds_bucket"]);
    let labels = &found.last().unwrap().labels;
    assert_eq!(labels[0], ("le".into(), vec!["1".into()]));
    assert_eq!(labels[1], ("column".into(), vec!["a".into(), "b".into()]));
}
