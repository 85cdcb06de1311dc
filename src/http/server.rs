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
use super::arriving::Arriving;
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
    /// [`Error::Bind`], [`Error::Setting`], what is wrong with the certificate, or [`Error::Metrics`] when called twice
    /// with one registry.
    pub fn bind(
        options: &Options,
        rate_limits: &limits::Options,
        gate: &Gate,
        intake: Arc<dyn Intake>,
        services: &Services,
        health: Health,
        registry: Registry,
    ) -> Result<Self, Error> {
        options.check()?;
        let metrics = Arc::new(Metrics::register(&registry)?);
        let budget = ByteBudget::new(size(options.byte_budget));
        let limits = Arc::new(Limits::new(rate_limits));
        Metrics::register_state(&registry, &budget, &limits)?;
        let edge = web::Data::new(Edge {
            gate: gate.clone(),
            limits: Arc::clone(&limits),
            clients: ClientAddresses::new(rate_limits.trusted_proxies.clone(), rate_limits.forwarded_header),
            arriving: Arriving::new(size(options.byte_budget), size(options.max_body)),
            budget,
            digester: Digester::new(options, Arc::clone(&limits), Arc::clone(&intake)),
            bounds: Bounds {
                limit: size(options.max_body),
                deadline: options.body_deadline.into(),
                answer: options.answer_deadline.into(),
            },
            metrics: Arc::clone(&metrics),
            intake,
        });
        let access = web::Data::new(Access::new(Some(metrics)));
        let tls = Tls::open(&options.tls, &health, &registry)?;
        let reads = web::Data::new(Reads::new(options.read_streams as usize));
        Metrics::register_reads(&registry, reads.clone().into_inner())?;
        let open = Metrics::register_connections(&registry, options.http_max_connections)?;
        board::expose(&health, &registry)?;
        let ops = web::Data::new(Ops { health, registry, gate: gate.clone() });
        let document = web::Data::new(Document::new(Some(openapi::Bounds::of(options))));
        let services = web::Data::new(services.clone());
        let login = web::Data::new(Login { tls: tls.is_some() });
        let turns = web::Data::new(Turns::default());
        let configure = move |config: &mut web::ServiceConfig| {
            config.app_data(document.clone()).app_data(services.clone()).app_data(login.clone());
            config.app_data(edge.clone()).app_data(ops.clone()).configure(routes::heartbeats);
            config.app_data(reads.clone()).app_data(turns.clone()).configure(routes::page);
            config.configure(routes::questions).configure(routes::overview).configure(routes::ops);
        };
        Ok(Self { listener: Listener::bind(options, tls, access, open, Arc::new(configure))?, limits })
    }

    /// The address that is listened on, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listener.options.listen
    }

    /// `https` with TLS, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.listener.tls.is_some() { "https" } else { "http" }
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
    /// [`Error::Bind`], or what is wrong with the certificate.
    pub fn bind(
        listen: SocketAddr,
        tls: &tls::Options,
        gate: &Gate,
        health: Health,
        registry: Registry,
    ) -> Result<Self, Error> {
        // One worker and few connections: it serves a scraper and a health check.
        let options = Options { listen, http_workers: 1, http_max_connections: 100, ..Options::default() };
        let access = web::Data::new(Access::new(None));
        let tls = Tls::open(tls, &health, &registry)?;
        let open = Metrics::register_connections(&registry, options.http_max_connections)?;
        board::expose(&health, &registry)?;
        let ops = web::Data::new(Ops { health, registry, gate: gate.clone() });
        let document = web::Data::new(Document::new(None));
        let configure = move |config: &mut web::ServiceConfig| {
            config.app_data(document.clone());
            config.app_data(ops.clone()).configure(routes::ops);
        };
        Ok(Self { listener: Listener::bind(&options, tls, access, open, Arc::new(configure))? })
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
    tls: Option<Tls>,
    access: web::Data<Access>,
    open: IntGauge,
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
    fn bind(
        options: &Options,
        tls: Option<Tls>,
        access: web::Data<Access>,
        open: IntGauge,
        configure: Arc<Configure>,
    ) -> Result<Self, Error> {
        let mut listener = Self { options: options.clone(), tls, access, open, configure, bound: Mutex::default() };
        let (server, address) = listener.listen()?;
        listener.options.listen = address;
        listener.bound = Mutex::new(Some(server));
        Ok(listener)
    }

    fn listen(&self) -> Result<(dev::Server, SocketAddr), Error> {
        let Self { options, tls, access, configure, .. } = self;
        let (access, configure) = (access.clone(), configure.clone());
        let app = move || {
            let configure = configure.clone();
            App::new()
                .app_data(access.clone())
                .wrap(middleware::from_fn(access::layer))
                .configure(move |config| configure(config))
        };
        let bound = |source| Error::Bind { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let workers = options.workers();
        let builder = ServerBuilder::new()
            .disable_signals()
            .workers(workers)
            // Each connection may hold some 16 KiB in the framework before a request is known, and up to 160 KiB beside its
            // body: that times this is memory outside the byte budget.
            .max_concurrent_connections(options.http_max_connections.div_ceil(workers))
            .shutdown_timeout(options.shutdown_grace_s());
        let stopping = builder.graceful_shutdown_signal();
        let settings = options.clone();
        let (deadlines, open) = (options.deadlines(), self.open.clone());
        let accept = Accept { tls: tls.as_ref().map(Tls::handshake), deadlines, open };
        // What `HttpServer` does, with a stream of our own between the socket and the framework.
        let serve = move || {
            let stopping = stopping.clone();
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                // `Guarded` keeps the time of every head, not of the first alone.
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(LINGER)
                .keep_alive(Duration::from(settings.keep_alive))
                .local_addr(address)
                .on_connect_ext(|stream: &Guarded<Stream>, data| {
                    data.insert(stream.pulse());
                })
                .h1(map_config(app().into_factory().map_err(|error| error.error_response()), move |()| {
                    AppConfig::default()
                }));
            let accept = accept.clone();
            fn_service(move |socket: TcpStream| accept.clone().accept(socket)).and_then(http)
        };
        let server = builder.listen("http", listener, serve).map_err(bound)?;
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
        let keep_certificate = async {
            match &self.tls {
                Some(tls) => tls.keep_current(shutdown.clone()).await,
                None => shutdown.cancelled().await,
            }
        };
        tokio::select! {
            outcome = &mut serving => return ended(outcome),
            () = keep_certificate => {}
        }
        handle.stop(true).await;
        ended(serving.await)
    }
}
