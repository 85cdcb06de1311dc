//! Judges each request by what is known of the tokens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use prometheus::Registry;

use super::super::Error;
use super::credentials::Credentials;
use super::metrics::Metrics;
use super::options::{Anonymous, Exposure};
use super::site;
use super::snapshot::{Fault, Grant, Snapshot};
use crate::token::{Presented, Scope, TokenList};

/// Judges requests. A cheap handle: all that share it see the same tokens.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Who may come in while there is no token.
    anonymous: Anonymous,
    known: ArcSwap<Known>,
    metrics: Option<Metrics>,
}

/// What is known of the tokens.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) tokens: Snapshot,
}

/// Whether a token is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody knows yet.
    Unread,
    /// There is none, and none was ever seen: anybody is let in.
    Open,
    /// One of those known.
    Guarded,
    /// There were some, and the store has forgotten even that.
    Erased,
}

impl State {
    /// What it is after a list was read.
    fn after(self, list: &TokenList, anonymous: Anonymous) -> Self {
        match self {
            _ if !list.tokens.is_empty() => Self::Guarded,
            Self::Guarded | Self::Erased if list.version.is_none() => Self::Erased,
            Self::Unread | Self::Open if anonymous != Anonymous::Nobody => Self::Open,
            _ => Self::Guarded,
        }
    }
}

/// Somebody who is let in.
#[derive(Debug, Clone)]
pub(in crate::http) enum Pass {
    /// Without a token, where none is needed.
    Anybody,
    /// By a token.
    Token(Arc<Grant>),
}

impl Pass {
    /// Whether it is about the heartbeats of every user.
    pub(in crate::http) fn is_about_all(&self) -> bool {
        match self {
            Self::Anybody => true,
            Self::Token(grant) => grant.is_about_all(),
        }
    }

    /// Whether it is about the heartbeats of this user.
    pub(in crate::http) fn is_about(&self, user: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Token(grant) => grant.is_about(user),
        }
    }
}

/// Why somebody is turned away. The names stand as a metric label: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// No token.
    Missing,
    /// Something that is none.
    Malformed,
    /// One that there is not, or not any more.
    Unknown,
    /// The secret is another.
    Wrong,
    /// Its time is over.
    Expired,
    /// A good one, for something else.
    Scope(Scope),
    /// Who may come in has not been read yet.
    Unread,
    /// Who may come in was erased.
    Erased,
    /// Another site may have had a browser send it, where no token is needed.
    OtherSite,
    /// It was asked by a name that may be somebody else's, where no token is needed.
    OtherName,
}

impl Refusal {
    /// Every name.
    pub(super) const NAMES: [&'static str; 10] = [
        "missing",
        "malformed",
        "unknown",
        "wrong",
        "expired",
        "scope",
        "unread",
        "erased",
        "other_site",
        "other_name",
    ];

    /// The place of its name among them.
    pub(super) const fn number(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Malformed => 1,
            Self::Unknown => 2,
            Self::Wrong => 3,
            Self::Expired => 4,
            Self::Scope(_) => 5,
            Self::Unread => 6,
            Self::Erased => 7,
            Self::OtherSite => 8,
            Self::OtherName => 9,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unknown => Self::Unknown,
            Fault::Wrong => Self::Wrong,
            Fault::Expired => Self::Expired,
        }
    }
}

impl Gate {
    /// A gate for a listener that knows no tokens.
    ///
    /// # Errors
    /// [`Error::Exposed`] when other machines reach the address and nobody has allowed that.
    pub fn open(exposure: &Exposure, listen: SocketAddr) -> Result<Self, Error> {
        exposure.check_without_tokens(listen)?;
        Ok(Self::new(State::Open, exposure.at(listen), None))
    }

    /// A gate of a listener that lets nobody in until the tokens were read, and as long as there are none whoever may come in
    /// without.
    ///
    /// # Errors
    /// A name of its metrics is taken.
    pub fn shut(exposure: &Exposure, listen: SocketAddr, registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self::new(State::Unread, exposure.at(listen), Some(Metrics::register(registry)?)))
    }

    fn new(state: State, anonymous: Anonymous, metrics: Option<Metrics>) -> Self {
        let known = ArcSwap::from_pointee(Known { state, tokens: Snapshot::default() });
        Self { shared: Arc::new(Shared { anonymous, known, metrics }) }
    }

    /// Takes in what was read of the tokens.
    pub fn take(&self, list: &TokenList) {
        let state = self.known().state.after(list, self.shared.anonymous);
        let tokens = Snapshot::read(list);
        if let Some(metrics) = &self.shared.metrics {
            metrics.known(tokens.len());
        }
        self.shared.known.store(Arc::new(Known { state, tokens }));
    }

    pub(super) fn known(&self) -> Arc<Known> {
        self.shared.known.load_full()
    }

    /// Says when the tokens were last read.
    pub(super) fn age(&self, age: Option<Duration>) {
        if let Some(metrics) = &self.shared.metrics {
            metrics.age(age);
        }
    }

    /// Lets a request in for this purpose, or not.
    pub(in crate::http) fn judge(&self, request: &HttpRequest, scope: Scope) -> Result<Pass, Refusal> {
        self.counted(self.decide_on(request, scope))
    }

    /// The same for what stands elsewhere than in the request's head.
    pub(in crate::http) fn judge_presented(
        &self,
        presented: impl FnOnce() -> Credentials,
        scope: Scope,
    ) -> Result<Pass, Refusal> {
        self.counted(self.decide(presented, scope))
    }

    fn counted(&self, judged: Result<Pass, Refusal>) -> Result<Pass, Refusal> {
        judged.inspect_err(|refusal| {
            if let Some(metrics) = &self.shared.metrics {
                metrics.refused(*refusal);
            }
        })
    }

    /// Whether a request may see what is for this purpose only. Who may not is not turned away, but shown less.
    pub(in crate::http) fn lets_see(&self, request: &HttpRequest, scope: Scope) -> bool {
        self.decide_on(request, scope).is_ok()
    }

    fn decide_on(&self, request: &HttpRequest, scope: Scope) -> Result<Pass, Refusal> {
        let pass = self.decide(|| Credentials::of(request), scope)?;
        if matches!(pass, Pass::Anybody) {
            site::judge(request, self.shared.anonymous == Anonymous::Anybody)?;
        }
        Ok(pass)
    }

    fn decide(&self, presented: impl FnOnce() -> Credentials, scope: Scope) -> Result<Pass, Refusal> {
        let known = self.shared.known.load();
        match known.state {
            State::Unread => Err(Refusal::Unread),
            State::Erased => Err(Refusal::Erased),
            State::Open => Ok(Pass::Anybody),
            State::Guarded => match presented() {
                Credentials::None => Err(Refusal::Missing),
                Credentials::Unreadable => Err(Refusal::Malformed),
                Credentials::Token(presented) => allow(&known.tokens, &presented, scope),
            },
        }
    }
}

fn allow(tokens: &Snapshot, presented: &Presented, scope: Scope) -> Result<Pass, Refusal> {
    let grant = tokens.judge(presented, Timestamp::now())?;
    if !grant.has(scope) {
        return Err(Refusal::Scope(scope));
    }
    tracing::debug!(token = %grant.id, scope = scope.as_str(), "let in");
    Ok(Pass::Token(Arc::clone(grant)))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::AUTHORIZATION;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::token::{Secret, StoredToken, Token, TokenVersion, Users};

    fn list(tokens: Vec<StoredToken>) -> TokenList {
        TokenList { version: Some(TokenVersion::new()), tokens }
    }

    fn made(scope: Scope) -> (StoredToken, HttpRequest) {
        let (id, secret) = Secret::mint().unwrap();
        let users = if scope.is_about_users() { Users::All } else { Users::These([].into()) };
        let (hash, created, expires, note) = (secret.hash(), Timestamp::UNIX_EPOCH, None, String::new());
        let token = Token { id, hash, scopes: [scope].into(), users, created, expires, note };
        let line = format!("Bearer {}", secret.text(id));
        (token.store().unwrap(), TestRequest::post().insert_header((AUTHORIZATION, line)).to_http_request())
    }

    fn nothing() -> HttpRequest {
        TestRequest::post().to_http_request()
    }

    fn shut(anonymous: bool) -> Gate {
        let listen = if anonymous { ([127, 0, 0, 1], 0) } else { ([10, 0, 0, 1], 0) };
        Gate::shut(&Exposure { allow_anonymous: false }, listen.into(), &Registry::new()).unwrap()
    }

    #[test]
    fn nobody_is_let_in_before_the_tokens_were_read() {
        let (gate, (_, asked)) = (shut(true), made(Scope::Write));
        assert_eq!(gate.judge(&asked, Scope::Write).unwrap_err(), Refusal::Unread);
        gate.take(&TokenList::default());
        assert!(matches!(gate.judge(&nothing(), Scope::Admin), Ok(Pass::Anybody)));
    }

    #[test]
    fn without_a_token_nobody_is_let_in_where_that_was_not_allowed() {
        let gate = shut(false);
        gate.take(&TokenList::default());
        assert_eq!(gate.judge(&nothing(), Scope::Write).unwrap_err(), Refusal::Missing);
    }

    #[test]
    fn a_scope_opens_one_door_only() {
        let (writer, admin) = (made(Scope::Write), made(Scope::Admin));
        let gate = shut(true);
        gate.take(&list(vec![writer.0, admin.0]));
        assert!(matches!(gate.judge(&writer.1, Scope::Write), Ok(Pass::Token(_))));
        assert_eq!(gate.judge(&writer.1, Scope::Admin).unwrap_err(), Refusal::Scope(Scope::Admin));
        assert_eq!(gate.judge(&admin.1, Scope::Write).unwrap_err(), Refusal::Scope(Scope::Write));
        assert!(gate.lets_see(&admin.1, Scope::Admin) && !gate.lets_see(&writer.1, Scope::Admin));
    }

    #[test]
    fn once_a_token_was_seen_the_gate_never_opens_again() {
        let (stored, asked) = made(Scope::Write);
        let gate = shut(true);
        gate.take(&TokenList::default());
        gate.take(&list(vec![stored.clone()]));
        gate.judge(&asked, Scope::Write).unwrap();
        gate.take(&list(Vec::new()));
        assert_eq!(gate.judge(&asked, Scope::Write).unwrap_err(), Refusal::Unknown, "revoked");
        assert_eq!(gate.judge(&nothing(), Scope::Write).unwrap_err(), Refusal::Missing);
        for _ in 0..2 {
            gate.take(&TokenList::default());
            assert_eq!(gate.judge(&asked, Scope::Write).unwrap_err(), Refusal::Erased);
        }
        gate.take(&list(vec![stored]));
        gate.judge(&asked, Scope::Write).unwrap();
    }
}
