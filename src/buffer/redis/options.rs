//! How to reach Redis.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use humantime::Duration as Span;

use super::super::Error;
use super::super::options::Options as Common;
use super::files;

use crate::settings;

/// Where Redis is when nothing is said.
const DEFAULT_URL: &str = "redis://127.0.0.1:6379";

/// How to reach Redis, and what it must confirm.
///
/// How the waits relate: `connect_timeout` and `wait_replicas_timeout` < the push deadline.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Redis")]
#[group(skip)]
pub struct Options {
    /// Where Redis is (redis://127.0.0.1:6379 unless set): redis://, rediss:// (TLS) or unix://; several nodes apart by commas for Sentinel and Cluster
    // Not a clap default: `audit` of an embedded dataset must be able to tell "not said" from that address.
    #[arg(long, env = "SYSTOLE_BUFFER", value_name = "URL", hide_env_values = true)]
    pub buffer: Option<BufferUrls>,
    /// The name of the master that the Sentinels at --buffer watch
    #[arg(long, env = "SYSTOLE_REDIS_SENTINEL_MASTER", value_name = "NAME")]
    pub redis_sentinel_master: Option<String>,
    /// The nodes at --buffer form a Redis Cluster
    #[arg(long, env = "SYSTOLE_REDIS_CLUSTER")]
    pub redis_cluster: bool,
    /// A file that holds the Redis password, instead of one in the URL
    #[arg(long, env = "SYSTOLE_REDIS_PASSWORD_FILE", value_name = "FILE")]
    pub redis_password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust for rediss://, instead of the usual authorities
    #[arg(long, env = "SYSTOLE_REDIS_CA_FILE", value_name = "FILE")]
    pub redis_ca_file: Option<PathBuf>,
    /// A certificate (PEM) to show to Redis over rediss://, where it asks for one
    #[arg(long, env = "SYSTOLE_REDIS_CLIENT_CERT", value_name = "FILE")]
    pub redis_client_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(long, env = "SYSTOLE_REDIS_CLIENT_KEY", value_name = "FILE")]
    pub redis_client_key: Option<PathBuf>,
    /// Start even though Redis may forget what it was given (no AOF, or a policy that evicts); /health says "volatile"
    #[arg(long, env = "SYSTOLE_ALLOW_VOLATILE_BUFFER")]
    pub allow_volatile_buffer: bool,
    /// Replicas that must hold a push before it is acknowledged
    #[arg(long, env = "SYSTOLE_WAIT_REPLICAS", default_value_t = 0, value_name = "N")]
    pub wait_replicas: u32,
    /// How long to wait for those replicas; shorter than the push deadline
    #[arg(long, env = "SYSTOLE_WAIT_REPLICAS_TIMEOUT", default_value = "1s", value_name = "DURATION")]
    pub wait_replicas_timeout: Span,
    /// Connections to Redis that a process keeps at most
    #[arg(long, env = "SYSTOLE_BUFFER_CONNECTIONS", default_value_t = 8, value_name = "N")]
    pub buffer_connections: usize,
    /// How long connecting to Redis may take
    #[arg(long, env = "SYSTOLE_CONNECT_TIMEOUT", default_value = "2s", value_name = "DURATION")]
    pub connect_timeout: Span,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Options {
    /// The URLs in force.
    pub fn urls(&self) -> BufferUrls {
        self.buffer.clone().unwrap_or_else(|| BufferUrls(DEFAULT_URL.to_owned()))
    }

    /// Checks what can be checked without a server: how the settings relate.
    ///
    /// # Errors
    /// [`Error::Unsafe`], naming the setting, its value and what is allowed.
    pub fn check(&self, common: &Common) -> Result<(), Error> {
        let wrong = |advice: String| Err(Error::Unsafe { advice });
        if self.redis_cluster && self.redis_sentinel_master.is_some() {
            return wrong("redis-cluster and redis-sentinel-master exclude each other: give one of them".into());
        }
        if self.buffer_connections == 0 {
            return wrong("buffer-connections: 0 is too few; give at least 1 (8 suits most)".into());
        }
        if self.wait_replicas > 0 && *self.wait_replicas_timeout >= *common.push_deadline {
            return wrong(format!(
                "wait-replicas-timeout: {} must be shorter than push-deadline, {}",
                self.wait_replicas_timeout, common.push_deadline
            ));
        }
        if self.wait_replicas > 0 && self.wait_replicas_timeout.as_millis() == 0 {
            // To Redis, WAIT with a timeout of zero means for ever.
            return wrong("wait-replicas-timeout: give at least 1ms".into());
        }
        if *self.connect_timeout >= *common.push_deadline {
            return wrong(format!(
                "connect-timeout: {} must be shorter than push-deadline, {}",
                self.connect_timeout, common.push_deadline
            ));
        }
        let urls = self.urls().each()?;
        files::check(self, urls.iter().all(|url| url.scheme() == ENCRYPTED))
    }
}

/// One or more URLs of the buffer, apart by commas. They may hold a password, so neither `Debug` nor `Display` shows one.
///
/// Reading it from text never fails, because the command line's parser would repeat a wrong value, password and all;
/// [`Options::check`] judges it.
#[derive(Clone, PartialEq, Eq)]
pub struct BufferUrls(String);

/// Schemes that lead to a Redis.
const SCHEMES: &[&str] = &["redis", "rediss", "unix", "redis+unix"];
/// The one over TLS.
const ENCRYPTED: &str = "rediss";
const ALLOWED: &str = "redis://host:6379, rediss://host:6379 (TLS) or unix:///path/to/redis.sock";

impl BufferUrls {
    /// The URLs, each of an allowed scheme.
    ///
    /// # Errors
    /// [`Error::Unsafe`] that says what is allowed.
    pub(in crate::buffer) fn each(&self) -> Result<Vec<url::Url>, Error> {
        let wrong = |what: String| Error::Unsafe { advice: format!("buffer: {what}; allowed is {ALLOWED}") };
        let urls: Vec<url::Url> = self
            .0
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| match url::Url::parse(text) {
                Err(error) => Err(wrong(format!("`{}` is no URL ({error})", redact(text)))),
                Ok(url) if !SCHEMES.contains(&url.scheme()) => {
                    Err(wrong(format!("`{}` has the scheme `{}`", redact(text), url.scheme())))
                }
                Ok(url) => Ok(url),
            })
            .collect::<Result<_, _>>()?;
        if urls.is_empty() { Err(wrong("no URL is given".into())) } else { Ok(urls) }
    }

    /// The URLs with `***` in place of every password: for logs, `/health` and `systole config`.
    pub fn redacted(&self) -> String {
        self.0.split(',').map(|text| redact(text.trim())).collect::<Vec<_>>().join(",")
    }
}

/// Cuts the password out of anything that looks like a URL, whether or not it is one.
fn redact(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    // A password may hold an unescaped '@', '/' or '?': what stands before the last '@' may be secret.
    let shown = match rest.rsplit_once('@') {
        None => rest.to_owned(),
        Some((secret, host)) => match secret.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("***@{host}"),
        },
    };
    // unix:// URLs carry theirs as a query parameter.
    let shown = match shown.split_once('?') {
        Some((path, query)) if query.contains("pass") => format!("{path}?***"),
        _ => shown,
    };
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

impl FromStr for BufferUrls {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for BufferUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Display for BufferUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Options {
        settings::parse(arguments).unwrap()
    }

    fn check(arguments: &[&str]) -> Result<(), Error> {
        parse(arguments).check(&Common::default())
    }

    #[test]
    fn the_defaults_pass_the_check() {
        check(&[]).unwrap();
    }

    #[test]
    fn no_password_is_ever_shown() {
        for url in [
            "redis://:s3cret@host:6379",
            "rediss://user:s3cret@host",
            "redis://s3cret@host",
            "redis://user:s3cret@x@host",
            "unix:///run/redis.sock?pass=s3cret&user=u",
            "http://u:s3cret@host",
            "redis://a,redis://:s3cret@b:1",
            "redis//:s3cret@host",
            "redis://u:s3cret@host:notaport",
        ] {
            let options = parse(&["--buffer", url]);
            let said = options.check(&Common::default()).map_err(|error| error.to_string()).err().unwrap_or_default();
            let shown = format!("{options:?} {} {said}", options.urls());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        assert_eq!(parse(&["--buffer", "redis://me:pw@h:1/2"]).urls().redacted(), "redis://me:***@h:1/2");
        assert_eq!(parse(&[]).urls().redacted(), "redis://127.0.0.1:6379");
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_is_allowed() {
        for (arguments, expected) in [
            (&["--buffer", "http://host"][..], &["http", "redis://"][..]),
            (&["--buffer", "host:6379"], &["host", "redis://"]),
            (&["--buffer", ""], &["no URL", "redis://"]),
            (&["--redis-cluster", "--redis-sentinel-master", "m"], &["exclude"]),
            (&["--redis-ca-file", "ca.pem"], &["redis-ca-file", "rediss://"]),
            (&["--buffer", "rediss://h", "--redis-client-cert", "c"], &["redis-client-cert", "needs redis-client-key"]),
            (&["--buffer", "rediss://h", "--redis-client-key", "k"], &["redis-client-key", "needs redis-client-cert"]),
            (&["--buffer-connections", "0"], &["buffer-connections", "at least 1"]),
            (&["--connect-timeout", "5s"], &["connect-timeout"]),
            (&["--wait-replicas", "1", "--wait-replicas-timeout", "5s"], &["wait-replicas-timeout", "push-deadline"]),
            (&["--wait-replicas", "1", "--wait-replicas-timeout", "0s"], &["at least 1ms"]),
        ] {
            let error = check(arguments).unwrap_err().to_string();
            assert!(expected.iter().all(|word| error.contains(word)), "{arguments:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }
}
