//! The protocol, searched to its end: every order in which batchers, compactors, clients, readers, the network, a buffer
//! that comes back older and a disk that loses power can take their steps, in small worlds, by `stateright`.
//!
//! It imports nothing of Systole. It is the protocol written down a second time, small enough that every state can be
//! visited; whoever changes a step in the code changes it here, and sees what that breaks.
//!
//! # A state
//!
//! [`world::World`]: one partition of the buffer with its ledger, lease and claim ([`buffer`]); the buckets of its dates on
//! the disk, with what is durable of them and what is only visible ([`disk`]); what each batcher and compactor has in hand
//! ([`batcher`], [`compactor`]); requests that are still under way; a reader; what clients sent and were promised.
//!
//! # A step, and where it is in the code
//!
//! | step                                        | code                                                                |
//! | ------------------------------------------- | ------------------------------------------------------------------- |
//! | `Send`, `Arrive(Push)`                      | `buffer/committer`, `lua/push.lua`                                  |
//! | `Lease`, `Claim`, `Condemn`, `Ack`          | `lua/{lease,claim,condemn,ack}.lua`, `batcher/{worker,write}.rs`    |
//! | `Encode`, `Store`, `SyncFolder`             | `batcher/{condemn,write}.rs`, `dataset/fragment.rs`                 |
//! | `RetryDeadLetter`                           | `lua/dead_retry.lua`                                                |
//! | `List`, `Merge`, `Commit`, …, `SyncStaging` | `compactor/{visit,recover,publish}.rs`, `dataset/published.rs`      |
//! | `LayAside`                                  | `compactor/publish.rs` (`quarantine`)                               |
//! | `Gather`, `SyncNext`, …, `Retire`           | `compactor/consolidate.rs`, `dataset/replacement.rs` (`exchange`)   |
//! | `DeleteOld`, `CleanNext`                    | `dataset/replacement.rs` (`delete_retired`, `clean_leftovers`)      |
//! | `OpenFolder`, `ReadOn`                      | somebody's query                                                    |
//! | `SaveBuffer`, `RollBack`                    | an older AOF, lost seconds of `everysec`, a replica that was behind |
//! | `PowerCut`, `Damage`, `Die`, `Fail`         | the world                                                           |
//!
//! # The promises
//!
//! [`promises::Promise`]: properties of every state. The last of them, that it ends well, lets one batcher and one compactor
//! work on alone from each state that was reached: so a state from which nothing goes on would be found as well. The audit is
//! the code's (`books/{count,audit}.rs`), and must be right in every state, not only at rest.
//!
//! # The guards
//!
//! [`guards`] lists each guard of the protocol once, with what the model says of it, and makes a test of it: without a guard
//! that is *needed* the model finds a way to break a promise, and prints it; without one that is *redundant* it finds none in
//! any of the scenarios named, and the table says why the code has it all the same; a *net* is redundant alone and needed once
//! others are gone.
//!
//! # Bounds
//!
//! [`scenario`]: each scenario bounds a small world around one subject (zombies, late requests, power cuts, …), since all of
//! them together would not end. It must end, keep every promise, and reach the situations that it is there for
//! ([`situations`]): a model that can do nothing would keep all promises, too.
//!
//! # What is left out, and why that is sound
//!
//! - *Time.* A lease can be taken by another at any moment, and no batcher ever looks at a clock: this allows more than the
//!   code does, so safety does not lean on clocks. That what is left behind is an hour old before it is deleted becomes "nobody
//!   alive is at work on it", that readers have their grace becomes "nobody is inside".
//! - *Frames* hold one heartbeat each: no step looks into a frame but the batcher's judgement. Rows condemned one by one, and
//!   a frame that swallows its rows, are the contract suite's (`tests/buffer_contract`).
//! - *How deaths are counted.* It only decides who condemns what: [`scenario::Judges::Differ`] lets every attempt condemn or
//!   write as it likes.
//! - *Hashes* do not collide: rows and writer stand for a fragment's hash. The identity index is exact: a hit is confirmed
//!   in the file.
//! - *Steps that nobody can see* are one with the next step: a temp file's writing, a lock's taking, a listing. Where no power
//!   is cut, a sync is no step of its own.
//! - *Likes.* Of several clients, batchers or compactors that have done nothing yet, the first goes first.
//! - *Caps, the dataset's id, the spill, a drain* have tests of their own.
//! - The disk keeps what a sync has confirmed, keeps an exchange or a rename whole or not at all, and does not report a failed
//!   sync of a folder as done the next time (`assumptions` shows what happens where it does).
//!
//! # Reading a counterexample
//!
//! A promise that breaks is printed as the steps that lead to it, a shortest way since the search goes level by level, then
//! the state, then the bounds. Read the steps against the table above; `Batcher(0, Ack(Late))` is the request of batcher 0
//! that its sender gave up, `Arrive(Ack …)` its coming in.
//!
//! ```text
//! cargo nextest run --test protocol --no-capture with_all_guards
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(
    clippy::print_stderr,
    reason = "how many states were searched, and the way to a broken promise, are to be seen"
)]

mod assumptions;
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
