//! The text that Prometheus scrapes, read.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Type by family name.
    pub types: BTreeMap<String, String>,
    /// Families with a help text.
    pub helped: Vec<String>,
    /// Every sample.
    pub samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Metrics {
    /// Reads a scrape.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                metrics.types.insert(name.into(), kind.into());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                metrics.helped.extend(rest.split_once(' ').map(|(name, _)| name.to_owned()));
            } else if !line.starts_with('#') {
                metrics.samples.push(sample(line));
            }
        }
        metrics
    }

    /// The sum over all label values; `None` when the metric is not there.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.sum_where(name, |_| true)
    }

    /// The sum over the samples whose labels `pick`.
    pub fn sum_where(&self, name: &str, pick: impl Fn(&BTreeMap<String, String>) -> bool) -> Option<f64> {
        let picked: Vec<f64> =
            self.samples.iter().filter(|s| s.name == name && pick(&s.labels)).map(|s| s.value).collect();
        (!picked.is_empty()).then(|| picked.iter().sum())
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => {
            let pairs = rest.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
            let split = |pair: &str| {
                let (key, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
                (key.trim_start_matches(',').to_owned(), value.trim_end_matches('"').to_owned())
            };
            (name, pairs.map(split).collect())
        }
    };
    Sample { name: name.to_owned(), labels, value }
}
