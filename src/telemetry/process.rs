//! The process in the metrics: its version, when it started, what it takes of the machine.
//!
//! Read from `/proc/self` when it is scraped; what cannot be read is left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Registry, Result};
use rustix::process::{Resource, getrlimit};

use super::metrics::Register;

/// Shows the process in `registry`.
///
/// # Errors
/// A name is taken: a mistake in the program.
pub(super) fn expose(registry: &Registry) -> Result<()> {
    let register = Register(registry);
    let build = register.gauges("build_info", "1; the version is in the label.", &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let started = register.register(Gauge::new(
        "process_start_time_seconds",
        "When the process started, in seconds since the Unix epoch.",
    )?)?;
    started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    registry.register(Box::new(Footprint {
        resident: Gauge::new("process_resident_memory_bytes", "Resident memory.")?,
        descriptors: Gauge::new("process_open_fds", "File descriptors that are open.")?,
        most_descriptors: Gauge::new("process_max_fds", "File descriptors that may be open.")?,
    }))
}

struct Footprint {
    resident: Gauge,
    descriptors: Gauge,
    most_descriptors: Gauge,
}

impl Footprint {
    fn all(&self) -> [&Gauge; 3] {
        [&self.resident, &self.descriptors, &self.most_descriptors]
    }
}

impl Collector for Footprint {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = [resident_bytes(), open_descriptors(), getrlimit(Resource::Nofile).current.map(|most| most as f64)];
        let read = self.all().into_iter().zip(read);
        read.filter_map(|(gauge, value)| value.map(|value| gauge.set(value)).map(|()| gauge.collect()))
            .flatten()
            .collect()
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

fn open_descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn every_process_shows_what_it_is_and_what_it_takes() {
        let text = String::from_utf8(render(&registry().unwrap()).unwrap()).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("systole_{name} ")));
            line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
        };
        assert!(text.contains(&format!("systole_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }
}
