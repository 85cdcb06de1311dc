//! What the outside sees of a process: logs, metrics, health.
//!
//! Constraints: imports nothing of ours, so that every part may use it; no user or device ever stands in a metric label,
//! nor in a log line above debug level. Each part owns its metrics and registers them in the one `prometheus::Registry`
//! that `app` hands around.

pub mod board;
pub mod health;
pub mod logs;
pub mod metrics;
mod process;
