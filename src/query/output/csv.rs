//! CSV by RFC 4180: a header, CRLF, quotes where they are needed, a heartbeat a line.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` (full-width forms as well), TAB or CR for a formula and
//! runs it, and names are the clients'. And where a cell begins is not said by this file alone: in half of the world a
//! spreadsheet takes `;` for what separates them, in some imports TAB, and the quotes that stand beside a comma mean nothing
//! to it then. So in `user_id`, `device_id` and `id` an apostrophe, which spreadsheets take for "this is text", is put ahead
//! of whatever would be a formula, at the beginning and behind each `;` and TAB, also with blanks or quotes between. So it is
//! ahead of an apostrophe in these places, so that what was sent can be told: take one apostrophe away at the beginning, and
//! one behind each `;` and TAB, wherever there is one.
//!
//! `attributes` is the same JSON in other words: `;` can stand in its texts only, and is written `\u003b` there; line ends and
//! TABs can stand between its tokens only, and are blanks here.

use std::borrow::Cow;

use super::time;
use crate::heartbeat::HeartbeatRef;

const HEADER: [&str; 6] = ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"];
/// What a spreadsheet would take for a formula, and the mark itself.
const MARKED: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠', '\''];

/// What begins a cell, beside the comma, where a spreadsheet is set so.
const SEPARATORS: [char; 2] = [';', '\t'];
/// What makes a cell need quotes, by RFC 4180 and because of those.
const QUOTED: [char; 6] = [',', '"', '\r', '\n', ';', '\t'];

/// The rows of a table.
#[derive(Debug)]
pub(super) struct Table {
    written: Vec<u8>,
}

impl Table {
    pub(super) fn new() -> Self {
        let mut table = Self { written: Vec::new() };
        table.put(HEADER);
        table
    }

    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) {
        self.put([
            &*guarded(row.user_id),
            &*guarded(row.device_id),
            &time(row.timestamp),
            &time(row.received_at),
            &*guarded(row.id.unwrap_or_default()),
            &*on_one_line(row.attributes.unwrap_or_default()),
        ]);
    }

    fn put(&mut self, cells: [&str; 6]) {
        for (n, cell) in cells.into_iter().enumerate() {
            if n > 0 {
                self.written.push(b',');
            }
            if cell.contains(QUOTED) {
                self.written.push(b'"');
                self.written.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
                self.written.push(b'"');
            } else {
                self.written.extend_from_slice(cell.as_bytes());
            }
        }
        self.written.extend_from_slice(b"\r\n");
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }
}

/// A name in which nothing is a formula, wherever a spreadsheet cuts it.
fn guarded(name: &str) -> Cow<'_, str> {
    if !name.split_inclusive(SEPARATORS).any(is_marked) {
        return name.into();
    }
    let mut guarded = String::with_capacity(name.len() + 8);
    for piece in name.split_inclusive(SEPARATORS) {
        if is_marked(piece) {
            guarded.push('\'');
        }
        guarded.push_str(piece);
    }
    guarded.into()
}

/// Whether a cell that begins so may be taken for a formula: blanks and quotes are passed over by some.
fn is_marked(cell: &str) -> bool {
    cell.starts_with(MARKED) || cell.trim_start_matches([' ', '"']).starts_with(MARKED)
}

/// The same JSON without what separates cells or ends a line. Only the comma is left, which the quotes are for.
fn on_one_line(json: &str) -> Cow<'_, str> {
    if !json.contains([';', '\t', '\n', '\r']) {
        return json.into();
    }
    json.replace(['\t', '\n', '\r'], " ").replace(';', "\\u003b").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_holds_no_formula_wherever_a_spreadsheet_cuts_it() {
        for (name, expected) in [
            ("laptop", "laptop"),
            ("a;b\tc", "a;b\tc"),
            ("=1+1", "'=1+1"),
            ("a;=1+1;b", "a;'=1+1;b"),
            ("a;b;", "a;b;"),
            (";+1", ";'+1"),
            ("-1;-1", "'-1;'-1"),
            ("a\t@sum(a1)", "a\t'@sum(a1)"),
            ("a; =1", "a;' =1"),
            ("a;\"\"=1", "a;'\"\"=1"),
            ("\" =1", "'\" =1"),
            ("a;＝1", "a;'＝1"),
            ("'twas", "''twas"),
            ("a;'b", "a;''b"),
            ("it's -1", "it's -1"),
        ] {
            assert_eq!(guarded(name), expected, "{name}");
        }
    }

    #[test]
    fn a_cell_is_quoted_for_every_separator() {
        for (cell, expected) in [
            ("a", "a"),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("a;b", "\"a;b\""),
            ("a\tb", "\"a\tb\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            let mut table = Table { written: Vec::new() };
            table.put([cell, "", "", "", "", "c"]);
            assert_eq!(String::from_utf8(table.take()).unwrap(), format!("{expected},,,,,c\r\n"));
        }
    }

    #[test]
    fn attributes_are_the_same_json_on_one_line_without_separators() {
        let json = "{\n\t\"a;=1\": \"\\\\;\",\r\n\"b\": 1.50e3}";
        let written = on_one_line(json);
        assert_eq!(written, "{  \"a\\u003b=1\": \"\\\\\\u003b\",  \"b\": 1.50e3}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&written), value(json));
        assert!(matches!(on_one_line("{\"a\": 1}"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn what_was_sent_can_be_told(name in "[=+a ;'\"\t-]{0,12}") {
            let written = guarded(&name);
            prop_assert!(written.split(SEPARATORS).all(|cell| cell.starts_with('\'') || !is_marked(cell)), "{}", written);
            let pieces = written.split_inclusive(SEPARATORS);
            let told: String = pieces.map(|piece| piece.strip_prefix('\'').unwrap_or(piece)).collect();
            prop_assert_eq!(told, name);
        }
    }
}
