//! From an accepted socket to a stream of requests: plain, or by a TLS handshake.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use prometheus::IntGauge;
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
    /// Connections, those in a handshake among them.
    pub(super) open: IntGauge,
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
        let counted = Counted::new(self.open);
        // Answers are one small piece; waiting to fill a packet only delays them.
        let _ = socket.set_nodelay(true);
        let wire = match self.tls {
            None => Wire::Plain(socket),
            Some(Handshake { acceptor, deadline }) => {
                let late = |_| DispatchError::Io(io::ErrorKind::TimedOut.into());
                let stream = tokio::time::timeout(deadline, acceptor.accept(socket)).await.map_err(late)?;
                Wire::Tls(Box::new(stream.map_err(DispatchError::Io)?))
            }
        };
        Ok((Guarded::new(Stream { wire, _counted: counted }, self.deadlines), peer))
    }
}

/// What requests come on.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Wire,
    _counted: Counted,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection counts as open until this goes.
#[derive(Debug)]
struct Counted(IntGauge);

impl Counted {
    fn new(open: IntGauge) -> Self {
        open.inc();
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
