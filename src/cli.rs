//! The command line: what can be asked of the binary. Parsing only; `app` does it.

pub mod read;
pub mod silent;
pub mod token;

use clap::{Args, Parser, Subcommand};

use crate::{batcher, buffer, compactor, dataset, http, query, silence, telemetry};

/// Collects heartbeats over HTTP and lays them down as sorted, deduplicated Parquet
#[derive(Debug, Parser)]
#[command(
    name = "systole",
    version,
    propagate_version = true,
    subcommand_required = true,
    after_help = "Without a command: systole up"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole collector in one process, on an embedded buffer: the default
    Up(Box<Up>),
    /// Accept heartbeats over HTTP into the buffer
    Serve(Box<Serve>),
    /// Move heartbeats from the buffer into fragments; run as many as you like
    Batch(Box<Batch>),
    /// Publish fragments as sorted, deduplicated Parquet: one pass, or continuously
    Compact(Box<Compact>),
    /// Read the heartbeats of a user, from buffer and files
    Read(Box<read::Read>),
    /// List the devices that have stopped beating, the longest silent first
    ///
    /// A device is silent when it has beaten within the last seven days (--remember-devices) and not within --after. It was
    /// last seen at the latest `timestamp` of its heartbeats, or at their arrival where that was earlier: late heartbeats
    /// make nobody look alive. That devices are silent is no fault of Systole: the exit code is 0.
    Silent(Box<silent::Silent>),
    /// Check that every accepted heartbeat is accounted for, in the buffer and the files
    Audit(Box<Audit>),
    /// Check every file of a dataset: hashes, order, places, uniqueness
    Verify(Box<Verify>),
    /// Look at, retry or drop what could not be written
    DeadLetters(Box<DeadLetters>),
    /// Make, list or revoke tokens: who may write and read
    Token(Box<token::Tokens>),
    /// Move what the embedded buffer of a stopped `up` holds into Redis; the dataset belongs to that from then on
    Drain(Box<Drain>),
    /// Give an existing dataset a new or erased buffer
    ///
    /// For a dataset of a Redis: the one at --buffer. For a dataset of `systole up`, without --buffer and while that is
    /// stopped: a new embedded buffer in the data folder, in case the old one was lost. What waited in a lost buffer is
    /// gone, and so are the tokens: make new ones before the door is opened. The new one's books begin at zero, so
    /// `systole audit` then finds a surplus in the files, which `systole audit --accept` records.
    Adopt(Box<Adopt>),
    /// Print the settings in force for a command, secrets redacted
    Config(Box<Config>),
}

impl Command {
    /// How this command logs. `config` does not.
    pub fn logs(&self) -> Option<&telemetry::logs::Options> {
        let common = match self {
            Self::Up(args) => &args.common,
            Self::Serve(args) => &args.common,
            Self::Batch(args) => &args.common,
            Self::Compact(args) => &args.common,
            Self::Read(args) => &args.common,
            Self::Silent(args) => &args.common,
            Self::Audit(args) => &args.common,
            Self::Verify(args) => &args.common,
            Self::DeadLetters(args) => match &args.action {
                DeadLetterAction::List { of, .. } => &of.common,
                DeadLetterAction::Show(one) => &one.of.common,
                DeadLetterAction::Retry(some) | DeadLetterAction::Drop(some) => &some.of.common,
            },
            Self::Token(args) => &args.action.of().common,
            Self::Drain(args) => &args.common,
            Self::Adopt(args) => &args.common,
            Self::Config(_) => return None,
        };
        Some(&common.logs)
    }
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// The file with settings; `systole.toml` in the working folder is read when it is there
    #[arg(long, env = crate::config::FILE_VARIABLE, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// See there.
    #[command(flatten)]
    pub logs: telemetry::logs::Options,
}

/// Output for programs.
#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long, env = "SYSTOLE_JSON")]
    pub json: bool,
}

/// `systole up`
#[derive(Debug, Args)]
pub struct Up {
    /// See there.
    #[command(flatten)]
    pub http: http::Options,
    /// See there.
    #[command(flatten)]
    pub auth: http::auth::Options,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub limits: http::limits::Options,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub embedded: buffer::embedded::Options,
    /// See there.
    #[command(flatten)]
    pub monitor: buffer::monitor::Options,
    /// See there.
    #[command(flatten)]
    pub batcher: batcher::Options,
    /// See there.
    #[command(flatten)]
    pub compactor: compactor::Options,
    /// See there.
    #[command(flatten)]
    pub reading: query::Options,
    /// See there.
    #[command(flatten)]
    pub silence: silence::Options,
    /// What `[[silence]]` in the file says; no flag can.
    #[arg(skip)]
    pub rules: Vec<silence::Rule>,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// See there.
    #[command(flatten)]
    pub http: http::Options,
    /// See there.
    #[command(flatten)]
    pub auth: http::auth::Options,
    /// See there.
    #[command(flatten)]
    pub limits: http::limits::Options,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub monitor: buffer::monitor::Options,
    /// See there.
    #[command(flatten)]
    pub spill: buffer::spill::Options,
    /// Folder of the dataset, so that answers cover its files as well; without it they cover the buffer only
    #[arg(long, env = "SYSTOLE_DATA", value_name = "DIR", help_heading = "Data")]
    pub data: Option<std::path::PathBuf>,
    /// See there.
    #[command(flatten)]
    pub reading: query::Options,
    /// See there.
    #[command(flatten)]
    pub silence: silence::Options,
    /// What `[[silence]]` in the file says; no flag can.
    #[arg(skip)]
    pub rules: Vec<silence::Rule>,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole batch`
#[derive(Debug, Args)]
pub struct Batch {
    /// Where /health and /metrics listen
    #[arg(long, env = "SYSTOLE_LISTEN", default_value = "127.0.0.1:9101", value_name = "ADDR:PORT")]
    pub listen: std::net::SocketAddr,
    /// See there.
    #[command(flatten)]
    pub tls: http::tls::Options,
    /// See there.
    #[command(flatten)]
    pub auth: http::auth::Options,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub batcher: batcher::Options,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole compact`
#[derive(Debug, Args)]
pub struct Compact {
    /// Go on publishing until told to stop, instead of one pass
    #[arg(long, env = "SYSTOLE_WATCH")]
    pub watch: bool,
    /// Where /health and /metrics listen with --watch
    #[arg(long, env = "SYSTOLE_LISTEN", default_value = "127.0.0.1:9102", value_name = "ADDR:PORT")]
    pub listen: std::net::SocketAddr,
    /// See there.
    #[command(flatten)]
    pub tls: http::tls::Options,
    /// See there.
    #[command(flatten)]
    pub exposure: http::auth::Exposure,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub compactor: compactor::Options,
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Record a surplus (files above the books, after the buffer came back older) as known and go on from there
    #[arg(long)]
    pub accept: bool,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole dead-letters`
#[derive(Debug, Args)]
pub struct DeadLetters {
    /// What to do with them.
    #[command(subcommand)]
    pub action: DeadLetterAction,
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterAction {
    /// List them, oldest first
    List {
        /// At most this many of each partition
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// See there.
        #[command(flatten)]
        of: InBuffer,
    },
    /// Show one whole, its heartbeats decoded where that is possible
    Show(OneDeadLetter),
    /// Put one, or all, back into the buffer
    Retry(SomeDeadLetters),
    /// Delete one, or all, for good; the books count them as dropped
    Drop(SomeDeadLetters),
}

/// Where dead letters and tokens are: in the Redis at --buffer, else in the buffer of the dataset.
#[derive(Debug, Args)]
pub struct InBuffer {
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// One dead letter.
#[derive(Debug, Args)]
pub struct OneDeadLetter {
    /// Its id, as `list` prints it
    pub id: buffer::DeadLetterId,
    /// See there.
    #[command(flatten)]
    pub of: InBuffer,
}

/// One dead letter, or all.
#[derive(Debug, Args)]
#[group(skip)]
pub struct SomeDeadLetters {
    /// Its id, as `list` prints it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<buffer::DeadLetterId>,
    /// All that there are now
    #[arg(long)]
    pub all: bool,
    /// See there.
    #[command(flatten)]
    pub of: InBuffer,
}

/// `systole drain`
#[derive(Debug, Args)]
pub struct Drain {
    /// The Redis that an earlier try had moved everything into is lost: move into this one all the same
    #[arg(long)]
    pub abandon_other: bool,
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// See there.
    #[command(flatten)]
    pub buffer: buffer::options::Options,
    /// See there.
    #[command(flatten)]
    pub redis: buffer::redis::Options,
    /// See there.
    #[command(flatten)]
    pub dataset: dataset::Options,
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// `systole config`
#[derive(Debug, Args)]
pub struct Config {
    /// See there.
    #[command(flatten)]
    pub output: Output,
    /// The file with settings
    #[arg(long, env = crate::config::FILE_VARIABLE, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// The command to print for, and flags of it to try: `systole config batch --max-delay 1s`
    #[arg(default_value = "up", trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_its_variable() {
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments() {
                let Some(flag) = arg.get_long() else { continue };
                // All but the first two are acts of a person at one moment, not settings.
                let acts = [
                    "accept",
                    "all",
                    "limit",
                    "abandon-other",
                    "after",
                    "user",
                    "device",
                    "from",
                    "to",
                    "format",
                    "out",
                ];
                if matches!(flag, "help" | "version") || acts.contains(&flag) {
                    continue;
                }
                let variable = format!("SYSTOLE_{}", flag.replace('-', "_").to_uppercase());
                assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(variable.as_str()), "--{flag}");
            }
        }
    }
}
