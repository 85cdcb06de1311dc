//! The edge as a client meets it: a real server on a port of its own, before an intake that records what it holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that meets one of these has failed")]

mod bodies;
mod harness;
mod limits;
mod nothing;
mod ops;
mod reads;
mod records;
mod shutdown;
mod tokens;
