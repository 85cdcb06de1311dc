//! How far a long read has come: for people who wait at a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::query::output::time;

const TEMPLATE: &str = "{spinner} {human_pos} heartbeats, {per_sec}, {msg}";

/// A line on standard error, where that is a terminal and nothing else is shown there.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Shows nothing unless `wanted`.
    pub(super) fn begin(wanted: bool) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(super) fn reached(&self, more: usize, timestamp: Option<i64>) {
        self.0.inc(more as u64);
        if let Some(ms) = timestamp.filter(|_| !self.0.is_hidden()) {
            let reached: String = time(ms).chars().take("2026-11-22T08:30".len()).collect();
            self.0.set_message(reached.replace('T', " "));
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_can_be_drawn() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
