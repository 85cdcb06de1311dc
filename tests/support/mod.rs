//! What the fault tests stand on: real servers, the real binary, and an oracle that knows nothing of Systole's code.
//!
//! Constraints: black box. Nothing here imports the `systole` library; what it knows are the command line, HTTP, the
//! paths of the dataset and Redis's own commands. So a mistake in the library cannot hide itself in its test.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test crate uses its own part of the harness")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a harness that cannot go on must stop")]
#![allow(clippy::print_stderr, reason = "what a failed test shows")]

pub mod address;
pub mod authors;
pub mod beats;
pub mod browser;
pub mod buffers;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod damage;
pub mod dice;
pub mod failpoints;
pub mod fake_clock;
pub mod figures;
pub mod fleet;
pub mod holdings;
pub mod ledger;
pub mod metrics;
pub mod oracle;
pub mod power;
pub mod process;
pub mod producers;
pub mod proxy;
pub mod python;
pub mod receiver;
pub mod redis;
pub mod sentinel;
pub mod skip;
pub mod systole;
pub mod tls;
pub mod tmpfs;
pub mod wait;
pub mod watch;
pub mod world;

pub use authors::Authors;
pub use beats::{Beat, Beats};
pub use browser::Browser;
pub use buffers::Buffer;
pub(crate) use buffers::{on_buffer, on_every_buffer};
pub use client::{Answer, Client};
pub use collector::Collector;
pub use dice::Dice;
pub use fleet::Fleet;
pub use holdings::Holdings;
pub use ledger::Ledger;
pub use metrics::Metrics;
pub use oracle::Snapshot;
pub use producers::Producers;
pub use receiver::{Delivery, Receiver};
pub use redis::RedisServer;
pub use skip::skip;
pub use systole::{Launch, Systole};
pub use world::{QUICK_LEASE, World};

use std::time::Duration;

/// A generous bound for what takes well under a second on an idle machine: others may use this one as well.
pub const SOON: Duration = Duration::from_secs(30);
