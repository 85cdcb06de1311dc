//! Tests that cannot run here: never silently.
//!
//! Constraints: depends on std alone, so that a test crate without the rest of the harness may include it by `#[path]`.

#![allow(clippy::print_stderr, clippy::panic, reason = "it is there to say so, or to stop")]

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Says that `what` is not tested here, and `why`. `scripts/test.sh` shows all such lines at its end, from a file that each
/// test appends to: the runner hides what a test that passed has said.
pub fn skip(what: &str, why: &str) {
    let line = format!("SKIPPED: {what} ({})\n", why.trim().replace('\n', "; "));
    eprint!("{line}");
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped.txt");
    // One write to a file opened for appending: lines of several tests do not mix.
    let appended =
        File::options().create(true).append(true).open(&list).and_then(|mut file| file.write_all(line.as_bytes()));
    appended.unwrap_or_else(|error| panic!("{}: {error}", list.display()));
}
