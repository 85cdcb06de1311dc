//! What is kept of a token, and the rules that it obeys.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Scope, SecretHash, StoredToken, TokenId};
use crate::heartbeat::check_user_id;

/// Users that one token may be bound to.
pub const MAX_USERS: usize = 100;
/// Bytes of a note.
pub const MAX_NOTE_BYTES: usize = 200;
/// Bytes of a record as text.
pub const MAX_RECORD_BYTES: usize = 16 << 10;

/// The version of a record that this binary writes, and the only one that it reads.
const VERSION: u32 = 1;

/// Whose heartbeats a token is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Everybody's.
    All,
    /// Those of these users only.
    These(BTreeSet<String>),
}

/// A token as it is known to those who give and check it: all but its secret.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its name.
    pub id: TokenId,
    /// By which its secret is known.
    pub hash: SecretHash,
    /// What it is good for; at least one.
    pub scopes: BTreeSet<Scope>,
    /// Whose heartbeats it writes and reads.
    pub users: Users,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is good for nothing any more.
    pub expires: Option<Timestamp>,
    /// What people say of it; may be empty.
    pub note: String,
}

/// The text of a record. A field that this version does not know may restrict the token, so it is no record to it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    id: TokenId,
    hash: SecretHash,
    scopes: BTreeSet<Scope>,
    users: Option<BTreeSet<String>>,
    created: Timestamp,
    expires: Option<Timestamp>,
    note: String,
}

impl Token {
    /// Whether it is past its time.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Fails where it breaks a rule.
    ///
    /// # Errors
    /// [`Error::Rule`], naming what is allowed.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |rule: String| Err(Error::Rule(rule));
        if self.scopes.is_empty() {
            return refuse("scope: give at least one of write, read, admin".into());
        }
        let about_users = self.scopes.iter().any(|scope| scope.is_about_users());
        match &self.users {
            Users::All if !about_users => return refuse("all-users: the scope admin is about no users".into()),
            Users::These(users) if !about_users && !users.is_empty() => {
                return refuse("user: the scope admin is about no users".into());
            }
            Users::These(users) if about_users && users.is_empty() => {
                return refuse("user: say whose heartbeats it is about with --user, or --all-users".into());
            }
            Users::These(users) if users.len() > MAX_USERS => {
                let given = users.len();
                return refuse(format!("user: {given} are too many for one token; at most {MAX_USERS} are allowed"));
            }
            Users::These(users) => {
                for user in users {
                    check_user_id(user).map_err(|wrong| Error::Rule(format!("user: {}", wrong.detail)))?;
                }
            }
            Users::All => {}
        }
        if self.note.len() > MAX_NOTE_BYTES || self.note.chars().any(char::is_control) {
            return refuse(format!("note: at most {MAX_NOTE_BYTES} bytes without control characters are allowed"));
        }
        Ok(())
    }

    /// As it is kept.
    ///
    /// # Errors
    /// [`Error::Rule`] where it breaks one, or is too long.
    pub fn store(&self) -> Result<StoredToken, Error> {
        self.check()?;
        let Self { id, hash, scopes, users, created, expires, note } = self.clone();
        let users = match users {
            Users::All => None,
            Users::These(users) => Some(users),
        };
        let document = Document { version: VERSION, id, hash, scopes, users, created, expires, note };
        let text = serde_json::to_string(&document).map_err(|error| Error::Rule(error.to_string()))?;
        if text.len() > MAX_RECORD_BYTES {
            return Err(Error::Rule(format!(
                "user: the names are too long together; a token may take {MAX_RECORD_BYTES} bytes"
            )));
        }
        Ok(StoredToken { id, text })
    }

    /// Reads one that is kept.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn read(stored: &StoredToken) -> Result<Self, Error> {
        let unreadable = |why: String| Error::Unreadable { id: stored.id, why };
        let Document { version, id, hash, scopes, users, created, expires, note } =
            serde_json::from_str(&stored.text).map_err(|error| unreadable(error.to_string()))?;
        if version != VERSION {
            return Err(unreadable(format!("it has version {version}; this binary knows {VERSION}")));
        }
        if id != stored.id {
            return Err(unreadable(format!("it is that of {id}")));
        }
        let users = users.map_or(Users::All, Users::These);
        let token = Self { id, hash, scopes, users, created, expires, note };
        token.check().map_err(|error| unreadable(error.to_string()))?;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn token(scopes: &[Scope], users: Users) -> Token {
        let (id, secret) = Secret::mint().unwrap();
        let (created, note) = (Timestamp::UNIX_EPOCH, "a laptop".to_owned());
        Token { id, hash: secret.hash(), scopes: scopes.iter().copied().collect(), users, created, expires: None, note }
    }

    fn these(users: &[&str]) -> Users {
        Users::These(users.iter().map(|&user| user.to_owned()).collect())
    }

    #[test]
    fn a_record_is_read_as_it_was_stored() {
        let mut token = token(&[Scope::Write, Scope::Admin], these(&["ada", "b\"\\ö"]));
        token.expires = Some("2026-11-22T08:30:00Z".parse().unwrap());
        let stored = token.store().unwrap();
        let read = Token::read(&stored).unwrap();
        assert_eq!((read.id, &read.scopes, &read.users), (token.id, &token.scopes, &token.users));
        assert!(read.hash.is(&token.hash));
        assert_eq!((read.created, read.expires, read.note), (token.created, token.expires, token.note));
    }

    #[test]
    fn the_text_of_a_record_is_that_of_its_version() {
        let token = Token {
            id: TokenId::from_bytes([0, 1, 2, 3, 4, 255]),
            hash: SecretHash::OF_NOBODY,
            note: String::new(),
            ..token(&[Scope::Read], Users::All)
        };
        let zeros = "0".repeat(64);
        let text = format!(
            r#"{{"version":1,"id":"0001020304ff","hash":"{zeros}","scopes":["read"],"users":null,"created":"1970-01-01T00:00:00Z","expires":null,"note":""}}"#
        );
        assert_eq!(token.store().unwrap().text, text);
    }

    #[test]
    fn it_ends_at_its_last_instant() {
        let mut token = token(&[Scope::Admin], these(&[]));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(!token.has_expired(at("9999-01-01T00:00:00Z")));
        token.expires = Some(at("2026-11-22T08:30:00Z"));
        assert!(!token.has_expired(at("2026-11-22T08:29:59.999Z")));
        assert!(token.has_expired(at("2026-11-22T08:30:00Z")));
    }

    #[test]
    fn each_rule_is_named() {
        let many: Vec<String> = (0..=MAX_USERS).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (long, noted) = ("x".repeat(129), |note: String| Token { note, ..token(&[Scope::Admin], these(&[])) });
        for (token, word) in [
            (token(&[], Users::All), "scope"),
            (token(&[Scope::Admin], Users::All), "all-users"),
            (token(&[Scope::Admin], these(&["a"])), "user"),
            (token(&[Scope::Write], these(&[])), "--user"),
            (token(&[Scope::Write], these(&many)), "at most 100"),
            (token(&[Scope::Write], these(&["a\nb"])), "control"),
            (token(&[Scope::Read], these(&[long.as_str()])), "128"),
            (noted("x".repeat(201)), "note"),
            (noted("a\tb".into()), "note"),
        ] {
            let error = token.store().unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
        let wide: Vec<String> = (0..MAX_USERS).map(|n| format!("{n:03}{}", "\\\"".repeat(60))).collect();
        let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
        assert!(token(&[Scope::Write], these(&wide)).store().is_err(), "too long together");
        token(&[Scope::Admin, Scope::Write], Users::All).store().unwrap();
    }

    #[test]
    fn what_is_no_record_of_this_version_lets_nobody_in() {
        let stored = token(&[Scope::Write], these(&["a"])).store().unwrap();
        let with = |text: String| Token::read(&StoredToken { id: stored.id, text });
        with(stored.text.clone()).unwrap();
        for text in [
            String::new(),
            "{}".into(),
            stored.text.replace(r#""version":1"#, r#""version":2"#),
            stored.text.replace(r#""note""#, r#""only_on_mondays":true,"note""#),
            stored.text.replace(r#"["write"]"#, r#"["write","rule"]"#),
            stored.text.replace(r#"["write"]"#, "[]"),
            stored.text.replace(r#"["a"]"#, "[]"),
            stored.text.replace(&stored.id.to_string(), "000000000000"),
        ] {
            assert!(matches!(with(text.clone()), Err(Error::Unreadable { .. })), "{text}");
        }
    }
}
