//! What can be set about TLS.

use std::path::PathBuf;

use super::super::Error;
use crate::settings;

/// Settings of TLS towards clients; plain HTTP without them.
///
/// How the waits relate: a connection has `tls_handshake_deadline` for its handshake, and only then `head_deadline` for
/// the head of its first request. A replaced certificate is in force after `tls_reload_every`; one that cannot be used is
/// named in `/health` after twice that.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS")]
#[group(skip)]
pub struct Options {
    /// Speak TLS with this certificate (PEM, with those that lead to its authority behind it); a replaced file is taken up while running
    #[arg(long, env = "SYSTOLE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(long, env = "SYSTOLE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// How often both files are looked at
    #[arg(long, env = "SYSTOLE_TLS_RELOAD_EVERY", default_value = "10s", value_name = "DURATION")]
    pub tls_reload_every: humantime::Duration,
    /// Time for the TLS handshake of a connection
    #[arg(long, env = "SYSTOLE_TLS_HANDSHAKE_DEADLINE", default_value = "5s", value_name = "DURATION")]
    pub tls_handshake_deadline: humantime::Duration,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

/// The two files of a certificate.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Options {
    /// Whether clients are to speak TLS.
    pub fn is_on(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// The files, or `None` for plain HTTP.
    ///
    /// # Errors
    /// One file without the other, or a time that cannot work.
    pub(super) fn files(&self) -> Result<Option<Files>, Error> {
        let incomplete = |given, missing| Err(Error::Incomplete { given, missing });
        let (cert, key) = match (self.tls_cert.clone(), self.tls_key.clone()) {
            (None, None) => return Ok(None),
            (Some(_), None) => return incomplete("tls-cert", "tls-key"),
            (None, Some(_)) => return incomplete("tls-key", "tls-cert"),
            (Some(cert), Some(key)) => (cert, key),
        };
        for (setting, value) in
            [("tls-reload-every", self.tls_reload_every), ("tls-handshake-deadline", self.tls_handshake_deadline)]
        {
            if value.is_zero() {
                let allowed = "more than nothing, such as 5s".to_owned();
                return Err(Error::Setting { setting, value: value.to_string(), allowed });
            }
        }
        Ok(Some(Files { cert, key }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        settings::parse(arguments).unwrap()
    }

    #[test]
    fn one_file_without_the_other_is_refused_by_name() {
        assert!(options(&[]).files().unwrap().is_none());
        for (given, missing) in [("tls-cert", "tls-key"), ("tls-key", "tls-cert")] {
            let error = options(&[&format!("--{given}"), "x.pem"]).files().unwrap_err().to_string();
            assert_eq!(error, format!("{given} is given: it needs {missing} beside it"));
        }
        assert!(options(&["--tls-cert", "c", "--tls-key", "k"]).files().unwrap().is_some());
    }

    #[test]
    fn a_time_of_nothing_is_refused_by_name() {
        for setting in ["tls-reload-every", "tls-handshake-deadline"] {
            let given = ["--tls-cert", "c", "--tls-key", "k", &format!("--{setting}"), "0s"];
            let error = options(&given).files().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{setting}: 0s cannot work")), "{error}");
        }
    }
}
