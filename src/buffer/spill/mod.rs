//! The spill: where heartbeats go while Redis is away, so that its absence does not close the door.
//!
//! Constraints:
//! - A spilled 202 is kept at this host's durability, not at the buffer's: it is fsynced to the disk under `spill-dir`, and
//!   lost with that disk. Until Redis is back nobody but this process knows of it.
//! - Only the *absence* of Redis spills. A Redis that is there and says no (full, out of memory, read-only, too few
//!   replicas, another dataset, unfit) is a 503 as without a spill. The table below decides it, `course.rs` holds it.
//! - What is spilled goes into Redis by itself, and leaves the spill only after Redis confirmed every frame of its claim. A
//!   crash in between pushes the same frames again; row identity drops them at publishing, as it does a client's retry.
//! - A spill belongs to one dataset, the one of the Redis that it was first used with. Before Redis was seen once there is
//!   no spill: how many partitions there are, and whose, is not known.
//! - A Redis that comes back is judged as at the start (durability, dataset, partitions) before anything is pushed to it.
//! - Bounded: `spill-max-bytes` of frames on disk, then 503; one claim of some megabytes in memory; one log line for each
//!   change of state. Age and clock skew are the door's to check, once: never again here.
//!
//! # What is spilled, and what is refused
//!
//! | Redis …                                                                       | as an error        | its heartbeats |
//! | ----------------------------------------------------------------------------- | ------------------ | -------------- |
//! | refuses connections, breaks them, cannot be resolved                           | `Unreachable`      | are spilled    |
//! | is loading its file, has no primary, is a Cluster that is down                | `Unreachable`      | are spilled    |
//! | lets every connection of this process wait                                     | `Unreachable`      | are spilled    |
//! | does not answer within `spill-after` (held or not: nobody knows, see identity) | `TimedOut`         | are spilled    |
//! | has no room under the cap                                                      | `Full`             | 503            |
//! | is out of memory or disk, read-only, busy with a script, resharding            | `Refused`          | 503            |
//! | has too few replicas that confirm                                              | `TooFewReplicas`   | 503            |
//! | carries no dataset, or another                                                 | `NotRegistered`, … | 503, alarm     |
//! | is being filled by `systole drain`                                            | `BeingMoved`       | 503            |
//! | refuses the password, is unfit to keep heartbeats, answers nonsense            | `Unsafe`, …        | 503, alarm     |
//!
//! # On disk
//!
//! `spill-dir` is an embedded buffer (`buffer/embedded`), format and all: its lock keeps a second process out, its claims
//! and dead letters make going into Redis crash-safe. Its files may take some 200 MiB more than the frames in them, and it
//! takes nothing in while less than 256 MiB of the disk are free. `tokens.json` beside it is a copy of the tokens (`tokens.rs`).
//!
//! # Operations
//!
//! The store takes some 64 MiB of memory, what goes into Redis some 10 MiB.
//!
//! [`start`] opens the spill, looks at Redis once, and gives a [`SpillingInlet`] for the committer, [`SpilledFrames`] for
//! readers, and a [`SpillService`] to run. The inlet pushes to Redis until it is away for one push, then to the spill without asking Redis; the service
//! asks Redis once a second, and once it is back and judged fit, pushes go there again and the spill goes in beside them.
//!
//! # Where it may die, and what then holds
//!
//! | it dies …                                        | what stands                           | then                      |
//! | ------------------------------------------------ | ------------------------------------- | ------------------------- |
//! | while it spills (`buffer.commit`, `.committed`)  | the frame or not, unanswered          | the client sends it again |
//! | after claiming from the spill (`spill.claimed`)  | the claim                             | it is handed back         |
//! | after Redis holds the frames (`spill.pushed`)    | the frames in Redis, and in the claim | pushed again; identity    |
//! | after the acknowledgement (`spill.acked`)        | the frames in Redis                   | nothing is left to do     |
//!
//! The books of the spill are a ledger of its own: `audit` sees its heartbeats once they are in Redis. A frame that the disk
//! damaged becomes a dead letter of the spill, which `/health` names.

mod board;
mod course;
mod frames;
mod inject;
mod inlet;
mod metrics;
mod options;
mod service;
mod shared;
mod store;
mod tokens;

pub use frames::SpilledFrames;
pub use inlet::SpillingInlet;
pub use metrics::Metrics;
pub use options::Options;
pub use service::{SpillService, start};
pub use tokens::TokenCopy;
