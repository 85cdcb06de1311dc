//! Hostile input: whatever comes in over the wire gets its documented answer (docs/input.md), takes a bounded amount of
//! memory, and leaves everybody else served.
//!
//! Black box: the real binary, met by plain sockets. Who is served meanwhile is a well-behaved neighbour (`siege`), whose
//! every heartbeat must be answered 202 and published.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::print_stderr, reason = "figures")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod bombs;
mod connections;
mod heads;
mod limiter;
mod page;
mod paths;
mod records;
mod siege;
mod takers;
mod wire;
