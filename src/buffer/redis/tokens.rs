//! The tokens: one hash, which belongs to no dataset and to no partition.

use async_trait::async_trait;
use redis::Cmd;

use super::super::{Result, Tokens, too_many_tokens};
use super::RedisBuffer;
use super::buffer::{only, within};
use super::connection::{Call, Replicas};
use super::reply::{Asked, Reply};
use super::script::{self, Script};
use crate::heartbeat::DatasetId;
use crate::token::{MAX_TOKENS, MAX_TOTAL_BYTES, StoredToken, TokenId, TokenList, TokenVersion};

/// Tokens that one call of a drain brings at most: with records as long as can be, less than 2 MiB.
const DRAINED_AT_ONCE: usize = 100;

#[async_trait]
impl Tokens for RedisBuffer {
    async fn tokens(&self, known: Option<TokenVersion>) -> Result<Option<TokenList>> {
        let reply = self.on_tokens(&script::TOKEN_LIST, None, |command| {
            command.arg(known.map(|version| version.to_string()).unwrap_or_default());
        });
        let mut reply = reply.await?;
        match reply.word() {
            "same" => return Ok(None),
            "tokens" => {}
            _ => return Err(reply.strange()),
        }
        let version = reply.id_or_none()?;
        let tokens = (0..reply.left() / 2).map(|_| Ok(StoredToken { id: reply.id()?, text: reply.text()? }));
        let mut tokens = tokens.collect::<Result<Vec<_>>>()?;
        // Redis keeps the fields in no order.
        tokens.sort_unstable_by_key(|token| token.id);
        Ok(Some(TokenList { version, tokens }))
    }

    async fn create_token(&self, token: &StoredToken) -> Result<bool> {
        let reply = self.on_tokens(&script::TOKEN_CREATE, self.replicas(), |command| {
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
        let reply = self.on_tokens(&script::TOKEN_REVOKE, self.replicas(), |command| {
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
    /// Takes in the tokens of the buffer that moves here. Done again, it changes nothing but what was revoked since.
    pub(in super::super) async fn take_tokens(&self, tokens: &[StoredToken]) -> Result<()> {
        for some in tokens.chunks(DRAINED_AT_ONCE) {
            let reply = self.on_tokens(&script::DRAIN_TOKENS, self.replicas(), |command| {
                command.arg(TokenVersion::new().to_string());
                for token in some {
                    command.arg(token.id.to_string()).arg(&token.text);
                }
            });
            reply.await?.only("done")?;
        }
        Ok(())
    }

    /// Runs a script on the tokens, and waits for replicas where that is asked for.
    async fn on_tokens(
        &self,
        script: &'static Script,
        replicas: Option<Replicas>,
        build: impl FnOnce(&mut Cmd),
    ) -> Result<Reply> {
        within(*self.common.step_deadline, async {
            let mut command = script.call(0);
            build(&mut command);
            let call = Call { script, command, key: script.first_key(0) };
            let outcome = only(self.connections.run(vec![call], replicas).await?)?;
            // These scripts know no dataset, so they never refuse for one.
            let asked = Asked { dataset: DatasetId::from_u128(0), partition: 0 };
            let reply = Reply::read(script.name, outcome.answer?, asked)?;
            if replicas.is_some() {
                self.check_replicas(outcome.replicas)?;
            }
            Ok(reply)
        })
        .await
    }
}
