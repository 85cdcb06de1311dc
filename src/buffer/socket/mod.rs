//! A buffer looked at from another process: over a unix socket of the process that has it open.
//!
//! Constraints:
//! - It answers what people ask and decide ([`Administer`](super::Administer)), nothing that a door or a batcher does: the
//!   embedded buffer belongs to one process, and that one alone moves heartbeats.
//! - Errors cross as themselves, so a caller cannot tell a buffer here from a buffer there.
//! - A peer that hangs, dies or talks nonsense costs the other side one call and a bounded wait. Calls at once, sizes and
//!   waits have bounds on both sides (`server.rs`, `client.rs`, `wire.rs`).
//! - Only the user who runs the server, and root, can connect: the socket has mode 0600 before it has its name.
//!
//! # On the wire
//!
//! A connection carries one call and its answer; then it is closed. So there is no idle connection to time out, and none
//! whose state is unknown after a deadline. Either is one message:
//!
//! ```text
//! length of the head (u32, little-endian)  length of the tail (u32, little-endian)  head  tail
//! ```
//!
//! The head is JSON: `{"version":4,"body":…}`, the body as `wire.rs` defines it. Whoever meets another version says so in
//! one line and reads no further; the lengths and the place of the version never change. The tail holds the frames of the
//! dead letters, the records of the tokens, or the frames for a reader, that the head describes, one after the other: as bytes, not as text in the
//! JSON, so that listing 16 MiB of them does not take a multiple of that in the memory of a process which is to stay small.
//!
//! # Operations
//!
//! [`ControlSocket::bind`], then [`ControlSocket::run`]; after a failure bind anew. [`SocketBuffer`] on the other side.
//! The order of waits: reading a call (2 s) and writing an answer (5 s) are shorter than `step-deadline` (10 s), the bound
//! of a whole call as its caller sees it; so one peer that hangs delays others, and makes none of them fail.

mod address;
mod client;
mod devices;
mod frames;
mod server;
mod wire;

pub use client::SocketBuffer;
pub use server::ControlSocket;
