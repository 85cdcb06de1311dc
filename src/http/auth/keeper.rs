//! Keeps a gate's tokens those of the buffer.
//!
//! Constraint: it only reads, and one call is under way at a time. A list that has not changed costs one small answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::gate::{Gate, State};
use super::options::{Anonymous, Options, is_loopback};
use crate::buffer::spill::TokenCopy;
use crate::buffer::{self, Tokens};
use crate::telemetry::health::{Affects, Health, Reporter};
use crate::token::{TokenId, TokenList, TokenVersion};

/// How long a start waits for the first look. A buffer that hangs must not keep `/health` from answering.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How long a look may take beyond its pause before the board calls the keeper silent: longer than a step's deadline.
const SILENCE: Duration = Duration::from_secs(60);
/// Ids that a message names before it only counts.
const NAMED: usize = 5;

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    gate: Gate,
    source: Arc<dyn Tokens>,
    copy: Option<TokenCopy>,
    options: Options,
    /// Whether anybody may come in while there is no token.
    anonymous: Anonymous,
    health: Health,
    memory: Mutex<Memory>,
}

/// What is kept from look to look.
#[derive(Debug)]
struct Memory {
    reporter: Reporter,
    affects: Affects,
    /// The version in the gate.
    version: Option<TokenVersion>,
    read_at: Option<Instant>,
    /// The version in the copy, once one was written.
    copied: Option<Option<TokenVersion>>,
    /// Why the last look failed.
    fault: Option<buffer::Error>,
    state: State,
}

impl Keeper {
    /// Makes the gate of a listener at `listen`, and looks at the tokens once, so that a start in good order is let in from
    /// the first request on. Without a buffer in reach they are those that `copy` remembers; else nobody is let in yet.
    ///
    /// # Errors
    /// [`Error::Exposed`] when other machines reach the address and there is no token; [`Error::Setting`];
    /// [`Error::Metrics`].
    pub async fn start(
        listen: SocketAddr,
        options: &Options,
        source: Arc<dyn Tokens>,
        copy: Option<TokenCopy>,
        health: &Health,
        registry: &Registry,
    ) -> Result<(Gate, Self), Error> {
        options.check()?;
        let anonymous = options.exposure.at(listen);
        let gate = Gate::shut(&options.exposure, listen, registry)?;
        let keeper = Self {
            gate: gate.clone(),
            source,
            copy,
            options: options.clone(),
            anonymous,
            health: health.clone(),
            memory: Mutex::new(Memory {
                reporter: health.part("tokens", Affects::Readiness, *options.token_refresh + SILENCE),
                affects: Affects::Readiness,
                version: None,
                read_at: None,
                copied: None,
                fault: None,
                state: State::Unread,
            }),
        };
        if tokio::time::timeout(FIRST_LOOK, keeper.look()).await.is_err() {
            keeper.lock().fault = Some(buffer::Error::TimedOut { after: FIRST_LOOK });
        }
        if keeper.lock().read_at.is_none() {
            keeper.remember().await;
        }
        if anonymous == Anonymous::Nobody && keeper.lock().read_at.is_some() && gate.known().tokens.len() == 0 {
            let advice = "there is no token, so anybody could write: make one with `systole token create`, listen on \
                          127.0.0.1, or say --allow-anonymous";
            return Err(Error::Exposed { address: listen, advice });
        }
        Ok((gate, keeper))
    }

    /// Warns where tokens cross the network in the clear.
    pub fn warn_without_tls(&self, listen: SocketAddr, tls: bool) {
        if !tls && !is_loopback(listen) && self.gate.known().state != State::Open {
            tracing::warn!(
                address = %listen,
                "tokens come in without TLS on an address that other machines reach: whoever listens on the way has them"
            );
        }
    }

    /// Reads the tokens again and again until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(*self.options.token_refresh) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    /// Looks once, and tells the gate, the board and the log.
    async fn look(&self) {
        let known = self.lock().version;
        match self.source.tokens(known).await {
            Err(error) => self.lock().fault = Some(error),
            Ok(changed) => {
                if let Some(list) = &changed {
                    self.take(list);
                }
                let version = {
                    let mut memory = self.lock();
                    (memory.read_at, memory.fault) = (Some(Instant::now()), None);
                    if let Some(list) = &changed {
                        memory.version = list.version;
                    }
                    memory.version
                };
                if let (Some(list), Some(copy)) = (changed, &self.copy)
                    && self.lock().copied != Some(version)
                {
                    // What could not be written is tried again with the next change; the copy is gone until then.
                    copy.write(list).await;
                    self.lock().copied = Some(version);
                }
            }
        }
        self.tell();
    }

    /// Hands a list to the gate, and says in the log what is new in it: who made and revoked tokens did so elsewhere.
    fn take(&self, list: &TokenList) {
        let before = self.gate.known();
        self.gate.take(list);
        let now = self.gate.known();
        let (new, gone) = (now.tokens.beyond(&before.tokens), before.tokens.beyond(&now.tokens));
        if !new.is_empty() || !gone.is_empty() {
            tracing::info!(
                new = named(&new),
                revoked = named(&gone),
                known = now.tokens.len(),
                "the tokens have changed"
            );
        }
    }

    /// Takes what an earlier process saw last.
    async fn remember(&self) {
        let Some(copy) = &self.copy else { return self.tell() };
        // That there were none then does not say that there are none now.
        if let Some(list) =
            copy.read().await.filter(|list| self.anonymous != Anonymous::Nobody || !list.tokens.is_empty())
        {
            self.take(&list);
            tracing::warn!("the tokens are those that were last seen before this start, until the buffer is back");
        }
        self.tell();
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Each change is one assignment, so a poisoned lock still holds whole values.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let known = self.gate.known();
        let mut memory = self.lock();
        self.gate.age(memory.read_at.map(|read_at| read_at.elapsed()));
        log_change(memory.state, known.state);
        memory.state = known.state;
        let affects = match known.state {
            State::Unread | State::Erased => Affects::Readiness,
            State::Open | State::Guarded => Affects::Health,
        };
        if memory.affects != affects {
            memory.reporter = self.health.part("tokens", affects, *self.options.token_refresh + SILENCE);
            memory.affects = affects;
        }
        let unreadable = known.tokens.unreadable();
        match self.trouble(&memory, known.state) {
            Some(trouble) => memory.reporter.unwell(trouble),
            None if !unreadable.is_empty() => {
                memory.reporter.unwell(format!(
                    "{} tokens cannot be read by this version and let nobody in: {}",
                    unreadable.len(),
                    named(unreadable)
                ));
            }
            None => memory.reporter.well(match (known.state, known.tokens.len()) {
                (State::Open, _) => "there are none: anybody is let in".to_owned(),
                (_, 0) => "there are none: nobody is let in; `systole token create` makes one".to_owned(),
                (_, count) => format!("{count} known"),
            }),
        }
    }

    fn trouble(&self, memory: &Memory, state: State) -> Option<String> {
        let why = || memory.fault.as_ref().map_or_else(String::new, |fault| format!(": {fault}"));
        match (state, memory.read_at) {
            (State::Unread, _) => Some(format!("not read yet, so nobody is let in{}", why())),
            (State::Erased, _) => Some(
                "they were erased under a running process: nobody is let in until there are some again (`systole token \
                 create`), or the process is restarted"
                    .to_owned(),
            ),
            (_, None) => Some(format!("those last seen before the start: later revocations are not in force{}", why())),
            (_, Some(read_at)) if read_at.elapsed() > *self.options.token_stale_after => {
                let age_s = read_at.elapsed().as_secs();
                Some(format!("last read {age_s} s ago: revocations since then are not in force{}", why()))
            }
            _ => None,
        }
    }
}

fn named(ids: &[TokenId]) -> String {
    let named: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if ids.len() > NAMED { format!(" and {} more", ids.len() - NAMED) } else { String::new() };
    named.join(", ") + &more
}

fn log_change(before: State, now: State) {
    match (before, now) {
        (before, now) if before == now => {}
        (_, State::Open) => tracing::info!("there is no token: anybody is let in"),
        (_, State::Guarded) => tracing::info!("a token is needed from now on"),
        (_, State::Erased) => tracing::error!(
            "the tokens were erased under a running process: nobody is let in until there are some again, or it is restarted"
        ),
        (_, State::Unread) => {}
    }
}
