//! The tokens: one hash, which belongs to no dataset and to no partition.
//!
//! They are read by plain commands, not by a script, so that the doors need no right to write them: Redis asks for that right
//! of whoever runs a script on a key (`deploy/redis`).

use async_trait::async_trait;
use redis::FromRedisValue;

use super::super::{Error, Result, Tokens, too_many_tokens};
use super::RedisBuffer;
use super::buffer::within;
use super::keys;
use super::script;
use crate::token::{MAX_TOKENS, MAX_TOTAL_BYTES, StoredToken, TokenId, TokenList, TokenVersion};

/// Tokens that one call of a drain brings at most: with records as long as can be, less than 2 MiB.
const DRAINED_AT_ONCE: usize = 100;

/// The field that tells one state of the hash from another.
const VERSION: &str = "version";

fn wrong(what: &str) -> Error {
    Error::Corrupt { detail: format!("the tokens in Redis: {what}") }
}

fn read_version(text: &str) -> Result<TokenVersion> {
    text.parse().map_err(|_| wrong("their version is none"))
}

fn read_list(fields: Vec<(String, String)>) -> Result<TokenList> {
    let mut list = TokenList::default();
    for (field, value) in fields {
        if field == VERSION {
            list.version = Some(read_version(&value)?);
        } else {
            let id = field.parse().map_err(|_| wrong("a field that is no id"))?;
            list.tokens.push(StoredToken { id, text: value });
        }
    }
    // Redis keeps the fields in no order.
    list.tokens.sort_unstable_by_key(|token| token.id);
    Ok(list)
}

#[async_trait]
impl Tokens for RedisBuffer {
    async fn tokens(&self, known: Option<TokenVersion>) -> Result<Option<TokenList>> {
        within(*self.common.step_deadline, async {
            if known.is_some() && self.tokens_version().await? == known {
                return Ok(None);
            }
            // With its version among them: all of one instant.
            let fields: Vec<(String, String)> = self.ask_for_tokens("HGETALL", None).await?;
            read_list(fields).map(Some)
        })
        .await
    }

    async fn create_token(&self, token: &StoredToken) -> Result<bool> {
        let reply = self.apart(&script::TOKEN_CREATE, self.replicas(), |command| {
            command.arg(TokenVersion::new().to_string()).arg(MAX_TOKENS).arg(MAX_TOTAL_BYTES);
            command.arg(token.id.to_string()).arg(&token.text);
        });
        let reply = reply.await?;
        match reply.word() {
            "done" => Ok(true),
            "known" => Ok(false),
            "toomany" => Err(too_many_tokens()),
            _ => Err(reply.strange()),
        }
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool> {
        let reply = self.apart(&script::TOKEN_REVOKE, self.replicas(), |command| {
            command.arg(TokenVersion::new().to_string()).arg(id.to_string());
        });
        let reply = reply.await?;
        match reply.word() {
            "done" => Ok(true),
            "none" => Ok(false),
            _ => Err(reply.strange()),
        }
    }
}

impl RedisBuffer {
    async fn tokens_version(&self) -> Result<Option<TokenVersion>> {
        let version: Option<String> = self.ask_for_tokens("HGET", Some(VERSION)).await?;
        version.as_deref().map(read_version).transpose()
    }

    async fn ask_for_tokens<T: FromRedisValue>(&self, command: &str, field: Option<&str>) -> Result<T> {
        let key = keys::tokens(0);
        let mut command = redis::cmd(command);
        command.arg(&key).arg(field);
        let answer = self.connections.ask(command, &key).await?;
        redis::from_redis_value(answer).map_err(|_| wrong("they cannot be read"))
    }

    /// Takes in the tokens of the buffer that moves here. Done again, it changes nothing but what was revoked since.
    pub(in super::super) async fn take_tokens(&self, tokens: &[StoredToken]) -> Result<()> {
        for some in tokens.chunks(DRAINED_AT_ONCE) {
            let reply = self.apart(&script::DRAIN_TOKENS, self.replicas(), |command| {
                command.arg(TokenVersion::new().to_string());
                for token in some {
                    command.arg(token.id.to_string()).arg(&token.text);
                }
            });
            reply.await?.only("done")?;
        }
        Ok(())
    }
}
