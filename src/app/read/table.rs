//! Heartbeats as a table that people read.
//!
//! Constraints: it is written as it comes, so a column is as wide as its heading and the first heartbeats want it, within
//! bounds; what is longer is cut and says so by `…`. What clients sent is shown as [`text`] lets it be seen.

use super::super::text;
use crate::heartbeat::HeartbeatRef;
use crate::query::output::time;

/// Heartbeats that decide how wide the columns are.
const DECIDING: usize = 256;
/// The widest that a column of names may become, in columns of the terminal.
const MAX_NAME: usize = 36;
/// The widest that attributes may become.
const MAX_ATTRIBUTES: usize = 100;
/// `2026-11-22T08:30:00.000Z`.
const TIME: usize = 24;

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    /// Not where only one was asked for.
    with_device: bool,
    /// Decided by the first heartbeats.
    widths: Option<Widths>,
}

#[derive(Debug, Clone, Copy)]
struct Widths {
    device: usize,
    id: usize,
}

impl Table {
    pub(super) fn new(with_device: bool) -> Self {
        Self { with_device, widths: None }
    }

    pub(super) fn lines(&mut self, rows: &[HeartbeatRef<'_>]) -> Vec<u8> {
        if rows.is_empty() {
            return Vec::new();
        }
        let mut lines = String::new();
        let widths = *self.widths.get_or_insert_with(|| {
            let widths = Widths::of(rows);
            put(&mut lines, self.with_device, widths, ["TIMESTAMP", "DEVICE", "ID", "RECEIVED", "ATTRIBUTES"]);
            widths
        });
        for row in rows {
            let (timestamp, received) = (time(row.timestamp), time(row.received_at));
            let (id, attributes) = (row.id.unwrap_or("-"), row.attributes.unwrap_or("-"));
            put(&mut lines, self.with_device, widths, [&timestamp, row.device_id, id, &received, attributes]);
        }
        lines.into_bytes()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self.widths {
            Some(_) => Vec::new(),
            None => b"no heartbeats\n".to_vec(),
        }
    }
}

impl Widths {
    fn of(rows: &[HeartbeatRef<'_>]) -> Self {
        let widest = |heading: &str, name: for<'a> fn(&HeartbeatRef<'a>) -> &'a str| {
            let names = rows.iter().take(DECIDING).map(|row| text::columns(name(row)));
            names.max().unwrap_or(0).clamp(heading.len(), MAX_NAME)
        };
        Self { device: widest("DEVICE", |row| row.device_id), id: widest("ID", |row| row.id.unwrap_or("-")) }
    }
}

fn put(
    lines: &mut String,
    with_device: bool,
    widths: Widths,
    [timestamp, device, id, received, attributes]: [&str; 5],
) {
    let mut line = cell(timestamp, TIME);
    if with_device {
        line += &cell(device, widths.device);
    }
    for (value, width) in [(id, widths.id), (received, TIME), (attributes, MAX_ATTRIBUTES)] {
        line += &cell(value, width);
    }
    lines.push_str(line.trim_end());
    lines.push('\n');
}

/// A value in its column, and the space behind it.
fn cell(value: &str, width: usize) -> String {
    text::cell(value, width) + "  "
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(device_id: &'a str, id: Option<&'a str>, attributes: Option<&'a str>) -> HeartbeatRef<'a> {
        HeartbeatRef { user_id: "ada", timestamp: 0, device_id, id, received_at: 1, attributes }
    }

    fn shown(mut table: Table, rows: &[HeartbeatRef<'_>]) -> String {
        String::from_utf8([table.lines(rows), table.finish()].concat()).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_no_wider_than_they_must() {
        let rows = [row("laptop-1", None, Some("{}")), row("é", Some("7"), None)];
        let expected = "\
            TIMESTAMP                 DEVICE    ID  RECEIVED                  ATTRIBUTES\n\
            1970-01-01T00:00:00.000Z  laptop-1  -   1970-01-01T00:00:00.001Z  {}\n\
            1970-01-01T00:00:00.000Z  é         7   1970-01-01T00:00:00.001Z  -\n";
        assert_eq!(shown(Table::new(true), &rows), expected);
        assert!(!shown(Table::new(false), &rows).contains("laptop"));
        assert_eq!(shown(Table::new(true), &[]), "no heartbeats\n");
    }

    #[test]
    fn columns_are_aligned_whatever_characters_they_hold() {
        let rows = [row("日本語", Some("7"), None), row("a\u{202e}b", Some("🦀"), None), row("laptop", None, None)];
        let lines = shown(Table::new(true), &rows);
        let before =
            |line: &str| text::columns(line.split("1970").nth(2).map_or("", |rest| &line[..line.len() - rest.len()]));
        let columns: Vec<usize> = lines.lines().skip(1).map(before).collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{columns:?}\n{lines}");
        assert!(lines.contains("a\u{fffd}b"), "{lines}");
    }

    #[test]
    fn what_is_long_is_cut_and_nothing_steers_the_terminal() {
        let long = "x".repeat(500);
        let attributes = format!("{{\"a\":\n\"\u{9b}2J{long}\"}}");
        let text = shown(Table::new(true), &[row(&long, Some(&long[..64]), Some(&attributes))]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.chars().count() < 240), "{text}");
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()));
        assert_eq!(text.matches('…').count(), 3);
    }
}
