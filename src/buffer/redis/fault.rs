//! What Redis and the network say, in the words of the buffer's contract.
//!
//! No message carries a secret: addresses and server texts only, and the client library keeps passwords out of its own.

use deadpool::managed::{PoolError, TimeoutType};
use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

use super::super::Error;

/// What a failed call means; `on_cluster` when redirections were followed.
pub(super) fn of_call(error: &RedisError, on_cluster: bool) -> Error {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {
            of_code(error.code().unwrap_or("ERR"), error.detail(), on_cluster)
        }
        ErrorKind::AuthenticationFailed => wrong_password(),
        ErrorKind::InvalidClientConfig => Error::Unsafe { advice: format!("buffer: {error}") },
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Error::Corrupt { detail: format!("an answer that cannot be read ({})", error.category()) }
        }
        ErrorKind::MasterNameNotFoundBySentinel => {
            Error::Unreachable { reason: "no Sentinel knows a master of the name in redis-sentinel-master".into() }
        }
        _ => {
            let said = error.to_string();
            Error::Unreachable { reason: of_tls(&said).unwrap_or(said) }
        }
    }
}

/// What a failed handshake means, in the words of the settings. The library hands its reason on as text only.
///
/// Not [`Error::Unsafe`]: a certificate that expired is mended on the other side, and a door that is started meanwhile
/// should wait for that rather than stay away.
fn of_tls(said: &str) -> Option<String> {
    if said.contains("invalid peer certificate") {
        return Some(format!(
            "Redis shows a certificate that is not trusted ({said}); check redis-ca-file, and that the certificate names the host of the buffer's URL"
        ));
    }
    if said.contains("received fatal alert") {
        return Some(format!("Redis refuses the TLS handshake ({said}); check redis-client-cert"));
    }
    said.contains("received corrupt message")
        .then(|| format!("what answers there does not speak TLS ({said}); check the port of the buffer's URL"))
}

/// What it means that a replica answers: what it says to a write.
pub(super) fn of_replica() -> Error {
    of_code("READONLY", Some("this is a replica"), false)
}

/// What an error among a server's answers means.
pub(super) fn of_answer(error: &ServerError, on_cluster: bool) -> Error {
    of_code(error.code(), error.details(), on_cluster)
}

fn of_code(code: &str, details: Option<&str>, on_cluster: bool) -> Error {
    let said = details.map_or_else(|| code.to_owned(), |details| format!("{code} {details}"));
    match code {
        "NOAUTH" | "WRONGPASS" => wrong_password(),
        "NOPERM" => Error::Unsafe {
            advice: format!(
                "Redis does not let this user do its work ({said}); allow it with ACL SETUSER <user> +@all ~systole:*"
            ),
        },
        // Slots are on their way between nodes; a connection made anew knows where they went.
        "MOVED" | "ASK" if on_cluster => Error::Refused { reason: said },
        "MOVED" | "ASK" | "CROSSSLOT" => Error::Unsafe {
            advice: "buffer: this Redis is a node of a Cluster; add --redis-cluster (SYSTOLE_REDIS_CLUSTER=true)"
                .into(),
        },
        "OOM" => Error::Refused { reason: "Redis has reached its maxmemory".into() },
        // Nobody in charge is there to take anything: on its way up, or waiting for a primary.
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => Error::Unreachable { reason: said },
        "READONLY" | "TRYAGAIN" | "MISCONF" | "NOREPLICAS" | "BUSY" | "NOSCRIPT" => Error::Refused { reason: said },
        "ERR" if said.contains("max number of clients") => Error::Refused { reason: said },
        _ => Error::Corrupt { detail: said },
    }
}

fn wrong_password() -> Error {
    Error::Unsafe {
        advice: "Redis refuses the user or password; check the URL in SYSTOLE_BUFFER or the file in SYSTOLE_REDIS_PASSWORD_FILE"
            .into(),
    }
}

/// What not getting a connection means.
pub(super) fn of_pool(error: PoolError<RedisError>, on_cluster: bool) -> Error {
    match error {
        PoolError::Backend(error) => of_call(&error, on_cluster),
        PoolError::Timeout(TimeoutType::Wait) => {
            // A process asks for few at a time: they are all busy when Redis does not answer on any.
            Error::Unreachable { reason: "all connections to Redis are busy (see buffer-connections)".into() }
        }
        PoolError::Timeout(_) => Error::Unreachable { reason: "connecting took longer than connect-timeout".into() },
        other => Error::Unreachable { reason: other.to_string() },
    }
}

/// Whether a server that says this is not one to talk to any longer: it is no master, not loaded, or not in charge.
pub(super) fn spoils_connection(error: &ServerError) -> bool {
    matches!(
        error.kind(),
        Some(
            ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
        )
    ) || matches!(error.code(), "NOAUTH" | "UNBLOCKED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_is_not_there_yet_is_told_from_one_that_says_no() {
        for code in ["LOADING", "MASTERDOWN", "CLUSTERDOWN"] {
            assert!(matches!(of_code(code, None, false), Error::Unreachable { .. }), "{code}");
        }
        for code in ["OOM", "READONLY", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY", "NOSCRIPT"] {
            assert!(matches!(of_code(code, None, false), Error::Refused { .. }), "{code}");
        }
        for code in ["NOAUTH", "WRONGPASS", "NOPERM", "MOVED"] {
            assert!(matches!(of_code(code, None, false), Error::Unsafe { .. }), "{code}");
        }
        for code in ["ERR", "WRONGTYPE"] {
            assert!(matches!(of_code(code, Some("nonsense"), false), Error::Corrupt { .. }), "{code}");
        }
    }

    #[test]
    fn a_slot_on_its_way_is_no_wrong_setting_of_a_client_of_the_cluster() {
        for code in ["MOVED", "ASK"] {
            assert!(of_code(code, Some("7 127.0.0.1:7001"), true).is_transient(), "{code}");
        }
        assert!(matches!(of_code("CROSSSLOT", None, true), Error::Unsafe { .. }));
    }
}
