//! Settings as values of the types that define them, apart from any process's command line.
//!
//! Each part defines its settings once, as clap arguments with their defaults. `Default` of such a type is an empty command
//! line without any environment; so code, command line, file and documentation cannot disagree.

use clap::builder::Resettable;
use clap::{Args, Command};

/// The values of a command line of these arguments; no environment is read.
///
/// # Errors
/// What clap says of an argument.
pub fn parse<T: Args>(arguments: &[&str]) -> Result<T, clap::Error> {
    let command = T::augment_args(Command::new("settings")).no_binary_name(true);
    let matches = command.mut_args(|arg| arg.env(Resettable::Reset)).try_get_matches_from(arguments)?;
    T::from_arg_matches(&matches)
}

/// The values of an empty command line.
///
/// # Panics
/// A setting without a default that is not optional: a mistake in the program, met by each test that makes a default.
#[allow(clippy::expect_used, reason = "nothing of the outside is read: it fails always or never")]
pub fn defaults<T: Args>() -> T {
    parse(&[]).expect("every setting has a default")
}
