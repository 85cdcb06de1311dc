//! The buffer in a directory: for one machine and one process, without any server.
//!
//! Constraints:
//! - A step is answered only after its writes were synced to the disk, in one batch that is there whole or not at all.
//!   What the memory holds follows the disk, never the other way round (`store.rs`).
//! - Steps of one partition come one after the other; those of different partitions that end at about the same time share
//!   one fsync (`commits.rs`). All frames of one push are one batch.
//! - The rules are those of the scripts in `redis/lua/`, as pure code (`state.rs`); both backends pass one contract suite.
//! - One process has the directory at a time (`lock.rs`). Leases and the list of batchers live by that process's monotonic
//!   clock and end with it; epochs are on disk and never fall.
//! - Blocking work runs on threads that may block, 64 steps at a time. A call that misses its deadline answers
//!   [`Error::TimedOut`](super::Error::TimedOut); its step goes on and is whole or not there at all.
//! - Memory does not depend on how much waits: frames are on disk, and of each partition there is one small record in
//!   memory, and its devices (`roll.rs`: about 11 MB for 100,000 of them). `engine.rs` says how much the store itself takes,
//!   and why.
//!
//! # On disk
//!
//! ```text
//! <directory>/
//!   lock             flock of the process that has it, and its id; never deleted
//!   store.new/       a store that is being made (`birth.rs`); left behind by a process that died meanwhile
//!   store/           fjall's own: journals (`3.jnl`), `keyspaces/`, `lock`, `version`
//! ```
//!
//! The store has two keyspaces, `frames` and `books`; `keys.rs` says what stands under which key, and the number of that
//! format. A frame has a sequence number within its partition, and stays where it was pushed: the record says which numbers
//! are claimed (`first..pending`) and which wait (`pending..next`). So claiming and acknowledging write some 400 bytes,
//! however much is claimed. What lies below `first` is garbage; compactions leave it out.
//!
//! # Operations
//!
//! [`EmbeddedBuffer::open`] takes the directory and replays the last journals, 64 MB and one more at most, however much
//! waits. It reads the devices, and the frames whose devices are not on disk by themselves yet: 32 MiB of rows and a push
//! more. Then the steps of [`Buffer`](super::Buffer). Space comes back when there are 128 MiB more of garbage than of what
//! is kept: all tables are rewritten without it, in the background, once the copy has room on the disk. Below `buffer-min-free` of free disk nothing is pushed,
//! and all that drains goes on, since it needs room itself.
//!
//! `systole drain` moves all of it into Redis (`../drain/`, `export.rs`). It begins with a mark in the books, and from then on
//! every step is refused as [`Error::BeingMoved`](super::Error::BeingMoved), here and after every restart.
//!
//! # Where it may die, and what then holds
//!
//! | it dies, or the disk fails …                    | what stands                                 | then                               |
//! | ----------------------------------------------- | ------------------------------------------- | ---------------------------------- |
//! | before the batch is written (`buffer.commit`)   | nothing of the step                         | the caller tries again             |
//! | while it is written                             | a torn batch, never answered                | cut off at the next opening        |
//! | after the fsync (`buffer.committed`)            | the step, unanswered                        | as after any lost answer           |
//! | at a flush or compaction                        | the journals, or the tables before it       | done again                         |
//! | fsync or write fails, the disk is full          | the batch, or not: unknown                  | closed, and opened anew (below)    |
//!
//! After a fault nothing more is trusted from the open store, nor from its journal: every step is refused as
//! [`Error::Unreachable`](super::Error::Unreachable), the health board says so, and as soon as no step is under way the store
//! is opened anew (tried once a second, by whatever call comes), with a new journal (`journal.rs`), and every record is read
//! from the disk. A process need not be restarted for it.
//!
//! A torn last batch and a last batch that the disk damaged later look the same, so that one batch is beyond proof; damage
//! to anything before it is found and never mended in silence.
//!
//! # Why fjall
//!
//! A queue wants appends in order, one fsync for many of them, atomic writes over several keys, ranges read in order, and
//! little memory. fjall (LSM tree, pure Rust, no `unsafe` of its own, MIT or Apache-2.0, well kept) gives all of these; its
//! journal makes an append one sequential write, and its compaction filters make forgetting free. RocksDB brings a C++
//! build and much more memory; LMDB and redb write whole pages of a tree several times for each small commit, and their
//! files never shrink while in use; SQLite would do, at the price of C and of pages too; a log of our own would be one more
//! thing to get right, with its own compaction around a claim that stands for days. What fjall lacks is done here: it
//! poisons itself after a fault and asks to be restarted, it cannot open on a torn batch, it may wait for ever inside a
//! commit once its workers are dead, and it has no group commit.

mod alarms;
mod birth;
mod buffer;
mod claims;
mod commits;
mod devices;
mod engine;
mod export;
mod frames;
mod inspect;
mod journal;
mod keys;
mod letters;
mod lock;
mod options;
mod roll;
mod state;
mod store;
mod tokens;

pub use buffer::EmbeddedBuffer;
pub use options::Options;
