//! The tokens: rows of the books, and what tells one state of them from another.

use async_trait::async_trait;

use super::super::{Error, Result, Tokens, too_many_tokens};
use super::EmbeddedBuffer;
use super::engine::{Engine, Write};
use super::keys;
use crate::token::{MAX_TOKENS, MAX_TOTAL_BYTES, StoredToken, TokenId, TokenList, TokenVersion};

#[async_trait]
impl Tokens for EmbeddedBuffer {
    async fn tokens(&self, known: Option<TokenVersion>) -> Result<Option<TokenList>> {
        self.run(*self.shared.options.step_deadline, move |shared| {
            // A list and its version must be of one instant.
            shared.store.apart(|engine| {
                let version = version(engine)?;
                if version.is_some() && version == known {
                    return Ok(None);
                }
                Ok(Some(TokenList { version, tokens: all(engine)? }))
            })
        })
        .await
    }

    async fn create_token(&self, token: &StoredToken) -> Result<bool> {
        let token = token.clone();
        self.run(*self.shared.options.step_deadline, move |shared| {
            shared.store.step_apart(|engine| {
                let key = keys::token(token.id);
                if engine.get(&key)?.is_some() {
                    return Ok((false, Vec::new()));
                }
                let others = all(engine)?;
                let bytes = others.iter().map(|other| other.text.len()).sum::<usize>() + token.text.len();
                if others.len() >= MAX_TOKENS || bytes > MAX_TOTAL_BYTES {
                    return Err(too_many_tokens());
                }
                Ok((true, vec![Write::Put(key, token.text.into_bytes()), changed()]))
            })
        })
        .await
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool> {
        self.run(*self.shared.options.step_deadline, move |shared| {
            shared.store.step_apart(|engine| {
                let key = keys::token(id);
                let found = engine.get(&key)?.is_some();
                Ok((found, if found { vec![Write::Remove(key), changed()] } else { Vec::new() }))
            })
        })
        .await
    }
}

fn changed() -> Write {
    Write::Put(keys::TOKENS_VERSION_KEY.into(), TokenVersion::new().to_string().into_bytes())
}

fn version(engine: &Engine) -> Result<Option<TokenVersion>> {
    let wrong = || Error::Corrupt { detail: "the version of the tokens cannot be read".into() };
    let Some(text) = engine.get(keys::TOKENS_VERSION_KEY)? else { return Ok(None) };
    let text = std::str::from_utf8(&text).map_err(|_| wrong())?;
    text.parse().map(Some).map_err(|_| wrong())
}

fn all(engine: &Engine) -> Result<Vec<StoredToken>> {
    let wrong = || Error::Corrupt { detail: "a token under a key that cannot be read, or no text".into() };
    let rows = engine.under(keys::TOKENS).map(|row| {
        let (key, text) = row?;
        let id = keys::read_token(&key).ok_or_else(wrong)?;
        Ok(StoredToken { id, text: String::from_utf8(text.into()).map_err(|_| wrong())? })
    });
    rows.collect()
}
