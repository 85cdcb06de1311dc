//! What a token is good for.

use serde::{Deserialize, Serialize};

/// What a token is good for. The names stand in records and on the command line: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send heartbeats of its users
    Write,
    /// Read heartbeats of its users
    Read,
    /// See metrics, every part of the health, dead letters and status
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Write, Self::Read, Self::Admin];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// Whether it is about heartbeats of certain users.
    pub const fn is_about_users(self) -> bool {
        matches!(self, Self::Write | Self::Read)
    }
}
