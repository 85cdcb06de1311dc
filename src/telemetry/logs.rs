//! Structured logs on standard error: text on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line of text.
    Text,
    /// One JSON object.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs")]
#[group(skip)]
pub struct Options {
    /// What to log: error, warn, info, debug, trace, or directives such as `systole=debug,actix_server=warn`
    #[arg(long, env = "SYSTOLE_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "SYSTOLE_LOG_FORMAT", default_value = "auto", value_name = "FORMAT")]
    pub log_format: Format,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level or directives cannot be read.
    #[error("log: `{value}` is no level or list of directives ({reason}); use error, warn, info, debug or trace")]
    Filter {
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging was set up before.
    #[error("logging was set up twice")]
    Twice,
}

/// What libraries may say unless the setting names them: the HTTP library writes an error for each malformed request, so
/// that anybody could fill the log; its server tells of each worker, the embedded store of each flush.
const LIBRARIES: &str = "actix_http=off,actix_server=warn,fjall=warn,lsm_tree=warn";

/// Sends the process's log lines to standard error.
///
/// # Errors
/// [`Error::Filter`] for an unreadable level, [`Error::Twice`] when called again.
pub fn init(options: &Options) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(format!("{LIBRARIES},{}", options.log))
        .map_err(|error| Error::Filter { value: options.log.clone(), reason: error.to_string() })?;
    let json = match options.log_format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    };
    outcome.map_err(|_| Error::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_the_setting_names_them() {
        let filter = |log: &str| EnvFilter::builder().parse(format!("{LIBRARIES},{log}")).unwrap().to_string();
        assert!(filter("info").contains("actix_http=off"));
        let named = filter("info,actix_http=debug");
        assert!(named.contains("actix_http=debug") && !named.contains("actix_http=off"), "{named}");
    }
}
