//! Who is let in: bearer tokens, looked up in what was last read of the buffer's.
//!
//! Constraints:
//! - A request is judged without a lock, without taking memory, and without asking anybody: by one hash and a look into a
//!   snapshot. A task of its own exchanges that ([`Keeper`]).
//! - Whoever is turned away learns only that: no token, one that is none, unknown, wrong, expired or revoked get the same
//!   answer. A token that is unknown costs the same work as one that is known.
//! - Where no token was ever seen anybody is let in, but only on an address that no other machine reaches, or where that was
//!   asked for in so many words; and no page that is open in a browser there comes in by it (`site`). Once a process has seen a token it never does so again, whatever becomes of the store:
//!   tokens that people revoked leave a list with a version behind, one without was erased, and then the answer is 503.
//! - Before the tokens were read for the first time nobody is let in (503): that there are none must be known.
//! - While the store is out of reach the last snapshot stays in force: a revocation waits until it is back, and `/health`
//!   says so. Expiry is judged by the clock at every request.
//! - No secret, and no `Authorization` or `Cookie` header, reaches a log line; a token's id only at debug level.
//! - A cookie holds a token of its own, no session: revoking the token ends it. It counts for GET and HEAD alone, so that no
//!   other site can have a browser write with it, and never beside an `Authorization` header.
//!
//! The way: `credentials` reads what is presented (`bearer`, `cookie`) → `gate` asks the `snapshot` → `problem.rs` has the words
//! of a refusal.

mod bearer;
pub(in crate::http) mod cookie;
mod credentials;
mod gate;
mod keeper;
mod metrics;
mod options;
pub(in crate::http) mod site;
mod snapshot;

pub(in crate::http) use credentials::Credentials;
pub use gate::Gate;
pub(in crate::http) use gate::{Pass, Refusal};
pub use keeper::Keeper;
pub use options::{Exposure, Options};
