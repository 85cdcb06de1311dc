//! What can be set about who is let in.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::Error;
use crate::settings;

/// Who may be let in without a token.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Access")]
#[group(skip)]
pub struct Exposure {
    /// Let anybody in on an address that other machines reach, as long as there is no token
    #[arg(long, env = "SYSTOLE_ALLOW_ANONYMOUS")]
    pub allow_anonymous: bool,
}

/// Who may come in while there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// Nobody: other machines reach the address.
    Nobody,
    /// Whoever is on this machine, by names that are its own.
    OwnMachine,
    /// Anybody, by whatever name: that was asked for.
    Anybody,
}

impl Exposure {
    /// Who may come in at this address while there is no token.
    pub(super) fn at(&self, address: SocketAddr) -> Anonymous {
        match (self.allow_anonymous, is_loopback(address)) {
            (true, _) => Anonymous::Anybody,
            (false, true) => Anonymous::OwnMachine,
            (false, false) => Anonymous::Nobody,
        }
    }

    /// For a listener that knows no tokens.
    ///
    /// # Errors
    /// [`Error::Exposed`] when other machines reach it and nobody has allowed that.
    pub(super) fn check_without_tokens(&self, address: SocketAddr) -> Result<(), Error> {
        if self.at(address) != Anonymous::Nobody {
            return Ok(());
        }
        let advice = "this command knows no tokens: listen on 127.0.0.1, or say --allow-anonymous";
        Err(Error::Exposed { address, advice })
    }
}

/// Whether no other machine reaches it.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// How tokens are used.
///
/// A revocation is in force after `token-refresh` and one call of the buffer. `token-stale-after` is more than twice that, so
/// that one slow call is no alarm.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Access")]
#[group(skip)]
pub struct Options {
    /// See there.
    #[command(flatten)]
    pub exposure: Exposure,
    /// How often the tokens are read again: how long a revoked one may still be good
    #[arg(long, env = "SYSTOLE_TOKEN_REFRESH", default_value = "2s", value_name = "DURATION")]
    pub token_refresh: humantime::Duration,
    /// /health names tokens that could not be read again for longer
    #[arg(long, env = "SYSTOLE_TOKEN_STALE_AFTER", default_value = "30s", value_name = "DURATION")]
    pub token_stale_after: humantime::Duration,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

/// More often would load the buffer for nothing.
const REFRESH_LEAST: Duration = Duration::from_millis(100);
/// More seldom would be no revocation.
const REFRESH_MOST: Duration = Duration::from_secs(60);

impl Options {
    /// Refuses settings that cannot work, each by name.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |setting, value: humantime::Duration, allowed: &str| {
            Err(Error::Setting { setting, value: value.to_string(), allowed: allowed.to_owned() })
        };
        if !(REFRESH_LEAST..=REFRESH_MOST).contains(&*self.token_refresh) {
            return refuse("token-refresh", self.token_refresh, "100ms to 1m");
        }
        if *self.token_stale_after <= 2 * *self.token_refresh {
            return refuse("token-stale-after", self.token_stale_after, "more than twice token-refresh");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_other_machine_reaches_is_loopback() {
        for (address, expected) in [
            ("127.0.0.1:80", true),
            ("127.9.9.9:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("[::ffff:0.0.0.0]:80", false),
            ("10.0.0.1:80", false),
            ("[fe80::1]:80", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn an_address_that_others_reach_has_to_be_allowed() {
        let (all, own) = ("0.0.0.0:80".parse().unwrap(), "[::1]:80".parse().unwrap());
        let exposure = |allow_anonymous| Exposure { allow_anonymous };
        assert!(exposure(false).check_without_tokens(own).is_ok());
        assert!(exposure(true).check_without_tokens(all).is_ok());
        let message = exposure(false).check_without_tokens(all).unwrap_err().to_string();
        assert!(message.contains("--allow-anonymous") && message.contains("0.0.0.0:80"), "{message}");
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let seconds = |seconds| humantime::Duration::from(Duration::from_secs(seconds));
        let message = |options: Options| options.check().unwrap_err().to_string();
        Options::default().check().unwrap();
        assert!(message(Options { token_refresh: seconds(0), ..Options::default() }).starts_with("token-refresh: 0s"));
        assert!(message(Options { token_refresh: seconds(61), ..Options::default() }).starts_with("token-refresh: 1m"));
        let hasty = Options { token_stale_after: seconds(4), ..Options::default() };
        assert!(message(hasty).starts_with("token-stale-after: 4s"));
    }
}
