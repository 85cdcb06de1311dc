//! Listening, and ending in order.
//!
//! Signals are not handled here: whoever runs a server cancels its token.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_http::HttpService;
use actix_server::ServerBuilder;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{self, AppConfig};
use actix_web::{App, middleware, web};
use prometheus::{IntGauge, Registry};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::access::{self, Access};
use super::auth::Gate;
use super::body::Bounds;
use super::budget::ByteBudget;
use super::client::ClientAddresses;
use super::connection::Guarded;
use super::devices::Turns;
use super::digest::{Digester, size};
use super::ingest::Edge;
use super::limits::{self, Limits};
use super::login::Login;
use super::metrics::Metrics;
use super::openapi::{self, Document};
use super::ops::Ops;
use super::read::Reads;
use super::stream::{Accept, Stream};
use super::tls::{self, Tls};
use super::{Error, Options, Services, routes};
use crate::buffer::Intake;
use crate::telemetry::board;
use crate::telemetry::health::Health;

/// How long a connection is kept after the answer to a body that was not read to its end, so that the client can read
/// that answer before its unread bytes make the system reset the connection.
const LINGER: Duration = Duration::from_secs(2);

/// The producer's edge: heartbeats, health and metrics.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    limits: Arc<Limits>,
}

impl Server {
    /// Listens at once, so that a bad address is one clear error at start; answers begin with [`Server::run`].
    ///
    /// # Errors
    /// [`Error::Bind`], [`Error::Setting`], or [`Error::Metrics`] when called twice with one registry.
    pub fn bind(
        options: &Options,
        rate_limits: &limits::Options,
        intake: Arc<dyn Intake>,
        health: Health,
        registry: Registry,
    ) -> Result<Self, Error> {
        options.check()?;
        let metrics = Arc::new(Metrics::register(&registry)?);
        let budget = ByteBudget::new(size(options.byte_budget));
        let limits = Arc::new(Limits::new(rate_limits));
        Metrics::register_state(&registry, &budget, &limits)?;
        let edge = web::Data::new(Edge {
            intake,
            limits: Arc::clone(&limits),
            clients: ClientAddresses::new(rate_limits.trusted_proxies.clone(), rate_limits.forwarded_header),
            budget,
            digester: Digester::new(options),
            bounds: Bounds { limit: size(options.max_body), deadline: options.body_deadline.into() },
            metrics: Arc::clone(&metrics),
        });
        let access = web::Data::new(Access::new(Some(metrics)));
        let ops = web::Data::new(Ops { health, registry });
        let configure = move |config: &mut web::ServiceConfig| {
            config.app_data(edge.clone()).app_data(ops.clone()).configure(routes::heartbeats).configure(routes::ops);
        };
        Ok(Self { listener: Listener::bind(options, access, Arc::new(configure))?, limits })
    }

    /// The address that is listened on, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listener.options.listen
    }

    /// Serves until `shutdown`, then stops accepting, answers what is in flight within the grace, and returns. It may be
    /// called again should it have failed: it then listens anew, on the same address.
    ///
    /// # Errors
    /// [`Error::Serve`]; [`Error::Bind`] where it has to listen anew.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let housekeeping = shutdown.child_token();
        let _stop_housekeeping = housekeeping.clone().drop_guard();
        tokio::spawn(self.limits.clone().keep_pruned(housekeeping));
        self.listener.run(shutdown).await
    }
}

/// Health and metrics alone: for processes that take no heartbeats in.
#[derive(Debug)]
pub struct OpsServer {
    listener: Listener,
}

impl OpsServer {
    /// As [`Server::bind`].
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub fn bind(listen: SocketAddr, health: Health, registry: Registry) -> Result<Self, Error> {
        // One worker and few connections: it serves a scraper and a health check.
        let options = Options { listen, http_workers: 1, http_max_connections: 100, ..Options::default() };
        let access = web::Data::new(Access::new(None));
        let ops = web::Data::new(Ops { health, registry });
        let configure = move |config: &mut web::ServiceConfig| {
            config.app_data(ops.clone()).configure(routes::ops);
        };
        Ok(Self { listener: Listener::bind(&options, access, Arc::new(configure))? })
    }

    /// The address that is listened on, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listener.options.listen
    }

    /// As [`Server::run`].
    ///
    /// # Errors
    /// As [`Server::run`].
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        self.listener.run(shutdown).await
    }
}

type Configure = dyn Fn(&mut web::ServiceConfig) + Send + Sync;

/// What it takes to listen, again and again.
struct Listener {
    /// With the real port once it has listened.
    options: Options,
    access: web::Data<Access>,
    configure: Arc<Configure>,
    /// Listens, and waits to be run.
    bound: Mutex<Option<dev::Server>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.options.listen).finish_non_exhaustive()
    }
}

impl Listener {
    fn bind(options: &Options, access: web::Data<Access>, configure: Arc<Configure>) -> Result<Self, Error> {
        let mut listener = Self { options: options.clone(), access, configure, bound: Mutex::default() };
        let (server, address) = listener.listen()?;
        listener.options.listen = address;
        listener.bound = Mutex::new(Some(server));
        Ok(listener)
    }

    fn listen(&self) -> Result<(dev::Server, SocketAddr), Error> {
        let Self { options, access, configure, .. } = self;
        let (access, configure) = (access.clone(), configure.clone());
        let app = move || {
            let configure = configure.clone();
            App::new()
                .app_data(access.clone())
                .wrap(middleware::from_fn(access::layer))
                .configure(move |config| configure(config))
        };
        let workers = options.workers();
        let server = HttpServer::new(app)
            .disable_signals()
            .workers(workers)
            .backlog(BACKLOG)
            // Each connection may hold up to 160 KiB in the framework before a body is asked for: that times this is
            // memory outside the byte budget.
            .max_connections(options.http_max_connections.div_ceil(workers))
            // Answers are one small piece; waiting to fill a packet only delays them.
            .tcp_nodelay(true)
            // The framework applies it to the first head of a connection; later ones fall under the connection count.
            .client_request_timeout(options.head_deadline.into())
            .client_disconnect_timeout(LINGER)
            .keep_alive(Duration::from(options.keep_alive))
            .shutdown_timeout(options.shutdown_grace_s())
            .bind(options.listen)
            .map_err(|source| Error::Bind { address: options.listen, source })?;
        let address = server.addrs().first().copied().unwrap_or(options.listen);
        Ok((server.run(), address))
    }

    async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let ended = |ended: Result<io::Result<()>, tokio::task::JoinError>| {
            ended.map_err(io::Error::other).and_then(|ended| ended).map_err(Error::Serve)
        };
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).take();
        let server = match bound {
            Some(server) => server,
            None => self.listen()?.0,
        };
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        tokio::select! {
            outcome = &mut serving => return ended(outcome),
            () = shutdown.cancelled() => {}
        }
        handle.stop(true).await;
        ended(serving.await)
    }
}
