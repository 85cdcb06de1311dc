//! TLS towards clients, by rustls: TLS 1.2 and 1.3, HTTP/1.1 over it.
//!
//! Constraints:
//! - The certificate can be replaced while running, without a connection or a request noticing: handshakes take what is in
//!   force at their moment, connections keep what they began with.
//! - A replacement that cannot be used changes nothing: the old one stays in force, and the log (once), `/health` and
//!   metrics say so.
//! - Files are looked at on a timer, by their content: it finds a renamed file, a switched symbolic link and a remounted
//!   secret alike. No signal is needed, and SIGHUP keeps its meaning.
//! - A handshake has a deadline, and counts as a connection while it lasts.
//!
//! Clients that offer HTTP/2 alone are refused in the handshake: the framework is built without it, because a door that
//! answers one POST at a time gains nothing by it.

mod certificate;
mod keeper;
mod options;

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use options::Options;

use super::Error;
use super::stream::Handshake;
use crate::telemetry::health::Health;
use keeper::Keeper;

/// What it takes to speak TLS.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    handshake_deadline: Duration,
    keeper: Arc<Keeper>,
}

impl Tls {
    /// Reads certificate and key. `None` where plain HTTP is asked for.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Setting`], [`Error::Unreadable`] or [`Error::Certificate`]; [`Error::Metrics`] when
    /// called twice with one registry.
    pub(super) fn open(options: &Options, health: &Health, registry: &Registry) -> Result<Option<Self>, Error> {
        let Some(files) = options.files()? else { return Ok(None) };
        let provider = Arc::new(ring::default_provider());
        let keeper = Keeper::open(files, *options.tls_reload_every, provider.clone(), health, registry)?;
        let keeper = Arc::new(keeper);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(keeper.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self {
            acceptor: Arc::new(config).into(),
            handshake_deadline: *options.tls_handshake_deadline,
            keeper,
        }))
    }

    /// For a listener; the certificate in it is always the one in force.
    pub(super) fn handshake(&self) -> Handshake {
        Handshake { acceptor: self.acceptor.clone(), deadline: self.handshake_deadline }
    }

    /// Takes up replaced certificates until `shutdown`.
    pub(super) async fn keep_current(&self, shutdown: CancellationToken) {
        self.keeper.clone().keep_current(shutdown).await;
    }
}
