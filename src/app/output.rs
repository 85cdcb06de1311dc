//! What people and programs read: standard output, and one line on standard error.

use std::io::Write;

use serde::Serialize;

use super::Failure;

/// Prints one line.
pub fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    write_all(text.as_ref())
}

/// Prints `value` as indented JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::OutOfReach(format!("cannot write JSON: {error}")))?;
    write_all(&text)
}

fn write_all(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => Ok(()),
        // `systole … | head` has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::OutOfReach(format!("cannot write to standard output: {error}"))),
    }
}

/// Says something beside the output.
pub fn note(text: &str) {
    error(text);
}

/// Prints the one line of an error. There is nobody to tell when that fails.
pub fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "systole: {text}");
}
