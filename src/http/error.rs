//! Why the edge cannot run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the edge cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("listen: cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A setting that cannot work.
    #[error("{setting}: {value} cannot work: {allowed}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Anybody could come in from other machines, and nobody has allowed that.
    #[error("listen: other machines reach {address}, and {advice}")]
    Exposed {
        /// The address asked for.
        address: SocketAddr,
        /// What to do.
        advice: &'static str,
    },
    /// A setting without the one that belongs to it.
    #[error("{given} is given: it needs {missing} beside it")]
    Incomplete {
        /// The setting that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A file that a setting names cannot be read.
    #[error("{setting}: `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The setting's name.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key that cannot be served.
    #[error("{setting}: `{}` {reason}", path.display())]
    Certificate {
        /// The setting's name.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refuses its own defaults: a mistake in the program, found at start.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// A metric's name is taken: a mistake in the program, found at start.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Serving ended for a reason of the system's.
    #[error("the HTTP server ended: {0}")]
    Serve(#[source] io::Error),
}
