//! The files that settings name: the password, and what TLS towards Redis takes.
//!
//! They are read again whenever a new connection is made, so that what was renewed is taken up without a restart, and
//! connections that stand are not touched. What then cannot be used changes nothing: the last that could stays.

use std::path::{Path, PathBuf};

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::super::{Error, Result};
use super::options::Options;

/// What the files hold.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    password: Option<String>,
    authorities: Option<Vec<u8>>,
    client: Option<Client>,
}

/// A certificate of our own and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
struct Client {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the files of the settings")
    }
}

impl Files {
    /// Whether the options name any.
    pub(super) fn are_named(options: &Options) -> bool {
        options.redis_password_file.is_some() || options.redis_ca_file.is_some() || options.redis_client_cert.is_some()
    }

    /// Reads and judges them. Blocks.
    ///
    /// # Errors
    /// [`Error::Unsafe`], naming the setting and the file.
    pub(super) fn read(options: &Options) -> Result<Self> {
        let password = options.redis_password_file.as_deref().map(read_password).transpose()?;
        let authorities = options.redis_ca_file.as_deref().map(read_authorities).transpose()?;
        let client = match (&options.redis_client_cert, &options.redis_client_key) {
            (Some(cert), Some(key)) => Some(Client::read(cert, key)?),
            _ => None,
        };
        Ok(Self { password, authorities, client })
    }

    /// The password, without the line break behind it.
    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// What the client library takes; `None` for its defaults.
    pub(super) fn certificates(&self) -> Option<TlsCertificates> {
        if self.authorities.is_none() && self.client.is_none() {
            return None;
        }
        let client = self.client.clone();
        let client_tls = client.map(|Client { cert, key }| ClientTlsConfig { client_cert: cert, client_key: key });
        Some(TlsCertificates { client_tls, root_cert: self.authorities.clone() })
    }
}

fn read_password(path: &Path) -> Result<String> {
    let text = String::from_utf8(read("redis-password-file", path)?)
        .map_err(|_| wrong("redis-password-file", path, "is no text"))?;
    // As a secret looks that was not mounted: without it another user's rights would be asked for.
    if text.trim().is_empty() {
        Err(wrong("redis-password-file", path, "holds no password"))
    } else {
        Ok(text.trim().to_owned())
    }
}

fn read_authorities(path: &Path) -> Result<Vec<u8>> {
    let pem = read("redis-ca-file", path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem) {
        let usable = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
        usable.ok_or_else(|| wrong("redis-ca-file", path, "holds a certificate that cannot be used"))?;
    }
    // Without one nobody would be trusted, which looks like a wrong server.
    if roots.is_empty() { Err(wrong("redis-ca-file", path, "holds no certificate in PEM")) } else { Ok(pem) }
}

impl Client {
    fn read(cert: &Path, key: &Path) -> Result<Self> {
        let client = Self { cert: read("redis-client-cert", cert)?, key: read("redis-client-key", key)? };
        let chain = certificates(&client.cert)
            .collect::<std::result::Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| wrong("redis-client-cert", cert, "holds no certificate in PEM"))?;
        let parsed = PrivateKeyDer::from_pem_slice(&client.key)
            .map_err(|_| wrong("redis-client-key", key, "holds no private key in PEM"))?;
        CertifiedKey::from_der(chain, parsed, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong("redis-client-key", key, "is not the key of the certificate in redis-client-cert")
            }
            error => wrong("redis-client-cert", cert, &format!("cannot be used with its key ({error})")),
        })?;
        Ok(client)
    }
}

fn certificates(
    pem: &[u8],
) -> impl Iterator<Item = std::result::Result<CertificateDer<'static>, rustls::pki_types::pem::Error>> {
    CertificateDer::pem_slice_iter(pem)
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| wrong(setting, path, &format!("cannot be read ({error})")))
}

fn wrong(setting: &'static str, path: &Path, what: &str) -> Error {
    Error::Unsafe { advice: format!("{setting}: `{}` {what}", path.display()) }
}

/// What stands in the settings about TLS alone.
pub(super) fn check(options: &Options, encrypted: bool) -> Result<()> {
    let given = |setting: &'static str, path: &Option<PathBuf>| path.is_some().then_some(setting);
    let (cert, key) = (&options.redis_client_cert, &options.redis_client_key);
    let refuse = |advice: String| Err(Error::Unsafe { advice });
    match (given("redis-client-cert", cert), given("redis-client-key", key)) {
        (Some(_), None) => return refuse("redis-client-cert is given: it needs redis-client-key beside it".into()),
        (None, Some(_)) => return refuse("redis-client-key is given: it needs redis-client-cert beside it".into()),
        _ => {}
    }
    match given("redis-ca-file", &options.redis_ca_file).or(given("redis-client-cert", cert)) {
        // Somebody believes that this connection is encrypted.
        Some(setting) if !encrypted => {
            refuse(format!("{setting} is given, but the buffer's URL is not encrypted: write rediss:// there"))
        }
        _ => Ok(()),
    }
}
