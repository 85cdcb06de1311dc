//! What each test has judged: for the table of `docs/reliability.md`, which `tests/reliability.rs` brings up to date.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::ledger::Ledger;

/// Notes that all of this ledger was found published but for `lost` that a fault of the test may take, and nothing twice: the
/// ledger's number, how much was acknowledged, and what is lost of that.
pub fn note(ledger: &Ledger, lost: u64) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("main");
    let acknowledged = ledger.kept() as u64 + ledger.excused();
    let line = format!("{}\t{test}\t{}\t{acknowledged}\t{lost}\n", env!("CARGO_CRATE_NAME"), ledger.number());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("figures.tsv");
    // One write to a file opened for appending: lines of several tests do not mix.
    let noted =
        File::options().create(true).append(true).open(&path).and_then(|mut file| file.write_all(line.as_bytes()));
    noted.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
