//! The tokens as they were read last, ready to be looked up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::token::{Presented, Scope, SecretHash, Token, TokenId, TokenList, Users};

/// What holding a token allows.
#[derive(Debug)]
pub(in crate::http) struct Grant {
    pub(super) id: TokenId,
    /// By the numbers of the scopes.
    scopes: [bool; Scope::ALL.len()],
    /// `None` for everybody's.
    users: Option<HashSet<Box<str>>>,
}

impl Grant {
    fn of(token: &Token) -> Self {
        let users = match &token.users {
            Users::All => None,
            Users::These(users) => Some(users.iter().map(|user| user.as_str().into()).collect()),
        };
        Self { id: token.id, scopes: Scope::ALL.map(|scope| token.scopes.contains(&scope)), users }
    }

    pub(super) fn has(&self, scope: Scope) -> bool {
        self.scopes[scope as usize]
    }

    /// Whether it is about the heartbeats of every user.
    pub(super) fn is_about_all(&self) -> bool {
        self.users.is_none()
    }

    /// Whether it is about the heartbeats of this user.
    pub(super) fn is_about(&self, user: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(user))
    }
}

/// Why what was presented is no token. For the books: whoever presented it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// None of this id: never made, or revoked.
    Unknown,
    /// Another secret.
    Wrong,
    /// Past its time.
    Expired,
}

#[derive(Debug)]
struct Entry {
    hash: SecretHash,
    expires: Option<Timestamp>,
    grant: Arc<Grant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    entries: HashMap<TokenId, Entry>,
    unreadable: Vec<TokenId>,
}

impl Snapshot {
    /// Reads the records. One that cannot be read is no token here.
    pub(super) fn read(list: &TokenList) -> Self {
        let mut snapshot = Self::default();
        for stored in &list.tokens {
            match Token::read(stored) {
                Ok(token) => {
                    let grant = Arc::new(Grant::of(&token));
                    snapshot.entries.insert(token.id, Entry { hash: token.hash, expires: token.expires, grant });
                }
                Err(_) => snapshot.unreadable.push(stored.id),
            }
        }
        snapshot
    }

    /// How many tokens there are, good for something or not.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.unreadable.len()
    }

    /// Those whose records could not be read.
    pub(super) fn unreadable(&self) -> &[TokenId] {
        &self.unreadable
    }

    /// The ids of tokens that are here and not in `other`.
    pub(super) fn beyond(&self, other: &Self) -> Vec<TokenId> {
        let mut ids: Vec<_> = self.entries.keys().filter(|id| !other.entries.contains_key(id)).copied().collect();
        ids.sort_unstable();
        ids
    }

    /// What somebody who presents this is allowed.
    pub(super) fn judge(&self, presented: &Presented, now: Timestamp) -> Result<&Arc<Grant>, Fault> {
        let found = self.entries.get(&presented.id);
        // One hash and one comparison in either case, so that the time does not tell which ids there are.
        let hash = found.map_or(&SecretHash::OF_NOBODY, |entry| &entry.hash);
        let same = presented.secret.hash().is(hash);
        let Some(entry) = found else { return Err(Fault::Unknown) };
        if !same {
            return Err(Fault::Wrong);
        }
        if entry.expires.is_some_and(|expires| expires <= now) {
            return Err(Fault::Expired);
        }
        Ok(&entry.grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Secret, StoredToken};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn made(scopes: &[Scope], users: &[&str], expires: Option<i64>) -> (StoredToken, Presented) {
        let (id, secret) = Secret::mint().unwrap();
        let token = Token {
            id,
            hash: secret.hash(),
            scopes: scopes.iter().copied().collect(),
            users: Users::These(users.iter().map(|&user| user.to_owned()).collect()),
            created: at(0),
            expires: expires.map(at),
            note: String::new(),
        };
        (token.store().unwrap(), Presented { id, secret })
    }

    #[test]
    fn a_token_is_known_by_id_and_secret_until_it_expires() {
        let (one, presented) = made(&[Scope::Write], &["ada"], Some(100));
        let (other, _) = made(&[Scope::Admin], &[], None);
        let snapshot = Snapshot::read(&TokenList { version: None, tokens: vec![one, other.clone()] });
        let grant = snapshot.judge(&presented, at(99)).unwrap();
        assert!(grant.has(Scope::Write) && !grant.has(Scope::Read) && !grant.has(Scope::Admin));
        assert!(grant.is_about("ada") && !grant.is_about("Ada") && !grant.is_about_all());
        assert_eq!(snapshot.judge(&presented, at(100)).unwrap_err(), Fault::Expired);
        let (_, stranger) = made(&[Scope::Write], &["ada"], None);
        assert_eq!(snapshot.judge(&stranger, at(0)).unwrap_err(), Fault::Unknown);
        let mixed = Presented { id: other.id, secret: presented.secret };
        assert_eq!(snapshot.judge(&mixed, at(0)).unwrap_err(), Fault::Wrong);
    }

    #[test]
    fn a_record_that_cannot_be_read_lets_nobody_in_and_hinders_no_other() {
        let (mut broken, presented) = made(&[Scope::Write], &["ada"], None);
        let (good, known) = made(&[Scope::Admin], &[], None);
        broken.text = broken.text.replace(r#""version":1"#, r#""version":7"#);
        let snapshot = Snapshot::read(&TokenList { version: None, tokens: vec![broken.clone(), good] });
        assert_eq!((snapshot.len(), snapshot.unreadable()), (2, &[broken.id][..]));
        assert_eq!(snapshot.judge(&presented, at(0)).unwrap_err(), Fault::Unknown);
        snapshot.judge(&known, at(0)).unwrap();
    }
}
