//! The caller's side: a buffer that another process has open.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::super::options::Options;
use super::super::{
    Batchers, DeadLetter, DeadLetterId, DeadLetterNote, Durability, Error, Inspect, PartitionStatus, Reach,
    Registration, Result, Tokens,
};
use super::address::Address;
use super::wire::{self, Answer, Call, Message};
use crate::heartbeat::Partition;
use crate::token::{StoredToken, TokenId, TokenList, TokenVersion};

/// Calls under way at the same time; the others wait for their turn, within their deadline. An audit asks for the state of
/// all partitions at once.
const CALLS_AT_ONCE: usize = 8;

/// What a buffer may name as its durability.
const LEVELS: [&str; 4] = ["always", "everysec", "no", "volatile"];

/// The buffer of another process on this machine, through its [`ControlSocket`](super::ControlSocket).
#[derive(Debug)]
pub struct SocketBuffer {
    path: PathBuf,
    deadline: Duration,
    turns: Semaphore,
}

impl SocketBuffer {
    /// The buffer behind the socket at `path`. Of `options` it takes the deadline of a step. Nothing is asked yet.
    pub fn new(path: &Path, options: &Options) -> Self {
        Self { path: path.to_owned(), deadline: *options.step_deadline, turns: Semaphore::new(CALLS_AT_ONCE) }
    }

    /// Whether a process listens there.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where it cannot be told, such as for want of permission; [`Error::TimedOut`].
    pub async fn is_served(&self) -> Result<bool> {
        self.within_deadline(async {
            match self.connect().await {
                Ok(_) => Ok(true),
                // A socket that a dead process left behind refuses.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
                Err(error) => Err(self.unreachable(&error)),
            }
        })
        .await
    }

    pub(super) async fn call(&self, call: Call) -> Result<(Answer, Bytes)> {
        let message = Message::new(&call, Vec::new(), wire::CALL)?;
        self.within_deadline(async {
            let _turn = self.turns.acquire().await;
            let mut stream = self.connect().await.map_err(|error| self.unreachable(&error))?;
            message.write(&mut stream).await?;
            let (answer, tail) = wire::read::<Result<Answer>>(&mut stream, wire::ANSWER).await?;
            Ok((answer?, tail))
        })
        .await
    }

    async fn connect(&self) -> std::io::Result<UnixStream> {
        let address = Address::of(&self.path)?;
        UnixStream::connect(address.path()).await
    }

    async fn within_deadline<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let timed_out = Err(Error::TimedOut { after: self.deadline });
        tokio::time::timeout(self.deadline, work).await.unwrap_or(timed_out)
    }

    fn unreachable(&self, error: &std::io::Error) -> Error {
        Error::Unreachable { reason: format!("cannot connect to {}: {error}", self.path.display()) }
    }

    async fn letters(&self, call: Call) -> Result<Vec<DeadLetter>> {
        match self.call(call).await? {
            (Answer::DeadLetters(headings), tail) => wire::join(headings, tail),
            (other, _) => strange(&other),
        }
    }

    async fn settle(&self, call: Call) -> Result<bool> {
        match self.call(call).await? {
            (Answer::Settled(found), _) => Ok(found),
            (other, _) => strange(&other),
        }
    }
}

pub(super) fn strange<T>(answer: &Answer) -> Result<T> {
    Err(Error::Corrupt { detail: format!("on the socket: {answer:?} is no answer to this call") })
}

#[async_trait]
impl Reach for SocketBuffer {
    async fn durability(&self) -> Result<Durability> {
        match self.call(Call::Durability).await? {
            (Answer::Durability { level, window, wait_replicas }, _) => {
                let known = LEVELS.into_iter().find(|known| *known == level);
                let level = known.ok_or_else(|| Error::Corrupt { detail: format!("a durability `{level}`") })?;
                Ok(Durability { level, window, wait_replicas })
            }
            (other, _) => strange(&other),
        }
    }

    async fn ping(&self) -> Result<()> {
        match self.call(Call::Ping).await? {
            (Answer::Reached, _) => Ok(()),
            (other, _) => strange(&other),
        }
    }

    async fn registration(&self) -> Result<Option<Registration>> {
        match self.call(Call::Registration).await? {
            (Answer::Registration(found), _) => Ok(found),
            (other, _) => strange(&other),
        }
    }
}

#[async_trait]
impl Inspect for SocketBuffer {
    async fn status(&self, partition: Partition) -> Result<PartitionStatus> {
        match self.call(Call::Status { partition }).await? {
            (Answer::Status(status), _) => Ok(status),
            (other, _) => strange(&other),
        }
    }

    async fn batchers(&self) -> Result<Batchers> {
        match self.call(Call::Batchers).await? {
            (Answer::Batchers(batchers), _) => Ok(batchers),
            (other, _) => strange(&other),
        }
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        self.letters(Call::DeadLetters { partition, after, limit }).await
    }

    async fn newest_dead_letters(&self, partition: Partition, limit: u32) -> Result<Vec<DeadLetterNote>> {
        match self.call(Call::NewestDeadLetters { partition, limit }).await? {
            (Answer::DeadLetterNotes(notes), _) => Ok(notes),
            (other, _) => strange(&other),
        }
    }

    async fn dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        Ok(self.letters(Call::DeadLetter { partition, id }).await?.pop())
    }

    async fn retry_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.settle(Call::RetryDeadLetter { partition, id }).await
    }

    async fn drop_dead_letter(&self, partition: Partition, id: DeadLetterId) -> Result<bool> {
        self.settle(Call::DropDeadLetter { partition, id }).await
    }
}

#[async_trait]
impl Tokens for SocketBuffer {
    async fn tokens(&self, known: Option<TokenVersion>) -> Result<Option<TokenList>> {
        match self.call(Call::Tokens { known }).await? {
            (Answer::Tokens { version, tokens }, tail) => {
                Ok(Some(TokenList { version, tokens: wire::join_tokens(tokens, tail)? }))
            }
            (Answer::SameTokens, _) => Ok(None),
            (other, _) => strange(&other),
        }
    }

    async fn create_token(&self, token: &StoredToken) -> Result<bool> {
        self.settle(Call::CreateToken(token.clone())).await
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool> {
        self.settle(Call::RevokeToken { id }).await
    }
}
