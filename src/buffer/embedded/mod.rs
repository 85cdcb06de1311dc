//! The buffer in a directory: for one machine, one process.

mod buffer;
mod claims;
mod commits;
mod engine;
mod journal;
mod keys;
mod letters;
mod lock;
mod options;
mod state;
mod store;

pub use buffer::EmbeddedBuffer;
pub use options::Options;
