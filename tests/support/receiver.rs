//! A receiver of webhooks: a small HTTP server that remembers what came, and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::tls::Signed;
use super::wait;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came with one request.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The method and the path.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub text: String,
    /// What was answered.
    pub status: u16,
}

impl Delivery {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or_else(|| panic!("no {name} in {:?}", self.headers), |(_, value)| value.as_str())
    }

    /// The event.
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The kind of the event.
    pub fn kind(&self) -> String {
        self.event()["type"].as_str().unwrap().to_owned()
    }
}

#[derive(Debug, Default)]
struct Shared {
    deliveries: Mutex<Vec<Delivery>>,
    /// Answers to the next requests; then it is 204.
    answers: Mutex<VecDeque<u16>>,
    ends: AtomicBool,
}

/// See the module.
#[derive(Debug)]
pub struct Receiver {
    scheme: &'static str,
    port: u16,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Over plain HTTP.
    pub fn start() -> Self {
        Self::serve("http", None)
    }

    /// Over TLS, with this certificate.
    pub fn over_tls(signed: &Signed) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(signed.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self::serve("https", Some(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())))
    }

    fn serve(scheme: &'static str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, shared) = (listener.local_addr().unwrap().port(), Arc::<Shared>::default());
        let serving = std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if shared.ends.load(Ordering::SeqCst) {
                        return;
                    }
                    let (shared, tls) = (shared.clone(), tls.clone());
                    std::thread::spawn(move || answer(stream, tls, &shared));
                }
            }
        });
        Self { scheme, port, shared, serving: Some(serving) }
    }

    /// Its address with this path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.port)
    }

    /// Answers the next requests so.
    pub fn answer(&self, statuses: &[u16]) {
        self.shared.answers.lock().unwrap().extend(statuses);
    }

    /// All that came, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.deliveries.lock().unwrap().clone()
    }

    /// Waits until so many came.
    pub fn await_deliveries(&self, count: usize, deadline: Duration) -> Vec<Delivery> {
        wait::value(&format!("{count} deliveries"), deadline, || {
            let came = self.deliveries();
            if came.len() >= count { Ok(came) } else { Err(format!("{} came", came.len())) }
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes it, to see that it has to end.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.serving.take().into_iter().for_each(|serving| drop(serving.join()));
    }
}

fn answer(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, shared: &Shared) {
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    match tls {
        None => converse(tcp, shared),
        Some(config) => converse(StreamOwned::new(ServerConnection::new(config).unwrap(), tcp), shared),
    };
}

/// Answers the one request of a connection; `None` when it is none.
fn converse(stream: impl Read + Write, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        let read = reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let line = next()?;
    let mut headers = Vec::new();
    loop {
        let header = next()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let status = shared.answers.lock().unwrap().pop_front().unwrap_or(204);
    let text = String::from_utf8(body).unwrap();
    shared.deliveries.lock().unwrap().push(Delivery { line, headers, text, status });
    let more = if (300..400).contains(&status) { "Location: /elsewhere\r\n" } else { "" };
    let stream = reader.get_mut();
    write!(stream, "HTTP/1.1 {status} So\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    stream.flush().ok()
}
