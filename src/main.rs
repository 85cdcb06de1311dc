//! The `systole` binary.

use std::ffi::OsString;
use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

// Why, and how it is tuned: ARCHITECTURE.md, "Memory".
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    systole::app::main(&arguments)
}
