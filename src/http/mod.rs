//! The edge: heartbeats in, answers out; health and metrics beside them.
//!
//! Constraints:
//! - 202 is sent only when [`Intake::accept`](crate::buffer::Intake::accept) said that every heartbeat of the request
//!   that counts as accepted is held. Whatever happens after that, nothing of it depends on this module.
//! - This is the only module that knows status codes, and `problem.rs` the only file that chooses one for a refusal.
//! - Memory is bounded: bodies, what they inflate to, the heartbeats made of them and what is answered share one byte
//!   budget until the answer is taken; rate limiters have a hard key cap; connections are counted, and each is bounded in
//!   what it may hold before there is a request, and for how long.
//! - Nothing that a client sends reaches a log line above debug level or a metric label.
//!
//! The way of a request: `tls`, if it is on, and the framework make it one; `access` gives it an id, counts and times it →
//! `routes` finds the handler → `ingest` asks `limits` about the client's address (`client`), then `auth` about its token →
//! `body` reads, within `budget` and deadline → `digest` turns bytes into heartbeats by `inflate` and `split`, off the async
//! threads when that is much work → `keep` leaves out users that the token is not about → `admit` asks `limits` about the
//! others → the buffer → `answer` or `problem`. A question goes from `limits` and `auth` to `read`, or to `devices`.

mod accept;
mod access;
mod admit;
mod answer;
mod arriving;
pub mod auth;
mod body;
mod budget;
mod client;
mod connection;
mod devices;
mod digest;
mod error;
mod framing;
mod inflate;
mod ingest;
mod keep;
pub mod limits;
mod login;
mod metrics;
mod openapi;
mod ops;
mod options;
mod outgoing;
mod page;
mod preference;
mod problem;
mod pulse;
mod read;
mod request_id;
mod routes;
mod server;
mod services;
pub(crate) mod split;
mod status;
mod stream;
pub mod tls;

pub use error::Error;
pub use options::Options;
pub use server::{OpsServer, Server};
pub use services::Services;
