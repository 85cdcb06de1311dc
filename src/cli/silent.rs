//! `systole silent`: parsing.

use clap::{Args, ValueEnum};
use humantime::Duration as Span;

use super::Common;
use super::read::user;
use crate::{buffer, dataset};

/// `systole silent`
#[derive(Debug, Args)]
pub struct Silent {
    /// Without a heartbeat for longer than this a device is silent
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub after: Span,
    /// Devices of this user only
    #[arg(long, value_name = "USER", value_parser = user)]
    pub user: Option<String>,
    /// How to write them
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Form,
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
    pub common: Common,
}

/// How devices are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// One JSON array
    Json,
}
