//! The buffer on Redis: for several processes and machines.
//!
//! Constraints:
//! - Every step is one Lua script in `lua/`, atomic on the server, whose head states what it takes, gives and promises;
//!   checks come before the first write, because an error does not roll back what was written before it.
//! - Time is Redis's clock, inside the scripts.
//! - Each call has a deadline of ours; a connection that missed one is never used again (`connection.rs`).
//! - Each script is told the dataset and refuses when the partition carries none or another (`buffer/identity.rs`).
//! - Every answer is read field by field (`reply.rs`); none is guessed around.
//! - What a partition has accepted only grows; one that falls has gone back, which is an alarm (`marks.rs`).
//!
//! Operations: [`RedisBuffer::connect`] reads the options and needs no server; [`RedisBuffer::startup_check`] looks
//! whether the server keeps what it is given (`startup.rs`); then the steps of [`Buffer`](super::Buffer). The keys are in
//! `keys.rs`.

mod alarms;
mod buffer;
mod connection;
mod devices;
mod fault;
mod files;
mod frames;
mod import;
mod inspect;
mod keys;
mod marks;
mod options;
mod push;
mod registration;
mod reply;
mod script;
mod startup;
mod target;
mod tokens;

pub use buffer::RedisBuffer;
pub(super) use import::{Begun, Found};
pub use options::{BufferUrls, Options};
