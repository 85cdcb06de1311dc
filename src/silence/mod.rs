//! Rules about silence: an event is raised when a device falls silent, cleared when it beats again, and each is delivered to
//! the rule's webhook.
//!
//! Constraints:
//! - One process watches at a time (`buffer::Alarms::watch`). A device is raised in the same atomic step that puts its event
//!   into the outbox, and so is it cleared: each event is there once, whatever dies, and delivered at least once, always under
//!   the same id.
//! - Only what was *seen live* is raised: at one look the device had beaten within the rule's `after` of that moment, and at a
//!   later one, unchanged, not any more (`policy.rs`). So late and old heartbeats raise nothing, however they arrive.
//! - No time counts in which the door was not open: a new watch, a look that failed, a heartbeat that was refused for the
//!   sake of Systole, a spill: from then on every device has `after` again. After one that was refused for its user's rate limit,
//!   every device of that user has (`door.rs`).
//! - Where events go is configuration alone, and nothing of a URL but its host is ever logged. No redirect is followed.
//! - Bounded: [`MAX_RULES`] rules; raised devices and undelivered events as `buffer` says; one delivery of a rule at a time and
//!   [`DELIVERIES_AT_ONCE`] in all, none older than a day (`lines.rs`); some lines of log for each look.
//!
//! Memory: a raised device and one that may be next take about 200 bytes, so 100,000 of each some 40 MB; an undelivered event
//! about 400 bytes, so 10,000 of them 4 MB. Nothing without rules.
//!
//! # Operations
//!
//! [`Rules::open`] reads what the rules name; [`Door`] is told of every refusal; [`Watcher`] is run; without
//! rules, [`Leftovers`] instead.
//!
//! # Where it may die, and what then holds
//!
//! | it dies …                                              | what stands                        | then                             |
//! | ------------------------------------------------------ | ---------------------------------- | -------------------------------- |
//! | before marking (`silence.marking`)                     | nothing                            | the next watch marks, or has     |
//! |                                                        |                                    | nothing to mark any more         |
//! | after marking, before delivery (`silence.marked`)      | the mark, and its event            | the next watch delivers it       |
//! | after delivery, before settling (`silence.delivered`)  | the same                           | it is delivered again, same id   |

mod deliver;
mod door;
mod leftovers;
mod lines;
mod metrics;
mod options;
mod policy;
mod rule;
mod session;
mod signature;
mod watcher;

pub use door::{Attended, Door};
pub use leftovers::{Leftovers, patience};
pub use metrics::Metrics;
pub use options::Options;
pub use rule::{MAX_RULES, Rule, Rules};
pub use watcher::Watcher;

/// Deliveries under way at the same time, over all rules.
pub const DELIVERIES_AT_ONCE: usize = 4;

/// What is wrong with the rules, or what they name: one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);
