//! The side of the process that has the buffer.
//!
//! Constraint: whoever binds the socket holds the lock of its folder, so a socket that is there already was left by a dead
//! process.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::{Administer, Error, Result};
use super::address::Address;
use super::wire::{self, Answer, Call, Message};

/// Calls under way at the same time; whoever else connects waits in the operating system's queue.
const CALLS_AT_ONCE: usize = 64;
/// How long a peer may take to say what it wants.
const CALL_WITHIN: Duration = Duration::from_secs(2);
/// How long a peer may take to read its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long calls under way may go on after the order to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A socket that lets other processes look at this one's buffer.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl ControlSocket {
    /// Listens at `path`, in the place of what a dead process left there. Calls are answered once it runs.
    ///
    /// Of the runtime it needs the context; it blocks for some calls on the folder.
    ///
    /// # Errors
    /// [`Error::Unreachable`], naming the path.
    pub fn bind(path: &Path) -> Result<Self> {
        Self::bind_private(path)
            .map_err(|error| Error::Unreachable { reason: format!("cannot listen on {}: {error}", path.display()) })
    }

    /// Binds in a folder that only this user may enter, and moves the socket out once it has its mode.
    fn bind_private(path: &Path) -> io::Result<Self> {
        let folder = with_suffix(path, ".new");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => DirBuilder::new().mode(0o700).create(&folder)?,
        }
        let born = folder.join("socket");
        let listener = UnixListener::bind(Address::of(&born)?.path())?;
        fs::set_permissions(&born, Permissions::from_mode(0o600))?;
        let found = fs::symlink_metadata(&born)?;
        fs::rename(&born, path)?;
        let file = SocketFile { path: path.to_owned(), inode: (found.dev(), found.ino()) };
        fs::remove_dir(&folder)?;
        Ok(Self { listener, file })
    }

    /// Answers calls until `shutdown`; then takes the socket away, lets calls under way end, and returns.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when nobody can connect any more; bind anew.
    pub async fn run(self, buffer: Arc<dyn Administer>, shutdown: CancellationToken) -> Result<()> {
        let Self { listener, file } = self;
        let desk = Desk { buffer, tails: Arc::new(Semaphore::new(1)), closing: shutdown.clone() };
        let mut calls = JoinSet::new();
        let ended = loop {
            let busy = calls.len() >= CALLS_AT_ONCE;
            tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                Some(_) = calls.join_next() => {}
                accepted = listener.accept(), if !busy => match accepted {
                    Ok((stream, _)) => drop(calls.spawn(desk.clone().serve(stream))),
                    Err(error) => break Err(Error::Unreachable { reason: format!("cannot accept on the socket: {error}") }),
                }
            }
        };
        // First the name, so that whoever comes now finds nobody instead of a queue that nobody serves.
        drop((file, listener));
        if timeout(STOP_WITHIN, async { while calls.join_next().await.is_some() {} }).await.is_err() {
            debug!(left = calls.len(), "calls on the socket were cut off");
        }
        ended
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The socket's name in the folder; taken away when dropped, unless another has it by then.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, "the socket stays behind; the next start replaces it");
        }
    }
}

/// What each call is served with.
#[derive(Debug, Clone)]
struct Desk {
    buffer: Arc<dyn Administer>,
    /// One answer with dead letters, tokens or frames is in memory at a time: it may have 16 MiB.
    tails: Arc<Semaphore>,
    closing: CancellationToken,
}

impl Desk {
    async fn serve(self, mut stream: UnixStream) {
        if let Err(error) = self.converse(&mut stream).await {
            debug!(%error, "a call on the socket came to nothing");
        }
    }

    async fn converse(&self, stream: &mut UnixStream) -> Result<()> {
        let hangs = |after: Duration| move |_| Error::TimedOut { after };
        let call = tokio::select! {
            () = self.closing.cancelled() => return Ok(()),
            call = timeout(CALL_WITHIN, wire::read::<Call>(stream, wire::CALL)) => call.map_err(hangs(CALL_WITHIN))?,
        };
        let (answer, _turn) = match call {
            Ok((call, _)) => {
                let turn = if call.has_tail() { Some(self.tails.acquire().await) } else { None };
                (self.ask(call).await, turn)
            }
            Err(gone @ Error::Unreachable { .. }) => return Err(gone),
            Err(wrong) => (Err(wrong), None),
        };
        timeout(ANSWER_WITHIN, send(stream, answer)).await.map_err(hangs(ANSWER_WITHIN))?
    }

    async fn ask(&self, call: Call) -> Result<(Answer, Vec<Bytes>)> {
        let buffer = &self.buffer;
        let answer = match call {
            Call::Durability => Answer::durability(buffer.durability().await?),
            Call::Ping => {
                buffer.ping().await?;
                Answer::Reached
            }
            Call::Registration => Answer::Registration(buffer.registration().await?),
            Call::Status { partition } => Answer::Status(buffer.status(partition).await?),
            Call::Batchers => Answer::Batchers(buffer.batchers().await?),
            Call::DeadLetters { partition, after, limit } => {
                return Ok(Answer::letters(buffer.dead_letters(partition, after, limit).await?));
            }
            Call::NewestDeadLetters { partition, limit } => {
                Answer::DeadLetterNotes(buffer.newest_dead_letters(partition, limit).await?)
            }
            Call::DeadLetter { partition, id } => {
                return Ok(Answer::letters(buffer.dead_letter(partition, id).await?));
            }
            Call::RetryDeadLetter { partition, id } => Answer::Settled(buffer.retry_dead_letter(partition, id).await?),
            Call::DropDeadLetter { partition, id } => Answer::Settled(buffer.drop_dead_letter(partition, id).await?),
            Call::Tokens { known } => match buffer.tokens(known).await? {
                Some(list) => return Ok(Answer::tokens(list)),
                None => Answer::SameTokens,
            },
            Call::CreateToken(token) => Answer::Settled(buffer.create_token(&token).await?),
            Call::DevicesOf { partition, user_id, after, limit } => {
                Answer::Devices(buffer.devices_of(partition, &user_id, after.as_deref(), limit).await?)
            }
            Call::DevicesUnseen { partition, before, after, limit } => {
                Answer::Devices(buffer.devices_unseen(partition, before, after.as_ref(), limit).await?)
            }
            Call::RevokeToken { id } => Answer::Settled(buffer.revoke_token(id).await?),
            Call::Frames { partition, from } => return Ok(Answer::frames(buffer.frames(partition, from).await?)),
        };
        Ok((answer, Vec::new()))
    }
}

async fn send(stream: &mut UnixStream, answer: Result<(Answer, Vec<Bytes>)>) -> Result<()> {
    let refuse = |error: Error| Message::new(&Err::<Answer, _>(error), Vec::new(), wire::ANSWER);
    let message = match answer {
        // What does not fit is said, and what says so fits.
        Ok((answer, tail)) => Message::new(&Ok::<_, Error>(answer), tail, wire::ANSWER).or_else(refuse)?,
        Err(error) => refuse(error)?,
    };
    message.write(stream).await
}
