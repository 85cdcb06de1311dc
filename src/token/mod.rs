//! Who may write and read: what a token is, as a person holds it and as a buffer keeps it.
//!
//! Constraints:
//! - The secret is in the text that `systole token create` prints once, and nowhere else: what is kept is its hash. No type
//!   here that holds a secret shows it by `Debug`, `Display` or serde.
//! - The secret is 32 bytes from the operating system. Nothing that is tried reaches a share of 2²⁵⁶ worth naming, so one
//!   SHA-256 of it is as good as a slow hash, which is there to make up for what people choose as passwords; and each
//!   request pays for it.
//! - Scopes are independent of each other: `admin` does not write.
//! - Bounded: [`MAX_TOKENS`] tokens of [`MAX_RECORD_BYTES`], [`MAX_TOTAL_BYTES`] in all, [`MAX_USERS`] users of a token.
//! - A record that this version cannot read lets nobody in, and hinders no other one: a restriction that an older binary
//!   does not know must never be taken for none.
//!
//! # Format
//!
//! ```text
//! the token    systole_<id: 12 hex digits>_<secret: 64 hex digits>
//! the record   {"version":1,"id":"…","hash":"<SHA-256 of the secret's 32 bytes, hex>","scopes":["write"],
//!               "users":["ada"],"created":"…Z","expires":"…Z" or null,"note":"…"}
//! ```
//!
//! `users` is null for all of them, and empty where no scope speaks of users. One token has one text: hexadecimal digits are
//! lower case.

mod list;
mod record;
mod scope;
mod secret;

pub use list::{StoredToken, TokenList, TokenVersion};
pub use record::{MAX_NOTE_BYTES, MAX_RECORD_BYTES, MAX_USERS, Token, Users};
pub use scope::Scope;
pub use secret::{Presented, Secret, SecretHash, TokenId};

/// Tokens that a buffer keeps at most.
pub const MAX_TOKENS: usize = 10_000;
/// Bytes of records that a buffer keeps at most: what a server reads whenever one is made or revoked.
pub const MAX_TOTAL_BYTES: usize = 4 << 20;

/// What is wrong with a token or its record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It breaks a rule; says which and what is allowed.
    #[error("{0}")]
    Rule(String),
    /// A record that this version does not read.
    #[error("the record of token {id} cannot be read: {why}")]
    Unreadable {
        /// Under which id it is kept.
        id: TokenId,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Randomness(String),
}
