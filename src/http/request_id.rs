//! The id by which a client, a log line and a problem document speak of the same request.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};
use uuid::{Builder, fmt::Hyphenated};

/// The header that carries it, both ways.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client.
const MAX_LEN: usize = 128;

/// A request's id: visible ASCII, safe in a log line, a header and a URI reference.
#[derive(Debug, Clone)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id when it is a sane one, else a new one (UUIDv7).
    pub(super) fn take_or_make(headers: &HeaderMap, now_ms: u64) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(given) if is_sane(given.as_bytes()) => Self(given.clone()),
            _ => Self::make(now_ms),
        }
    }

    /// The id that was given to `request`. `None` before the access layer has seen it.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    pub(super) fn as_str(&self) -> &str {
        // Both ways of making one allow ASCII alone.
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    fn make(now_ms: u64) -> Self {
        // From the thread's own generator: `Uuid::now_v7` would make a system call for each request.
        let id = Builder::from_unix_timestamp_millis(now_ms, &rand::random()).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        let text = id.hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none")))
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_LEN).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(id: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        RequestId::take_or_make(&headers, 1_795_000_000_000).as_str().to_owned()
    }

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced() {
        assert_eq!(taken("abc-1.2_Z"), "abc-1.2_Z");
        for odd in ["", "a b", "a\"b", "a/b", &"x".repeat(129)] {
            let made = taken(odd);
            assert_eq!(uuid::Uuid::parse_str(&made).unwrap().get_version_num(), 7, "{odd:?}");
        }
        assert_ne!(taken(""), taken(""));
    }
}
