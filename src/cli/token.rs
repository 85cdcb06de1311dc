//! `systole token`: who may write and read.

use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::InBuffer;
use crate::token::{Scope, TokenId};

/// `systole token`
#[derive(Debug, Args)]
pub struct Tokens {
    /// What to do with them.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make one, and print it: this once, since only its hash is kept
    ///
    /// From the first token on nobody is let in without one. Running servers take it up within seconds (token-refresh).
    Create(CreateToken),
    /// List them, without their secrets
    List(ListTokens),
    /// Take one or more back for good; running servers turn them away within seconds (token-refresh)
    Revoke(RevokeTokens),
}

/// `systole token create`
#[derive(Debug, Args)]
pub struct CreateToken {
    /// What it is good for; give it again for more
    #[arg(long, value_enum, required = true, value_name = "SCOPE")]
    pub scope: Vec<Scope>,
    /// Whose heartbeats it may write and read; give it again for more
    #[arg(long, value_name = "USER")]
    pub user: Vec<String>,
    /// It may write and read everybody's heartbeats
    #[arg(long, conflicts_with = "user")]
    pub all_users: bool,
    /// When it ends: after a time such as 30days, or at an instant such as 2027-01-01T00:00:00Z; never, unless given
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Expiry>,
    /// What people should know of it, such as where it is used
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub note: String,
    /// See there.
    #[command(flatten)]
    pub of: InBuffer,
}

/// `systole token list`
#[derive(Debug, Args)]
pub struct ListTokens {
    /// See there.
    #[command(flatten)]
    pub of: InBuffer,
}

/// `systole token revoke`
#[derive(Debug, Args)]
pub struct RevokeTokens {
    /// Their ids, as `list` prints them
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<TokenId>,
    /// See there.
    #[command(flatten)]
    pub of: InBuffer,
}

impl TokenAction {
    /// Where the tokens are.
    pub fn of(&self) -> &InBuffer {
        match self {
            Self::Create(create) => &create.of,
            Self::List(list) => &list.of,
            Self::Revoke(revoke) => &revoke.of,
        }
    }
}

/// When a token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So long after it was made.
    After(std::time::Duration),
    /// At this instant.
    At(Timestamp),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(after) = humantime::parse_duration(text) {
            return Ok(Self::After(after));
        }
        text.parse().map(Self::At).map_err(|_| {
            "give a time such as 30days, or an instant with an offset such as 2027-01-01T00:00:00Z".to_owned()
        })
    }
}

impl Expiry {
    /// The instant, counted from `now`. `None` where it is not ahead, or too far to say.
    pub fn instant(self, now: Timestamp) -> Option<Timestamp> {
        let instant = match self {
            Self::After(after) => now.checked_add(after).ok()?,
            Self::At(instant) => instant,
        };
        (instant > now).then_some(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_from_now_or_an_instant_that_is_ahead() {
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("30days", Some("2026-12-22T08:00:00Z")),
            ("1h 30m", Some("2026-11-22T09:30:00Z")),
            ("2026-11-22T10:00:00+01:00", Some("2026-11-22T09:00:00Z")),
            ("2026-11-22T08:00:00Z", None),
            ("2020-01-01T00:00:00Z", None),
            ("0s", None),
            ("100000years", None),
        ] {
            let found = text.parse::<Expiry>().unwrap().instant(now);
            assert_eq!(found, expected.map(|expected| expected.parse().unwrap()), "{text}");
        }
        for text in ["", "tomorrow", "30", "2027-01-01", "-5m"] {
            assert!(text.parse::<Expiry>().is_err(), "{text}");
        }
    }
}
