//! The gate: when a request is judged, and what becomes of it while the buffer is away.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use systole::buffer::{self, Tokens};
use systole::http::Error;
use systole::http::auth::{Exposure, Gate, Keeper, Options};
use systole::telemetry::health::{Affects, Health};
use systole::telemetry::metrics;
use systole::token::{Scope, Secret, StoredToken, Token, TokenId, TokenList, TokenVersion, Users};
use tokio_util::sync::CancellationToken;

use crate::harness::{Edge, PATIENCE, Wire, record, send};

/// A token for everybody's heartbeats: as kept, and as presented.
fn made(scope: Scope) -> (StoredToken, String) {
    made_for(scope, if scope.is_about_users() { Users::All } else { Users::These([].into()) })
}

/// The same for these users.
pub fn made_for(scope: Scope, users: Users) -> (StoredToken, String) {
    let (id, secret) = Secret::mint().unwrap();
    let (created, expires, note) = (jiff::Timestamp::UNIX_EPOCH, None, String::new());
    let token = Token { id, hash: secret.hash(), scopes: [scope].into(), users, created, expires, note };
    (token.store().unwrap(), format!("Bearer {}", secret.text(id)))
}

fn list(tokens: Vec<StoredToken>) -> TokenList {
    TokenList { version: Some(TokenVersion::new()), tokens }
}

pub fn gate(tokens: Vec<StoredToken>) -> Gate {
    let gate =
        Gate::shut(&Exposure { allow_anonymous: true }, ([127, 0, 0, 1], 0).into(), &metrics::registry().unwrap())
            .unwrap();
    gate.take(&list(tokens));
    gate
}

#[tokio::test]
async fn who_has_no_token_is_told_before_the_body_is_read() {
    let (stored, bearer) = made(Scope::Write);
    let edge = Edge::behind(gate(vec![stored]), |_, _| {}).await;
    let mut wire = Wire::open(&edge).await;
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{").await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("\r\nwww-authenticate: Bearer realm=\"systole\"\r\n"), "{answer}");
    // Nothing of a request without a token is looked at, so nothing of it is told.
    let odd = send(edge.post("{").header("Content-Type", "text/html").header("Content-Encoding", "br")).await;
    assert_eq!(odd.problem(), "unauthorized");
    let good = send(edge.post(record("u")).header("Authorization", bearer)).await;
    assert_eq!((good.status, edge.recorder.users()), (202, vec!["u".to_owned()]));
    edge.stop().await;
}

#[tokio::test]
async fn guessing_counts_against_the_address() {
    let (stored, bearer) = made(Scope::Write);
    let edge = Edge::behind(gate(vec![stored]), |_, rates| (rates.address_rate, rates.address_burst) = (1, 3)).await;
    let guess = async || send(edge.post(record("u")).header("Authorization", made(Scope::Write).1)).await.status;
    assert_eq!([guess().await, guess().await, guess().await, guess().await], [401, 401, 401, 429]);
    let answer = send(edge.post(record("u")).header("Authorization", bearer)).await;
    assert_eq!(answer.status, 429, "the address has used up its allowance");
    edge.stop().await;
}

/// A store that a test makes fail or hang.
#[derive(Debug, Default)]
struct Fickle {
    list: Mutex<TokenList>,
    fault: Mutex<Option<buffer::Error>>,
    hangs: bool,
}

#[async_trait]
impl Tokens for Fickle {
    async fn tokens(&self, known: Option<TokenVersion>) -> buffer::Result<Option<TokenList>> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        let list = self.list.lock().unwrap().clone();
        Ok((list.version.is_none() || list.version != known).then_some(list))
    }

    async fn create_token(&self, _: &StoredToken) -> buffer::Result<bool> {
        unreachable!("the edge makes no tokens")
    }

    async fn revoke_token(&self, _: TokenId) -> buffer::Result<bool> {
        unreachable!("the edge revokes no tokens")
    }
}

fn options() -> Options {
    let ms = |ms| humantime::Duration::from(Duration::from_millis(ms));
    Options { token_refresh: ms(100), token_stale_after: ms(300), ..Options::default() }
}

async fn start(store: &Arc<Fickle>, listen: &str, health: &Health) -> Result<(Gate, Keeper), Error> {
    let registry = metrics::registry().unwrap();
    Keeper::start(listen.parse().unwrap(), &options(), store.clone(), None, health, &registry).await
}

fn part(health: &Health) -> (bool, Affects, String) {
    let part = health.snapshot().into_iter().find(|part| part.name == "tokens").unwrap();
    (part.ok, part.affects, part.detail)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn while_the_buffer_is_away_the_last_tokens_stay_in_force_and_health_says_so() {
    let ((kept, kept_bearer), (gone, gone_bearer)) = (made(Scope::Write), made(Scope::Write));
    let store = Arc::new(Fickle { list: list(vec![kept.clone(), gone]).into(), ..Fickle::default() });
    let health = Health::new();
    let (gate, keeper) = start(&store, "127.0.0.1:80", &health).await.unwrap();
    let edge = Edge::behind(gate, |_, _| {}).await;
    let stop = CancellationToken::new();
    let keeping = tokio::spawn({
        let stop = stop.clone();
        async move { keeper.run(stop).await }
    });
    let status = async |bearer: &str| send(edge.post(record("u")).header("Authorization", bearer)).await.status;
    assert_eq!(part(&health), (true, Affects::Health, "2 known".to_owned()));

    *store.fault.lock().unwrap() = Some(buffer::Error::Unreachable { reason: "no route to it".into() });
    *store.list.lock().unwrap() = list(vec![kept]);
    until("health to name old tokens", || !part(&health).0).await;
    let (_, affects, detail) = part(&health);
    assert_eq!(affects, Affects::Health, "heartbeats are still taken in");
    assert!(detail.contains("revocations since then") && detail.contains("no route to it"), "{detail}");
    assert_eq!((status(&gone_bearer).await, status(&kept_bearer).await), (202, 202));

    *store.fault.lock().unwrap() = None;
    until("the revocation", || part(&health).2 == "1 known").await;
    assert_eq!((status(&gone_bearer).await, status(&kept_bearer).await), (401, 202));

    *store.list.lock().unwrap() = TokenList::default();
    until("an erased store", || part(&health).1 == Affects::Readiness).await;
    assert_eq!((status(&kept_bearer).await, part(&health).0), (503, false));
    stop.cancel();
    keeping.await.unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn a_buffer_that_hangs_delays_no_start_and_opens_no_door() {
    for listen in ["127.0.0.1:80", "0.0.0.0:80"] {
        let (health, began) = (Health::new(), Instant::now());
        let (gate, _keeper) =
            start(&Arc::new(Fickle { hangs: true, ..Fickle::default() }), listen, &health).await.unwrap();
        assert!(began.elapsed() < PATIENCE / 2);
        let (ok, affects, detail) = part(&health);
        assert!(!ok && affects == Affects::Readiness && detail.contains("nobody is let in"), "{detail}");
        let edge = Edge::behind(gate, |_, _| {}).await;
        let answer = send(edge.post(record("u"))).await;
        assert_eq!((answer.status, answer.problem()), (503, "tokens-unavailable"));
        edge.stop().await;
    }
}

#[tokio::test]
async fn without_a_token_an_address_that_others_reach_is_refused_and_loopback_is_open() {
    let store = Arc::new(Fickle::default());
    let refused = start(&store, "192.0.2.1:80", &Health::new()).await;
    assert!(matches!(refused, Err(Error::Exposed { .. })));
    let (gate, _keeper) = start(&store, "[::1]:80", &Health::new()).await.unwrap();
    let edge = Edge::behind(gate, |_, _| {}).await;
    assert_eq!(send(edge.post(record("u"))).await.status, 202);
    edge.stop().await;
    *store.list.lock().unwrap() = list(vec![made(Scope::Admin).0]);
    start(&store, "192.0.2.1:80", &Health::new()).await.unwrap();
}
