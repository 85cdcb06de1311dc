//! One certificate and its key: read, and judged fit to serve.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use xxhash_rust::xxh3::xxh3_128;

use super::super::Error;
use super::options::Files;

/// Longer files hold no certificate.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the two files held at one moment.
pub(super) struct Pair {
    chain: Vec<u8>,
    key: Vec<u8>,
    /// The key file can be read by others than its owner.
    key_is_shared: bool,
}

impl Pair {
    /// Reads both files. Blocks.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub(super) fn read(files: &Files) -> Result<Self, Error> {
        let (chain, _) = read("tls-cert", &files.cert)?;
        let (key, mode) = read("tls-key", &files.key)?;
        Ok(Self { chain, key, key_is_shared: mode & 0o077 != 0 })
    }

    /// Tells this pair from another, without keeping the key.
    pub(super) fn fingerprint(&self) -> (u128, u128) {
        (xxh3_128(&self.chain), xxh3_128(&self.key))
    }

    pub(super) fn key_is_shared(&self) -> bool {
        self.key_is_shared
    }
}

fn read(setting: &'static str, path: &Path) -> Result<(Vec<u8>, u32), Error> {
    let unreadable = |source| Error::Unreadable { setting, path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("it is longer than 1 MiB")));
    }
    Ok((bytes, mode))
}

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// Seconds since the Unix epoch between which clients accept it.
    pub(super) valid_from_s: i64,
    pub(super) expires_s: i64,
}

impl Certificate {
    /// What stands in `pair`, which came from `files`.
    ///
    /// # Errors
    /// [`Error::Certificate`]: one of them holds none, they do not belong together, or the algorithm is not known.
    pub(super) fn of(pair: &Pair, files: &Files, provider: &CryptoProvider) -> Result<Self, Error> {
        let of_cert = |reason: String| Error::Certificate { setting: "tls-cert", path: files.cert.clone(), reason };
        let of_key = |reason: String| Error::Certificate { setting: "tls-key", path: files.key.clone(), reason };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pair.chain)
            .collect::<Result<_, _>>()
            .map_err(|error| of_cert(format!("is no PEM file ({error})")))?;
        let Some(first) = chain.first() else { return Err(of_cert("holds no certificate in PEM".into())) };
        let (valid_from_s, expires_s) = validity(first, provider)
            .map_err(|error| of_cert(format!("holds no certificate that can be used ({error})")))?;
        let key = PrivateKeyDer::from_pem_slice(&pair.key)
            .map_err(|_| of_key("holds no private key in PEM (one with a passphrase cannot be used)".into()))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => of_key("is not the key of the certificate in tls-cert".into()),
            error => of_key(format!("holds a key that cannot be used ({error})")),
        })?;
        Ok(Self { key: Arc::new(key), valid_from_s, expires_s })
    }

    /// What is wrong with it at a moment, if anything is.
    pub(super) fn judge(&self, now_s: i64) -> Result<(), String> {
        if now_s > self.expires_s {
            return Err(format!("the certificate expired at {}", at(self.expires_s)));
        }
        if now_s < self.valid_from_s {
            return Err(format!("the certificate is not valid before {}", at(self.valid_from_s)));
        }
        Ok(())
    }

    pub(super) fn expires(&self) -> String {
        at(self.expires_s)
    }
}

fn at(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("second {seconds}"), |at| at.to_string())
}

/// From when to when a certificate is valid, in seconds since the Unix epoch.
///
/// The TLS library reads these times but hands them out in its verdicts only. So it is asked about the first and the last
/// moment there is: it looks at the time before anything else.
fn validity(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Result<(i64, i64), rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let verdict = |at: u64| {
        let (at, roots) = (UnixTime::since_unix_epoch(Duration::from_secs(at)), RootCertStore::empty());
        let known = provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, known) {
            Err(rustls::Error::InvalidCertificate(error)) => Ok(error),
            Err(error) => Err(error),
            // Without an authority nothing is trusted.
            Ok(()) => Ok(CertificateError::UnknownIssuer),
        }
    };
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let from = match verdict(0)? {
        CertificateError::NotValidYetContext { not_before, .. } => seconds(not_before),
        _ => 0,
    };
    match verdict(u64::MAX)? {
        CertificateError::ExpiredContext { not_after, .. } => Ok((from, seconds(not_after))),
        other => Err(other.into()),
    }
}
