//! The protocol as a model.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod batcher;
mod buffer;
mod check;
mod compactor;
mod disk;
mod guards;
mod promises;
mod scenario;
mod situations;
mod with_all_guards;
mod world;
