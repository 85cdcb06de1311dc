//! The tokens of a buffer, as it keeps them without reading them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::TokenId;

/// Changes with every change of a list of tokens. Random, never a counter: one that came back older with its store would
/// reach the same number again, with other tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenVersion(Uuid);

impl TokenVersion {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "each call gives another one, so it is no default")]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// The one with exactly these bits: for tests.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }
}

impl fmt::Display for TokenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for TokenVersion {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// A token as it is kept: a text under an id. [`Token::read`](super::Token::read) reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    /// Under which it is kept.
    pub id: TokenId,
    /// Its record.
    pub text: String,
}

/// All tokens of a buffer at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenList {
    /// `None` where no token was ever made, or all of the buffer was erased.
    pub version: Option<TokenVersion>,
    /// In the order of their ids.
    pub tokens: Vec<StoredToken>,
}
