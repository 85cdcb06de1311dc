//! Wires the parts of each command, runs them, and stops them in order.
//!
//! Constraints: the only place where signals are handled and exit codes are decided; a command's parts are visible in one
//! function. Output for people and programs goes to standard output, logs and the one line of an error to standard error.

mod adopt;
mod audit;
mod batch;
mod compact;
mod dead_letters;
mod drain;
mod files;
mod output;
mod owner;
mod place;
mod read;
mod serve;
mod show_config;
mod silence;
mod silent;
mod start;
mod supervisor;
mod text;
mod token;
mod up;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::cli::{Cli, Command};
use crate::{batcher, books, buffer, compactor, config, dataset, failpoint, http, query, telemetry};

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Exit code 0.
    Well,
    /// Exit code 1: it looked and found something wrong.
    FoundSomething,
}

/// Why a command could not do its work: one line for a person.
#[derive(Debug)]
enum Failure {
    /// Exit code 2: wrong usage or configuration.
    Usage(String),
    /// Exit code 3: a service or a file is out of reach.
    OutOfReach(String),
}

type Outcome = Result<Done, Failure>;

/// Runs the command line and answers with the process's exit code: 0 done, 1 found something wrong, 2 wrong usage or
/// configuration, 3 could not look.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match run(arguments) {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::FoundSomething) => ExitCode::from(1),
        Err(failure) => {
            let (Failure::Usage(line) | Failure::OutOfReach(line)) = &failure;
            output::error(line);
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 3 })
        }
    }
}

fn run(arguments: &[OsString]) -> Outcome {
    failpoint::arm_from_env()?;
    let (matches, file) = config::matches(Cli::command(), &with_command(arguments))?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::Usage(error.to_string()))?;
    match &mut cli.command {
        Command::Up(args) => args.rules = file.silence().to_vec(),
        Command::Serve(args) => args.rules = file.silence().to_vec(),
        _ => {}
    }
    if let Some(logs) = cli.command.logs() {
        telemetry::logs::init(logs)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::OutOfReach(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up::run(*args).await,
            Command::Serve(args) => serve::run(*args).await,
            Command::Batch(args) => batch::run(*args).await,
            Command::Compact(args) => compact::run(*args).await,
            Command::Read(args) => read::run(*args).await,
            Command::Silent(args) => silent::run(*args).await,
            Command::Audit(args) => audit::run(*args).await,
            Command::Verify(args) => verify::run(*args).await,
            Command::DeadLetters(args) => dead_letters::run(*args).await,
            Command::Token(args) => token::run(*args).await,
            Command::Drain(args) => drain::run(*args).await,
            Command::Adopt(args) => adopt::run(*args).await,
            Command::Config(args) => show_config::run(&args),
        }
    });
    // A blocking task that hangs (a stuck disk) must not keep the process from ending; what it does is safe to cut off
    // anywhere.
    runtime.shutdown_timeout(start::BLOCKING_GRACE);
    outcome
}

/// The arguments with the command that is meant where none is given: `up`.
fn with_command(arguments: &[OsString]) -> Vec<OsString> {
    let mut arguments = arguments.to_vec();
    let of_systole = |word: &OsString| matches!(word.to_str(), Some("-h" | "--help" | "-V" | "--version"));
    let named = arguments.get(1).is_some_and(|word| of_systole(word) || !word.to_string_lossy().starts_with('-'));
    if !named {
        arguments.insert(arguments.len().min(1), "up".into());
    }
    arguments
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<failpoint::Error> for Failure {
    fn from(error: failpoint::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<telemetry::logs::Error> for Failure {
    fn from(error: telemetry::logs::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<prometheus::Error> for Failure {
    fn from(error: prometheus::Error) -> Self {
        Self::OutOfReach(format!("metrics: {error}"))
    }
}

impl From<crate::silence::Error> for Failure {
    fn from(error: crate::silence::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<batcher::Error> for Failure {
    fn from(error: batcher::Error) -> Self {
        Self::OutOfReach(error.to_string())
    }
}

impl From<compactor::Error> for Failure {
    fn from(error: compactor::Error) -> Self {
        match error {
            compactor::Error::Dataset(error) => error.into(),
            _ => Self::OutOfReach(error.to_string()),
        }
    }
}

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Self {
        use http::Error::{Certificate, Exposed, Incomplete, Setting};
        match error {
            Setting { .. } | Exposed { .. } | Incomplete { .. } | Certificate { .. } => Self::Usage(error.to_string()),
            _ => Self::OutOfReach(error.to_string()),
        }
    }
}

impl From<buffer::Error> for Failure {
    fn from(error: buffer::Error) -> Self {
        use buffer::Error::{BeingMoved, ForeignDataset, NotRegistered, Unsafe};
        match error {
            Unsafe { .. } | ForeignDataset { .. } | NotRegistered | BeingMoved => Self::Usage(error.to_string()),
            _ => Self::OutOfReach(error.to_string()),
        }
    }
}

impl From<dataset::Error> for Failure {
    fn from(error: dataset::Error) -> Self {
        use dataset::Error::{Conflict, NoDataset, Unsupported};
        match error {
            Conflict { .. } | NoDataset { .. } | Unsupported { .. } => Self::Usage(error.to_string()),
            _ => Self::OutOfReach(error.to_string()),
        }
    }
}

impl From<query::Error> for Failure {
    fn from(error: query::Error) -> Self {
        match error {
            query::Error::Buffer(error) => error.into(),
            query::Error::Damaged(_) | query::Error::Files(_) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Self::OutOfReach(format!("heartbeats cannot be read: {cause}"))
            }
            other => Self::OutOfReach(other.to_string()),
        }
    }
}

impl From<books::Error> for Failure {
    fn from(error: books::Error) -> Self {
        match error {
            books::Error::Buffer(error) => error.into(),
            books::Error::Dataset(error) => error.into(),
            books::Error::Mismatch(_) => Self::Usage(error.to_string()),
            books::Error::Interrupted => Self::OutOfReach(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_up_is_meant() {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        for (given, meant) in [
            ("systole", "systole up"),
            ("systole --listen 127.0.0.1:9", "systole up --listen 127.0.0.1:9"),
            ("systole up --data x", "systole up --data x"),
            ("systole serve", "systole serve"),
            ("systole --help", "systole --help"),
            ("systole -V", "systole -V"),
            ("systole srve", "systole srve"),
        ] {
            assert_eq!(with_command(&words(given)), words(meant));
        }
    }
}
