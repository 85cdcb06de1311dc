//! Waiting for a condition: the one place of the harness that sleeps, apart from the start of Redis.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; fails after `deadline`, saying what was waited for.
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    value(what, deadline, || if condition() { Ok(()) } else { Err("not yet".to_owned()) });
}

/// Waits until `attempt` succeeds; fails after `deadline` with what was waited for and the last reason why not.
pub fn value<T>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if Instant::now() >= give_up => panic!("waited {deadline:?} for {what}; at last: {why}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// One pause between two looks, for a thread of the harness that waits for a word of the test.
pub fn a_moment() {
    std::thread::sleep(POLL);
}

/// Watches `condition` for the whole of `span` and fails as soon as it does not hold.
pub fn holds_for(what: &str, span: Duration, mut condition: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        if let Err(why) = condition() {
            panic!("{what} did not hold: {why}");
        }
        std::thread::sleep(POLL);
    }
}
