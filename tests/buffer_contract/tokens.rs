//! Tokens: kept, listed and revoked, on every backend.

use jiff::Timestamp;
use systole::buffer::Error;
use systole::token::{
    MAX_TOKENS, MAX_TOTAL_BYTES, Scope, Secret, StoredToken, Token, TokenId, TokenList, TokenVersion, Users,
};

use crate::backend::{AMPLE, Backend};

/// A token as it is kept.
pub fn stored() -> StoredToken {
    let (id, secret) = Secret::mint().unwrap();
    let (hash, scopes, users) = (secret.hash(), [Scope::Write].into(), Users::These(["ada".to_owned()].into()));
    let (created, expires, note) = (Timestamp::UNIX_EPOCH, None, "ö \"\u{1f600}".to_owned());
    Token { id, hash, scopes, users, created, expires, note }.store().unwrap()
}

/// All tokens of a store that has ever had one.
async fn all(backend: &dyn Backend) -> (Option<TokenVersion>, Vec<StoredToken>) {
    let TokenList { version, tokens } = backend.tokens().tokens(None).await.unwrap().unwrap();
    (version, tokens)
}

pub async fn tokens_are_kept_listed_and_revoked_before_any_registration(backend: &mut dyn Backend) {
    let store = backend.tokens();
    assert_eq!(store.tokens(None).await.unwrap(), Some(TokenList::default()));
    let mut tokens: Vec<StoredToken> = (0..5).map(|_| stored()).collect();
    for token in &tokens {
        assert!(store.create_token(token).await.unwrap());
    }
    tokens.sort_by_key(|token| token.id);
    assert_eq!(all(backend).await.1, tokens);
    assert!(store.revoke_token(tokens[2].id).await.unwrap());
    assert!(!store.revoke_token(tokens[2].id).await.unwrap());
    tokens.remove(2);
    assert_eq!(all(backend).await.1, tokens);
    assert_eq!(backend.open(AMPLE).registration().await.unwrap(), None);
}

pub async fn a_list_is_given_only_when_it_has_changed(backend: &mut dyn Backend) {
    let (store, token) = (backend.tokens(), stored());
    let mut versions = Vec::new();
    for step in 0..3 {
        match step {
            0 => assert!(store.create_token(&token).await.unwrap()),
            1 => assert!(store.create_token(&stored()).await.unwrap()),
            _ => assert!(store.revoke_token(token.id).await.unwrap()),
        }
        let (version, _) = all(backend).await;
        assert!(version.is_some() && !versions.contains(&version), "each change makes another version");
        assert_eq!(store.tokens(version).await.unwrap(), None);
        for older in &versions {
            assert!(store.tokens(*older).await.unwrap().is_some());
        }
        versions.push(version);
    }
    // What changes nothing is no change.
    assert!(!store.revoke_token(token.id).await.unwrap());
    assert_eq!(store.tokens(versions[2]).await.unwrap(), None);
}

pub async fn a_token_is_never_written_over(backend: &mut dyn Backend) {
    let (store, token) = (backend.tokens(), stored());
    assert!(store.create_token(&token).await.unwrap());
    let other = StoredToken { text: stored().text, ..token.clone() };
    assert!(!store.create_token(&other).await.unwrap());
    assert_eq!(all(backend).await.1, [token]);
}

pub async fn there_are_never_too_many_tokens(backend: &mut dyn Backend) {
    let store = backend.tokens();
    // As long as the bound on their sum allows, and far from the bound on their number.
    let length = 15 << 10;
    let fit = MAX_TOTAL_BYTES / length;
    assert!(fit < MAX_TOKENS);
    let long = |number: usize| {
        let [.., a, b] = number.to_be_bytes();
        StoredToken { id: TokenId::from_bytes([0, 0, 0, 0, a, b]), text: "x".repeat(length) }
    };
    for number in 0..fit {
        assert!(store.create_token(&long(number)).await.unwrap(), "{number} of {fit}");
    }
    let error = store.create_token(&long(fit)).await.unwrap_err();
    assert!(matches!(&error, Error::Unsafe { advice } if advice.contains("revoke")), "{error}");
    assert_eq!(all(backend).await.1.len(), fit);
    assert!(store.revoke_token(long(7).id).await.unwrap());
    assert!(store.create_token(&long(fit)).await.unwrap());
}

pub async fn tokens_survive_a_restart_and_an_erased_store_has_no_version(backend: &mut dyn Backend) {
    let (store, kept, revoked) = (backend.tokens(), stored(), stored());
    store.create_token(&kept).await.unwrap();
    store.create_token(&revoked).await.unwrap();
    store.revoke_token(revoked.id).await.unwrap();
    let before = all(backend).await;
    drop(store);
    backend.crash_and_restart();
    assert_eq!(all(backend).await, before);
    assert_eq!(before.1, std::slice::from_ref(&kept));

    backend.tokens().revoke_token(kept.id).await.unwrap();
    let (version, tokens) = all(backend).await;
    assert!(version.is_some() && tokens.is_empty(), "people emptied it");
    backend.clear();
    assert_eq!(all(backend).await, (None, Vec::new()), "it was erased");
}
