//! Systole collects heartbeats: acknowledged means kept, published means once, and the books balance.
//!
//! ARCHITECTURE.md is the map. Imports go down only: edge (`cli`, `app`, `config`, `http`) → services (`batcher`,
//! `compactor`, `books`, `query`, `overview`, `silence`) → stores (`buffer`, `dataset`) → vocabulary (`heartbeat`, `token`);
//! `telemetry`, `settings`, `failpoint`, `backoff` and `percent` stand at the bottom and import nothing of ours. `fuzzing`, above all,
//! exists for tests alone.

pub mod app;
pub mod backoff;
pub mod batcher;
pub mod books;
pub mod buffer;
pub mod cli;
pub mod compactor;
pub mod config;
pub mod dataset;
pub mod failpoint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod heartbeat;
pub mod http;
pub mod overview;
mod percent;
pub mod query;
pub mod settings;
pub mod silence;
pub mod telemetry;
pub mod token;
