//! Places where a test can make the real binary die, fail or wait.
//!
//! Constraints: they stand in the released binary, so that tests break what users run; they cost one relaxed load while
//! unset; and they are refused, with an error at start, unless `SYSTOLE_TEST_SWITCH=on` is set beside them, so that a
//! stray variable can never arm one in production. This is the project's one piece of process-wide state.
//!
//! `SYSTOLE_FAILPOINTS` is a list such as `batcher.before_ack=kill;fragment.sync=error*2;publish.renamed=wait`:
//!
//! - `kill`: the process sends itself SIGKILL, as a power-off would: nothing is flushed.
//! - `error`: the step fails with ENOSPC. `*N` limits it to the first N hits.
//! - `wait`: the thread sleeps for ever, so that a test can act while the process stands there. `*N` likewise.
//! - `stop`: the process stops itself (SIGSTOP) and goes on from there once it is told to (SIGCONT). `*N` likewise.
//! - `panic`: the thread panics.
//! - `+N` before `*`: skips the first N hits, as in `kill+2`.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// A stop reaches all threads, this one too, a moment after it was asked for.
const STOP_TAKES: Duration = Duration::from_millis(50);

static ARMED: OnceLock<HashMap<String, Failpoint>> = OnceLock::new();

/// Why the failpoints of the environment were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SYSTOLE_FAILPOINTS: {0}")]
pub struct Error(String);

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Action {
    Kill,
    Error,
    Wait,
    Stop,
    Panic,
}

#[derive(Debug)]
struct Failpoint {
    action: Action,
    skip: u64,
    times: u64,
    hits: AtomicU64,
}

impl FromStr for Failpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |digits: &str| digits.parse().map_err(|_| Error(format!("`{digits}` in `{text}` is no number")));
        let (rest, times) = match text.split_once('*') {
            Some((rest, times)) => (rest, number(times)?),
            None => (text, u64::MAX),
        };
        let (name, skip) = match rest.split_once('+') {
            Some((name, skip)) => (name, number(skip)?),
            None => (rest, 0),
        };
        let action = match name {
            "kill" => Action::Kill,
            "error" => Action::Error,
            "wait" => Action::Wait,
            "stop" => Action::Stop,
            "panic" => Action::Panic,
            other => return Err(Error(format!("`{other}` is none of kill, error, wait, stop, panic"))),
        };
        Ok(Self { action, skip, times, hits: AtomicU64::new(0) })
    }
}

fn parse(list: &str) -> Result<HashMap<String, Failpoint>, Error> {
    list.split(';')
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| {
            let (name, action) =
                entry.split_once('=').ok_or_else(|| Error(format!("`{entry}` is not of the form name=action")))?;
            Ok((name.trim().to_owned(), action.trim().parse()?))
        })
        .collect()
}

/// Arms the failpoints of the environment. Called once, at the start of `main`.
///
/// # Errors
/// They are set without the test switch, or cannot be read.
pub fn arm_from_env() -> Result<(), Error> {
    let Ok(list) = std::env::var("SYSTOLE_FAILPOINTS") else {
        return Ok(());
    };
    if std::env::var("SYSTOLE_TEST_SWITCH").as_deref() != Ok("on") {
        return Err(Error("refused: it makes the process fail on purpose; unset it".into()));
    }
    // A second call keeps the first set.
    let armed = parse(&list)?;
    ARMED.get_or_init(|| armed);
    Ok(())
}

/// Marks a place; does what a test asked for there, mostly nothing.
///
/// It may sleep for ever, so it belongs on a thread that may block or before a step whose delay is part of the test.
///
/// # Errors
/// The test asked the step to fail.
pub fn reached(name: &str) -> io::Result<()> {
    let Some(failpoint) = ARMED.get().and_then(|armed| armed.get(name)) else {
        return Ok(());
    };
    let hit = failpoint.hits.fetch_add(1, Ordering::Relaxed);
    if hit < failpoint.skip || hit - failpoint.skip >= failpoint.times {
        return Ok(());
    }
    match failpoint.action {
        Action::Kill => {
            signal_self(Signal::KILL);
            wait_for_ever()
        }
        Action::Wait => wait_for_ever(),
        Action::Stop => {
            signal_self(Signal::STOP);
            std::thread::sleep(STOP_TAKES);
            Ok(())
        }
        Action::Error => Err(io::Error::from(rustix::io::Errno::NOSPC)),
        #[allow(clippy::panic, reason = "the test asked for exactly this")]
        Action::Panic => panic!("failpoint {name}"),
    }
}

/// The same from a task: on a thread that may block, when there is anything to do.
///
/// # Errors
/// Those of [`reached`]; the step panicked, on purpose.
pub async fn reached_by_task(name: &'static str) -> io::Result<()> {
    if ARMED.get().is_none_or(|armed| !armed.contains_key(name)) {
        return Ok(());
    }
    tokio::task::spawn_blocking(move || reached(name)).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

fn signal_self(signal: Signal) {
    // Of its own process, which is there: it cannot fail.
    let _ = kill_process(getpid(), signal);
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_a_typo_is_named() {
        let armed = parse("a.b=kill; c=error+1*2 ;").unwrap();
        assert_eq!(armed["a.b"].action, Action::Kill);
        assert_eq!((armed["c"].action, armed["c"].skip, armed["c"].times), (Action::Error, 1, 2));
        assert!(parse("a=explode").unwrap_err().to_string().contains("explode"));
        assert!(parse("a").is_err());
        assert!(parse("a=kill*x").is_err());
    }
}
