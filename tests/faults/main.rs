//! Faults of the machine, on the real processes under load: whatever was answered 202 is published once, what is wrong is
//! named, the rest goes on, and everything goes on by itself once the fault is over.
//!
//! Faults of Redis are in the tests that begin with `redis`; `scripts/torture.sh` rolls dice over all of them, for as long
//! as it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::print_stderr, reason = "the last figures of each fault")]

mod clock;
mod damage;
mod descriptors;
mod kills;
mod locks;
mod moved;
mod power_cut;
#[path = "../support/mod.rs"]
mod support;
