//! The page at `/` in a real browser: what it shows is what is, what is wrong is seen at once, and names stay names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

#[path = "../support/mod.rs"]
mod support;

mod fixtures;
mod live;
mod served;
mod shown;
