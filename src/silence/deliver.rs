//! One delivery: one POST of one event. It blocks.
//!
//! Constraints: named deadlines, no redirect, no proxy of the environment, and of the answer a few KiB at most. What went wrong
//! is told without the URL.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::rule::Webhook;
use super::signature::Secret;

/// Until a connection stands, names resolved.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From beginning to end.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Read of the body of an answer: so that the connection can be used again. The rest is not waited for.
const ANSWER_BYTES: u64 = 4 << 10;
/// Of the head of an answer.
const HEAD_BYTES: usize = 16 << 10;

/// Delivers. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Sender(Agent);

/// What is delivered.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) webhook: Webhook,
    pub(super) secret: Option<Secret>,
    pub(super) id: String,
    /// The time of this try, s since the Unix epoch: a receiver refuses what is replayed much later.
    pub(super) timestamp: i64,
    pub(super) body: String,
}

impl Sender {
    /// Trusts the authorities in `ca` alone, or those that browsers trust.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let roots = ca.map(read_authorities).transpose()?.unwrap_or(RootCerts::WebPki);
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(WHOLE_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_response_header_size(HEAD_BYTES)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("systole/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self(Agent::new_with_config(config)))
    }

    /// `Ok` once the receiver answered with 2xx; else why not, in a few words.
    pub(super) fn post(&self, letter: &Letter) -> Result<(), String> {
        let Letter { webhook, secret, id, timestamp, body } = letter;
        let mut request = self
            .0
            .post(webhook.target())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string());
        if let Some(login) = webhook.authorization() {
            request = request.header("authorization", login);
        }
        if let Some(secret) = secret {
            request = request.header("webhook-signature", secret.sign(id, *timestamp, body));
        }
        let mut response = request.send(body.as_str()).map_err(|error| explain(&error))?;
        let status = response.status();
        // Whatever comes of it: the answer is known.
        let _ = response.body_mut().as_reader().take(ANSWER_BYTES).read_to_end(&mut Vec::new());
        if status.is_success() { Ok(()) } else { Err(format!("it answers {}", status.as_u16())) }
    }
}

fn read_authorities(file: &Path) -> Result<RootCerts, String> {
    let pem = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| format!("{} is no PEM: {error}", file.display()))?;
    if found.is_empty() {
        return Err(format!("{} holds no certificate", file.display()));
    }
    let authorities: Vec<Certificate<'static>> =
        found.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&authorities))
}

/// Without the URL: some of ureq's messages repeat it.
fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        ureq::Error::HostNotFound => "its host is not found".to_owned(),
        ureq::Error::Io(error) => match of_tls(error) {
            Some(error) => format!("its TLS is not trusted: {error}"),
            None => format!("it cannot be reached: {}", error.kind()),
        },
        ureq::Error::Rustls(error) => format!("its TLS is not trusted: {error}"),
        ureq::Error::ConnectionFailed => "it cannot be reached".to_owned(),
        _ => "it does not speak HTTP as it should".to_owned(),
    }
}

/// What TLS found wrong during the handshake, which comes up as a fault of reading.
fn of_tls(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
