//! The health board in the metrics: whether each part is well, so that an alert can stand on it without asking `/health`.
//!
//! It is read when it is scraped. Names of parts are the program's own, so the series are few.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry, Result};

use super::health::{Affects, Health};

const NAME: &str = "health_part_ok";
const HELP: &str = "1 when the part of /health is well, else 0; affects: what its being unwell means.";
const LABELS: [&str; 2] = ["part", "affects"];

/// Shows every part of `health` in `registry`, those that join the board later as well.
///
/// # Errors
/// The name is taken: a mistake in the program.
pub fn expose(health: &Health, registry: &Registry) -> Result<()> {
    let desc = Desc::new(NAME.into(), HELP.into(), LABELS.map(Into::into).into(), HashMap::new())?;
    registry.register(Box::new(Board { health: health.clone(), desc }))
}

struct Board {
    health: Health,
    desc: Desc,
}

impl Collector for Board {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Made anew each time: a part that has left the board leaves no series behind.
        let Ok(gauges) = IntGaugeVec::new(Opts::new(NAME, HELP), &LABELS) else { return Vec::new() };
        for part in self.health.snapshot() {
            gauges.with_label_values(&[part.name.as_str(), word(part.affects)]).set(part.ok.into());
        }
        gauges.collect()
    }
}

const fn word(affects: Affects) -> &'static str {
    match affects {
        Affects::Health => "health",
        Affects::Readiness => "readiness",
        Affects::Nothing => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn a_part_is_shown_from_its_first_moment_until_it_leaves_the_board() {
        let (health, registry) = (Health::new(), registry().unwrap());
        expose(&health, &registry).unwrap();
        let text = || String::from_utf8(render(&registry).unwrap()).unwrap();
        let line = |ok| format!("systole_health_part_ok{{affects=\"readiness\",part=\"buffer\"}} {ok}\n");
        assert!(!text().contains("health_part_ok{"));
        let reporter = health.part("buffer", Affects::Readiness, Duration::from_secs(3600));
        assert!(text().contains(&line(0)), "{}", text());
        reporter.well("");
        assert!(text().contains(&line(1)), "{}", text());
        drop(reporter);
        assert!(!text().contains("health_part_ok{"));
    }
}
