//! From an accepted socket to a stream of requests: plain, or by a TLS handshake.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Deadlines, Guarded};

/// How connections are taken in.
#[derive(Clone)]
pub(super) struct Accept {
    pub(super) tls: Option<Handshake>,
    pub(super) deadlines: Deadlines,
}

/// What a handshake takes.
#[derive(Clone)]
pub(super) struct Handshake {
    pub(super) acceptor: TlsAcceptor,
    pub(super) deadline: Duration,
}

impl Accept {
    /// Makes a socket ready for requests.
    ///
    /// # Errors
    /// The handshake fails, or takes longer than its deadline.
    pub(super) async fn accept(
        self,
        socket: TcpStream,
    ) -> Result<(Guarded<Stream>, Option<SocketAddr>), DispatchError> {
        let peer = socket.peer_addr().ok();
        // Answers are one small piece; waiting to fill a packet only delays them.
        let _ = socket.set_nodelay(true);
        let stream = match self.tls {
            None => Stream::Plain(socket),
            Some(Handshake { acceptor, deadline }) => {
                let late = |_| DispatchError::Io(io::ErrorKind::TimedOut.into());
                let stream = tokio::time::timeout(deadline, acceptor.accept(socket)).await.map_err(late)?;
                Stream::Tls(Box::new(stream.map_err(DispatchError::Io)?))
            }
        };
        Ok((Guarded::new(stream, self.deadlines), peer))
    }
}

/// What requests come on.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
