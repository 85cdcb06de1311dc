//! The compactor on a real dataset in a temporary folder, each file a promise.

mod consolidates;
mod crashes;
mod damage;
mod publishes;
mod support;
mod together;
mod watches;
