//! A running server, and an intake that can be told to fail or to wait.

use crate::nothing;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;
use serde_json::Value;
use systole::buffer::{self, Frames, Intake, Parcel};
use systole::heartbeat::{Frame, Heartbeat, HeartbeatRef, OpenFrame, Partition};
use systole::http::auth::{Exposure, Gate};
use systole::http::{Error, Options, Server, Services, limits};
use systole::telemetry::health::Health;
use systole::telemetry::metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything in these tests takes: a test that meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers what it was given, unless told to fail; waits for a permit while its gate is shut.
#[derive(Debug)]
pub struct Recorder {
    held: Mutex<Vec<Heartbeat>>,
    fault: Mutex<Option<buffer::Error>>,
    gate: Semaphore,
    pub waiting: Semaphore,
}

impl Recorder {
    pub fn users(&self) -> Vec<String> {
        self.held.lock().unwrap().iter().map(|heartbeat| heartbeat.user_id.clone()).collect()
    }

    pub fn held(&self) -> Vec<Heartbeat> {
        self.held.lock().unwrap().clone()
    }

    pub fn fail_with(&self, fault: Option<buffer::Error>) {
        *self.fault.lock().unwrap() = fault;
    }

    pub fn shut_gate(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    pub fn open_gate(&self) {
        self.gate.add_permits(1_000);
    }
}

#[async_trait]
impl Intake for Recorder {
    async fn partitions(&self) -> buffer::Result<Partition> {
        // One, so that heartbeats come in the order of the request.
        Ok(1)
    }

    async fn accept(&self, parcels: Vec<Parcel>) -> buffer::Result<()> {
        self.waiting.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        for (_, block) in parcels {
            let frame = Frame::of(&[block]).unwrap();
            let opened = OpenFrame::open(frame.bytes()).unwrap();
            self.held.lock().unwrap().extend(opened.all_rows().unwrap().iter().map(HeartbeatRef::to_heartbeat));
        }
        Ok(())
    }
}

pub struct Edge {
    pub address: SocketAddr,
    pub recorder: Arc<Recorder>,
    pub health: Health,
    pub client: reqwest::Client,
    pub shutdown: CancellationToken,
    registry: Registry,
    running: JoinHandle<Result<(), Error>>,
}

impl Edge {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn with(set: impl FnOnce(&mut Options, &mut limits::Options)) -> Self {
        Self::behind(open_gate(), set).await
    }

    /// Before a buffer in which something lies.
    pub async fn before(lying: Arc<dyn Frames>, set: impl FnOnce(&mut Options)) -> Self {
        Self::whole(open_gate(), nothing::services_of(lying), |options, _| set(options)).await
    }

    /// Behind a gate of the test's own.
    pub async fn behind(gate: Gate, set: impl FnOnce(&mut Options, &mut limits::Options)) -> Self {
        Self::whole(gate, nothing::services(), set).await
    }

    /// Behind that gate, before that buffer.
    pub async fn whole(gate: Gate, services: Services, set: impl FnOnce(&mut Options, &mut limits::Options)) -> Self {
        let mut options = Options { listen: ([127, 0, 0, 1], 0).into(), http_workers: 2, ..Options::default() };
        let mut rates = limits::Options::default();
        set(&mut options, &mut rates);
        let recorder = Arc::new(Recorder {
            held: Mutex::default(),
            fault: Mutex::default(),
            gate: Semaphore::new(1_000),
            waiting: Semaphore::new(0),
        });
        let (health, registry) = (Health::new(), metrics::registry().unwrap());
        let intake: Arc<dyn Intake> = recorder.clone();
        let server =
            Server::bind(&options, &rates, &gate, intake, &services, health.clone(), registry.clone()).unwrap();
        let address = server.address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let stop = shutdown.clone();
            async move { server.run(stop).await }
        });
        Self { address, recorder, health, client: reqwest::Client::new(), shutdown, registry, running }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client
            .post(self.url("/v1/heartbeats"))
            .header("Content-Type", "application/json")
            .body(body)
            .timeout(PATIENCE)
    }

    /// The value of a metric's series, by the text that stands before it.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = String::from_utf8(metrics::render(&self.registry).unwrap()).unwrap();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Ends the server and sees that nothing is left of what it held.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let Self { running, registry, .. } = self;
        tokio::time::timeout(PATIENCE, running).await.expect("the server ends").unwrap().unwrap();
        let text = String::from_utf8(metrics::render(&registry).unwrap()).unwrap();
        for left in ["systole_http_byte_budget_used_bytes 0", "systole_http_requests_in_flight 0"] {
            assert!(text.lines().any(|line| line == left), "not {left}:\n{text}");
        }
    }

    pub async fn join(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the server ends").unwrap()
    }
}

/// A record of `user` that is valid now.
/// A gate that knows no tokens.
pub fn open_gate() -> Gate {
    Gate::open(&Exposure { allow_anonymous: false }, ([127, 0, 0, 1], 0).into()).unwrap()
}

pub fn record(user: &str) -> String {
    record_at(user, now())
}

pub fn record_at(user: &str, timestamp: i64) -> String {
    format!(r#"{{"user_id":"{user}","device_id":"d","timestamp":{timestamp}}}"#)
}

/// An array of `count` different records of `user`.
pub fn bulk(user: &str, count: usize) -> String {
    let now = now();
    let records: Vec<String> = (0..count).map(|n| record_at(user, now - n as i64)).collect();
    format!("[{}]", records.join(","))
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// An answer, taken apart.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn problem(&self) -> &str {
        self.json["type"].as_str().and_then(|kind| kind.strip_prefix("urn:systole:problem:")).unwrap_or("")
    }

    pub fn rejected_codes(&self) -> Vec<(u64, &str)> {
        let list = self.json["rejected"].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().map(|one| (one["index"].as_u64().unwrap(), one["code"].as_str().unwrap())).collect()
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let json = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
    Answer { status, headers, json }
}

/// A connection on which anything can be sent.
pub struct Wire(TcpStream);

impl Wire {
    pub async fn open(edge: &Edge) -> Self {
        Self(TcpStream::connect(edge.address).await.unwrap())
    }

    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    /// Sends as much of `text` as the other side lets it.
    pub async fn try_send(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.0.write_all(text.as_ref()).await.is_ok()
    }

    /// Reads one answer with a body of a declared length; what follows stays unread.
    pub async fn answer(&mut self) -> String {
        let mut read = Vec::new();
        let whole = async {
            loop {
                let text = String::from_utf8_lossy(&read).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                        return text;
                    }
                }
                let len = self.0.read_buf(&mut read).await.unwrap();
                assert!(len > 0, "the connection ended within an answer: {text:?}");
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("an answer comes")
    }

    /// Whether the other side closes the connection, however much it still sends before.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.is_ok()
    }
}
