//! An authority of the test's own, certificates by it, and a client that trusts it and nothing else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::Value;

use super::client::Answer;

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The last second of validity, as seconds since the Unix epoch, of every certificate here that has no other.
pub const EXPIRES_S: i64 = 4_070_908_800;

/// Signs certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One of this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this machine, valid for many years.
    pub fn sign(&self) -> Signed {
        // 2099-01-01.
        self.sign_until(2099)
    }

    /// The same, valid until the first day of `year`.
    pub fn sign_until(&self, year: i32) -> Signed {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed { der: certificate.der().to_vec(), cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority alone.
    pub fn client(&self) -> TlsClient {
        TlsClient::trusting(&self.pem(), rustls::ALL_VERSIONS)
    }
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Signed {
    pub cert: String,
    pub key: String,
    pub der: Vec<u8>,
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone)]
pub struct PemFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl PemFiles {
    /// In `folder`, which is made.
    pub fn in_folder(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
    }

    /// Replaces both, one after the other, as tools that renew certificates do.
    pub fn write(&self, signed: &Signed) {
        replace(&self.cert, &signed.cert);
        replace(&self.key, &signed.key);
    }

    /// What `systole` is told.
    pub fn flags(&self) -> [String; 2] {
        [format!("--tls-cert={}", self.cert.display()), format!("--tls-key={}", self.key.display())]
    }
}

/// Writes a file beside and renames it: nobody reads half of it. Only its owner can read it.
pub fn replace(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Makes connections; none of them resumes an earlier session.
#[derive(Debug, Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Trusts the authorities in `pem`, and speaks these versions.
    pub fn trusting(pem: &str, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config =
            builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }

    /// Offers these protocols over TLS.
    pub fn offering(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    /// A connection to `address`, its handshake done.
    pub fn connect(&self, address: &str) -> io::Result<TlsWire> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsWire(stream))
    }

    /// GET on a connection of its own.
    pub fn get(&self, address: &str, path: &str) -> io::Result<Answer> {
        self.connect(address)?.get(path)
    }
}

/// One connection.
pub struct TlsWire(StreamOwned<ClientConnection, TcpStream>);

impl TlsWire {
    /// The certificate that the server showed.
    pub fn server_certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<String> {
        self.0.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Posts heartbeats.
    pub fn post(&mut self, body: &Value) -> io::Result<Answer> {
        let body = body.to_string();
        let length = body.len();
        self.ask(&format!(
            "POST /v1/heartbeats HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.0.write_all(request.as_bytes())?;
        self.0.flush()?;
        let mut read = Vec::new();
        loop {
            if let Some(answer) = parse(&read) {
                return Ok(answer);
            }
            let mut piece = [0; 4096];
            let len = self.0.read(&mut piece)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read.extend_from_slice(&piece[..len]);
        }
    }
}

/// An answer of a declared length, once it is whole.
fn parse(read: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(read).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let answer =
        || Answer { status, headers, body: serde_json::from_str(body).unwrap_or_default(), text: body.to_owned() };
    (body.len() >= length).then(answer)
}

/// Whether a key can be read from `pem`: a test that forges one must not forge nothing.
pub fn is_key(pem: &str) -> bool {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok()
}
