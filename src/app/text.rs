//! Texts that clients sent, as a terminal may see them.
//!
//! Constraint: no character reaches a terminal that steers it, is not seen, or turns others around: control characters and
//! Unicode's format characters become U+FFFD.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// Characters that a column of a cell may hold at most: some take no column at all.
const CHARS_A_COLUMN: usize = 4;

/// `text` without what steers a terminal.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().any(steers) { text.chars().map(seen).collect::<String>().into() } else { text.into() }
}

/// The columns that `text` takes on a terminal once it is [harmless].
pub fn columns(text: &str) -> usize {
    text.chars().map(|char| columns_of(seen(char))).sum()
}

/// `text` without what steers a terminal, cut (which `…` tells) or filled up to `width` columns.
pub fn cell(text: &str, width: usize) -> String {
    let mut cell = String::new();
    // Columns taken, and what fits if `…` comes behind.
    let (mut taken, mut cut) = (0, (0, 0));
    for (n, char) in text.chars().map(seen).enumerate() {
        let columns = columns_of(char);
        if taken + columns > width || n >= CHARS_A_COLUMN * width {
            cell.truncate(cut.0);
            cell.push('…');
            taken = cut.1 + 1;
            break;
        }
        cell.push(char);
        taken += columns;
        if taken < width {
            cut = (cell.len(), taken);
        }
    }
    cell.extend(std::iter::repeat_n(' ', width.saturating_sub(taken)));
    cell
}

fn seen(char: char) -> char {
    if steers(char) { char::REPLACEMENT_CHARACTER } else { char }
}

fn columns_of(char: char) -> usize {
    char.width().unwrap_or(0)
}

/// Control characters; marks of direction, joiners and blanks without a width, and the ends of lines and paragraphs; marks of
/// annotations; tags.
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(char, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_steers_it_or_is_not_seen() {
        let steering =
            "\u{1b}\u{9b}\u{ad}\u{200b}\u{200e}\u{200f}\u{2028}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}";
        for char in steering.chars() {
            let text = format!("a{char}b");
            assert_eq!(harmless(&text), "a\u{fffd}b", "{char:?}");
            assert_eq!(cell(&text, 4), "a\u{fffd}b ", "{char:?}");
        }
        assert!(matches!(harmless("é 日本 e\u{301}"), Cow::Borrowed("é 日本 e\u{301}")));
    }

    #[test]
    fn a_cell_takes_the_columns_that_it_is_given() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abc", 5, "abc  "),
            ("abcd", 3, "ab…"),
            ("日本", 4, "日本"),
            ("日本", 5, "日本 "),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日… "),
            ("a日本", 4, "a日…"),
            ("e\u{301}é", 3, "e\u{301}é "),
            ("🦀", 2, "🦀"),
            ("", 2, "  "),
        ] {
            assert_eq!(cell(text, width), expected, "{text} in {width}");
            assert_eq!(columns(&cell(text, width)), width, "{text}");
        }
        // Marks without a width do not make a cell endless.
        assert!(cell(&"e\u{301}".repeat(10_000), 10).chars().count() < 50);
        assert!(cell(&format!("e{}", "\u{301}".repeat(10_000)), 10).chars().count() < 50);
    }
}
