//! `systole token`: who may write and read. Made, listed and revoked in the buffer, which every server reads.
//!
//! Constraints: a secret is written to standard output once, by `create`, and nowhere else. What was made and revoked is
//! logged by id, for the audit trail.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tracing::info;

use super::{Done, Failure, Outcome, output, place};
use crate::buffer::Tokens as Store;
use crate::cli::token::{CreateToken, ListTokens, RevokeTokens, TokenAction, Tokens};
use crate::token::{self, Scope, Secret, StoredToken, Token, TokenId, Users};

/// Tries for an id that nobody has. One in ten thousand million tokens meets one that is taken.
const TRIES: usize = 3;

/// Runs one action.
pub async fn run(args: Tokens) -> Outcome {
    match args.action {
        TokenAction::Create(create) => make(create).await,
        TokenAction::List(of) => list(of).await,
        TokenAction::Revoke(some) => revoke(some).await,
    }
}

impl From<token::Error> for Failure {
    fn from(error: token::Error) -> Self {
        match error {
            token::Error::Randomness(_) => Self::OutOfReach(error.to_string()),
            token::Error::Rule(_) | token::Error::Unreadable { .. } => Self::Usage(error.to_string()),
        }
    }
}

/// A token as people see it.
#[derive(Debug, Serialize)]
struct Shown {
    id: TokenId,
    scopes: BTreeSet<Scope>,
    /// `null` for everybody.
    users: Option<BTreeSet<String>>,
    created: Timestamp,
    expires: Option<Timestamp>,
    expired: bool,
    note: String,
}

impl Shown {
    fn of(token: Token) -> Self {
        let expired = token.has_expired(Timestamp::now());
        let Token { id, hash: _, scopes, users, created, expires, note } = token;
        let users = match users {
            Users::All => None,
            Users::These(users) => Some(users),
        };
        Self { id, scopes, users, created, expires, expired, note }
    }

    fn line(&self) -> String {
        let Self { id, scopes, users, created, expires, expired, note } = self;
        let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let users = match users {
            None => "all users".to_owned(),
            Some(users) if users.is_empty() => "no users".to_owned(),
            Some(users) => users.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        };
        let ends = match expires {
            None => "never expires".to_owned(),
            Some(expires) if *expired => format!("expired {expires}"),
            Some(expires) => format!("expires {expires}"),
        };
        let note = if note.is_empty() { String::new() } else { format!("  {note}") };
        format!("{id}  {}  {users}  made {created}  {ends}{note}", scopes.join(","))
    }
}

#[derive(Debug, Serialize)]
struct Made {
    /// The whole secret text. It is nowhere else.
    token: String,
    #[serde(flatten)]
    shown: Shown,
}

async fn make(create: CreateToken) -> Outcome {
    // Judged before anything is looked at, so that a wrong flag is told also while the buffer is away.
    new_token(&create)?;
    let store = place::tokens_to_make(&create.of.dataset, &create.of.buffer, &create.of.redis).await?;
    for _ in 0..TRIES {
        let (token, secret) = new_token(&create)?;
        if !store.create_token(&token.store()?).await? {
            continue;
        }
        info!(token = %token.id, scopes = ?token.scopes, "made a token");
        let made = Made { token: secret.text(token.id), shown: Shown::of(token) };
        if create.of.output.json {
            output::json(&made)?;
        } else {
            output::line(&made.token)?;
        }
        close(store).await;
        return Ok(Done::Well);
    }
    Err(Failure::OutOfReach("no free id was found for the token; try again".into()))
}

fn new_token(create: &CreateToken) -> Result<(Token, Secret), Failure> {
    let created = now_in_seconds();
    let ahead = |expiry: crate::cli::token::Expiry| {
        let wrong = || Failure::Usage("expires: it must lie ahead, and before the year 10000".into());
        expiry.instant(created).ok_or_else(wrong)
    };
    let expires = create.expires.map(ahead).transpose()?;
    let (id, secret) = Secret::mint()?;
    let users = if create.all_users { Users::All } else { Users::These(create.user.iter().cloned().collect()) };
    let scopes = create.scope.iter().copied().collect();
    let token = Token { id, hash: secret.hash(), scopes, users, created, expires, note: create.note.clone() };
    token.check()?;
    Ok((token, secret))
}

/// People read these times.
fn now_in_seconds() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Listed {
    Token(Shown),
    /// A record that this version cannot read.
    Unreadable {
        id: TokenId,
        unreadable: String,
    },
}

impl Listed {
    fn of(stored: &StoredToken) -> Self {
        match Token::read(stored) {
            Ok(token) => Self::Token(Shown::of(token)),
            Err(error) => Self::Unreadable { id: stored.id, unreadable: error.to_string() },
        }
    }
}

async fn list(args: ListTokens) -> Outcome {
    let store = place::tokens_near(&args.of.dataset, &args.of.buffer, &args.of.redis).await?;
    let list = store.tokens(None).await?.unwrap_or_default();
    let listed: Vec<Listed> = list.tokens.iter().map(Listed::of).collect();
    if args.of.output.json {
        output::json(&listed)?;
    } else {
        for one in &listed {
            output::line(match one {
                Listed::Token(shown) => shown.line(),
                Listed::Unreadable { id, unreadable } => format!("{id}  {unreadable}"),
            })?;
        }
        output::line(format!("{} tokens", listed.len()))?;
    }
    close(store).await;
    Ok(Done::Well)
}

#[derive(Debug, Serialize)]
struct Revoked {
    revoked: Vec<TokenId>,
    unknown: Vec<TokenId>,
}

async fn revoke(args: RevokeTokens) -> Outcome {
    let store = place::tokens_near(&args.of.dataset, &args.of.buffer, &args.of.redis).await?;
    let (mut revoked, mut unknown) = (Vec::new(), Vec::new());
    for id in args.ids.into_iter().collect::<BTreeSet<_>>() {
        if store.revoke_token(id).await? {
            info!(token = %id, "revoked a token");
            revoked.push(id);
        } else {
            unknown.push(id);
        }
    }
    close(store).await;
    let missing: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    if args.of.output.json {
        output::json(&Revoked { revoked, unknown })?;
    } else {
        for id in &revoked {
            output::line(format!("revoked {id}"))?;
        }
    }
    if missing.is_empty() {
        return Ok(Done::Well);
    }
    // The others are revoked all the same.
    Err(Failure::Usage(format!("there is no token {}; `systole token list` shows those there are", missing.join(", "))))
}

/// Lets go of the store off the async threads: the last handle of an embedded one waits for the disk.
async fn close(store: Arc<dyn Store>) {
    // A panic there has been logged, and the process ends anyway.
    let _ = tokio::task::spawn_blocking(move || drop(store)).await;
}
