//! Making connections of the kind that the options ask for, and talking over either kind.
//!
//! Constraint: the client library's own response timeout (500 ms by default) would turn a slow fsync into a failure, a
//! resend and a duplicate; so it is set far beyond the deadlines that the buffer puts on every call. TCP_NODELAY is set on
//! every kind of connection: the library leaves it off.
//!
//! What the files of the options hold (password, certificates) is taken up by the next connection that is made. A Cluster
//! connection makes more of them by itself, all with what it began with, until it is thrown away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisError,
    RedisResult, TlsMode, Value,
};

use super::super::options::Options as Common;
use super::super::{Error, Result};
use super::fault;
use super::files::Files;
use super::options::Options;

/// A connection that rested for less was alive a moment ago and is used without asking.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How often a call on a Cluster is sent again within itself, to follow a slot or to wait for one that is on its way.
///
/// Few, and soon: whoever called tries again, and meanwhile this call holds up the others of its round trip, which go to other
/// nodes. The library's own pauses begin at more than a second.
const CLUSTER_TRIES: u32 = 4;
const FIRST_CLUSTER_PAUSE_MS: u64 = 10;
const LAST_CLUSTER_PAUSE_MS: u64 = 100;

/// A connection to a Cluster waits twice for a node that does not answer: as one of those that the URL names, and as one that
/// has slots. Both must be over, and some time left, before the whole must be made: else one node that hangs, or whose machine
/// is gone, keeps everybody out for as long as it is named.
const CLUSTER_WAITS: u32 = 3;

/// A connection to one node, or to all of a Cluster.
#[derive(Clone)]
pub(super) enum Link {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Whether it follows redirections.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Sends a pipeline to the node of `route`; an answer for each command, errors among them.
    pub(super) async fn pipeline(&mut self, pipeline: Pipeline, route: Route) -> RedisResult<Vec<Value>> {
        let count = pipeline.len();
        match self {
            Self::Node(node) => node.req_packed_commands(&pipeline, 0, count).await,
            Self::Cluster(cluster) => {
                cluster.route_pipeline(pipeline, 0, count, SingleNodeRoutingInfo::SpecificNode(route)).await
            }
        }
    }

    /// Sends one command to the one node, or to every master of the Cluster.
    pub(super) async fn ask_all(&mut self, command: Cmd) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node(node) => node.req_packed_command(&command).await.map(|answer| vec![answer]),
            Self::Cluster(cluster) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                cluster.route_command(command, masters).await.map(|answer| match answer {
                    Value::Map(by_node) => by_node.into_iter().map(|(_, answer)| answer).collect(),
                    answer => vec![answer],
                })
            }
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "a connection to one node",
            Self::Cluster(_) => "a connection to a Cluster",
        })
    }
}

/// Makes connections of the kind that the options ask for, with what the files of the options hold at that moment.
#[derive(Clone)]
pub(super) struct Manager(Arc<Maker>);

struct Maker {
    common: Common,
    options: Options,
    config: AsyncConnectionConfig,
    current: Mutex<Current>,
}

/// What connections are made with, until the files hold something else that can be used.
struct Current {
    files: Files,
    target: Arc<Target>,
    /// What was wrong with the files when they were last read, and has been said.
    refused: Option<String>,
}

enum Target {
    Node(Box<deadpool_redis::Manager>),
    // Asking the Sentinels changes which of them is asked first, hence the lock.
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The clients hold passwords.
        f.write_str(match *self.0.current().target {
            Target::Node(_) => "one node",
            Target::Sentinel(_) => "Sentinel",
            Target::Cluster(_) => "Cluster",
        })
    }
}

impl Manager {
    /// Whether keys lie on different nodes.
    pub(super) fn to_cluster(&self) -> bool {
        self.0.options.redis_cluster
    }

    /// Reads the options and the files that they name.
    pub(super) fn new(common: &Common, options: &Options) -> Result<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(*options.connect_timeout))
            .set_response_timeout(Some(beyond_our_deadlines(common)));
        let files = Files::read(options)?;
        let target = Arc::new(Target::new(common, options, &files, &config)?);
        let (common, options) = (common.clone(), options.clone());
        let current = Mutex::new(Current { files, target, refused: None });
        Ok(Self(Arc::new(Maker { common, options, config, current })))
    }

    /// Where the next connection goes to, and with what.
    async fn target(&self) -> Arc<Target> {
        if Files::are_named(&self.0.options) {
            let maker = self.0.clone();
            if tokio::task::spawn_blocking(move || maker.refresh()).await.is_err() {
                tracing::error!("reading the files of the Redis settings panicked; the last ones stay in force");
            }
        }
        self.0.current().target.clone()
    }
}

impl Maker {
    fn current(&self) -> MutexGuard<'_, Current> {
        // Each change is one assignment.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what the files hold, if that is something new and can be used.
    fn refresh(&self) {
        let read = Files::read(&self.options);
        let mut current = self.current();
        let renewed = read.and_then(|files| {
            if files == current.files {
                return Ok(None);
            }
            let target = Target::new(&self.common, &self.options, &files, &self.config)?;
            Ok(Some(Current { files, target: Arc::new(target), refused: None }))
        });
        match renewed {
            Ok(None) => current.refused = None,
            Ok(Some(renewed)) => {
                *current = renewed;
                tracing::info!("new connections to Redis are made with the replaced files of the settings");
            }
            Err(error) => {
                let reason = error.to_string();
                if current.refused.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "a replaced file of the Redis settings cannot be used; the last one stays");
                    current.refused = Some(reason);
                }
            }
        }
    }
}

impl Target {
    fn new(common: &Common, options: &Options, files: &Files, config: &AsyncConnectionConfig) -> Result<Self> {
        let nodes = nodes(options, files)?;
        if let Some(master) = &options.redis_sentinel_master {
            return Ok(Self::Sentinel(Box::new(tokio::sync::Mutex::new(sentinel(&nodes, master, files)?))));
        }
        if options.redis_cluster {
            return Ok(Self::Cluster(Box::new(cluster(nodes, common, options, files)?)));
        }
        let [node] = <[ConnectionInfo; 1]>::try_from(nodes).map_err(|nodes| Error::Unsafe {
            advice: format!(
                "buffer: {} URLs are given; several need --redis-cluster or --redis-sentinel-master",
                nodes.len()
            ),
        })?;
        let manager = deadpool_redis::Manager::new_with_config(node, config.clone());
        Ok(Self::Node(Box::new(manager.map_err(|error| fault::of_call(&error, false))?)))
    }
}

fn beyond_our_deadlines(common: &Common) -> Duration {
    *common.step_deadline * 2
}

/// The nodes that the URLs name, each with the password and the certificates of the files.
fn nodes(options: &Options, files: &Files) -> Result<Vec<ConnectionInfo>> {
    options
        .urls()
        .each()?
        .into_iter()
        .map(|url| {
            let shown = options.urls().redacted();
            // What the library says of a URL may repeat a part of it.
            let node = url.into_connection_info().map_err(|error| Error::Unsafe {
                advice: format!("buffer: `{shown}` is not usable ({})", error.category()),
            })?;
            let settings = node.redis_settings().clone().set_lib_name("systole", env!("CARGO_PKG_VERSION"));
            // For Sentinel, the URLs' own credentials are the Sentinels'.
            let settings = match files.password() {
                Some(password) if options.redis_sentinel_master.is_none() => settings.set_password(password),
                _ => settings,
            };
            let node = node.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
            match files.certificates() {
                Some(certificates) if matches!(node.addr(), ConnectionAddr::TcpTls { .. }) => {
                    let client = Client::build_with_tls(node, certificates).map_err(|error| Error::Unsafe {
                        advice: format!("redis-ca-file: holds no usable certificates ({})", error.category()),
                    })?;
                    Ok(client.get_connection_info().clone())
                }
                _ => Ok(node),
            }
        })
        .collect()
}

fn sentinel(nodes: &[ConnectionInfo], master: &str, files: &Files) -> Result<SentinelClient> {
    let wrong = |error: RedisError| fault::of_call(&error, false);
    let nodelay = || TcpSettings::default().set_nodelay(true);
    let addresses = nodes.iter().map(|node| node.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)
        .map_err(wrong)?
        .set_client_to_redis_tcp_settings(nodelay())
        .set_client_to_sentinel_tcp_settings(nodelay());
    if let Some(first) = nodes.first() {
        let settings = first.redis_settings();
        builder = builder.set_client_to_redis_db(settings.db());
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_sentinel_username(user).set_client_to_redis_username(user);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_sentinel_password(password).set_client_to_redis_password(password);
        }
        if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if let Some(certificates) = files.certificates() {
                builder = builder.set_client_to_redis_certificates(certificates);
            }
        }
    }
    if let Some(password) = files.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build().map_err(wrong)
}

fn cluster(nodes: Vec<ConnectionInfo>, common: &Common, options: &Options, files: &Files) -> Result<ClusterClient> {
    let mut builder = ClusterClientBuilder::new(nodes)
        .tcp_settings(TcpSettings::default().set_nodelay(true))
        .connection_timeout(*options.connect_timeout / CLUSTER_WAITS)
        .response_timeout(beyond_our_deadlines(common))
        .overall_response_timeout(None)
        .retries(CLUSTER_TRIES)
        .min_retry_wait(FIRST_CLUSTER_PAUSE_MS)
        .max_retry_wait(LAST_CLUSTER_PAUSE_MS);
    if let Some(certificates) = files.certificates() {
        builder = builder.certs(certificates);
    }
    builder.build().map_err(|error| fault::of_call(&error, false))
}

impl managed::Manager for Manager {
    type Type = Link;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<Link> {
        match &*self.target().await {
            Target::Node(manager) => manager.create().await.map(Link::Node),
            Target::Sentinel(client) => {
                let connection = client.lock().await.get_async_connection_with_config(&self.0.config).await;
                connection.map(Link::Node)
            }
            Target::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
        }
    }

    async fn recycle(&self, link: &mut Link, metrics: &Metrics) -> RecycleResult<RedisError> {
        // A round trip before each call would double what a push costs.
        if metrics.last_used() < TRUSTED_FOR {
            return Ok(());
        }
        let alive = match link {
            Link::Node(node) => redis::cmd("PING").query_async::<String>(node).await?,
            Link::Cluster(cluster) => redis::cmd("PING").query_async::<String>(cluster).await?,
        };
        if alive == "PONG" { Ok(()) } else { Err(RecycleError::message("no PONG to a PING")) }
    }
}
