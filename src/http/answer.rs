//! What a client is told of its heartbeats.

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::{Limits, Standing};
use super::preference::Preference;
use crate::heartbeat::{RejectCode, Rejection};

/// `RateLimit-Policy`, see [`RateFields`].
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`, see [`RateFields`].
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// `Preference-Applied` of RFC 7240.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// One refused record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Rejected {
    /// Its place in the request.
    pub(super) index: u32,
    #[serde(serialize_with = "code_as_text")]
    pub(super) code: RejectCode,
    /// What to mend.
    pub(super) detail: String,
    /// Whether the same record can succeed later.
    pub(super) retryable: bool,
}

fn code_as_text<S: serde::Serializer>(code: &RejectCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

impl Rejected {
    pub(super) fn new(index: u32, rejection: Rejection) -> Self {
        let Rejection { code, detail } = rejection;
        Self { index, code, detail, retryable: code.retryable() }
    }
}

/// Bytes that a list of refused records takes, as it stands or as text.
pub(super) fn listed_bytes(rejected: &[Rejected]) -> usize {
    /// What stands around the detail, in memory and in JSON.
    const AROUND: usize = 128;
    rejected.iter().map(|one| AROUND + one.detail.len()).sum()
}

/// The two fields of draft-ietf-httpapi-ratelimit-headers, for the policy that leaves the least.
#[derive(Debug, Clone)]
pub(super) struct RateFields {
    policy: HeaderValue,
    limit: HeaderValue,
}

impl RateFields {
    /// `None` when nothing is limited.
    pub(super) fn of(standing: Option<Standing>, limits: &Limits) -> Option<Self> {
        let standing = standing?;
        let policy = limits.policy_field(standing.policy)?.clone();
        Some(Self { policy, limit: HeaderValue::try_from(standing.field()).ok()? })
    }

    pub(super) fn insert(&self, response: &mut HttpResponseBuilder) {
        response.insert_header((RATE_LIMIT_POLICY, self.policy.clone()));
        response.insert_header((RATE_LIMIT, self.limit.clone()));
    }
}

/// Says in `response` which preference was followed, if one was stated.
pub(super) fn insert_preference_applied(response: &mut HttpResponse, preference: Option<Preference>) {
    if let Some(preference) = preference {
        response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(preference.as_str()));
    }
}

/// 202: what the buffer holds, and what was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Heartbeats that are held.
    pub(super) accepted: usize,
    /// Those that are not, in the order of the request.
    pub(super) rejected: Vec<Rejected>,
    #[serde(skip)]
    pub(super) rate: Option<RateFields>,
}

impl Accepted {
    pub(super) fn respond(self) -> HttpResponse {
        let mut response = HttpResponse::Accepted();
        if let Some(rate) = &self.rate {
            rate.insert(&mut response);
        }
        response.json(self)
    }
}
