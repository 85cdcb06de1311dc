//! Every refusal that a client can meet: its stable type, its status, its words. RFC 9457.
//!
//! Constraints: this is the one place that chooses a status for a refusal. Overload is never 400: clients drop what gets
//! 400. Types are never renamed or reused; clients may match on them. What a buffer said stays inside: a client learns
//! what to do, an operator reads the log.

mod kind;

use std::borrow::Cow;

use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

pub(super) use self::kind::Kind;
use super::answer::{RateFields, Rejected, listed_bytes};
use super::auth::Refusal;
use super::budget::{NoRoom, Reservation};
use super::connection::MAX_HEAD_BYTES;
use super::request_id::RequestId;
use crate::{buffer, query};

impl Kind {
    /// The whole answer, as it goes over the wire, where there is no request that the framework could answer.
    pub(super) fn bare_answer(self) -> Vec<u8> {
        let detail = match self {
            Self::HeadTimeout => Cow::from("The head of a request did not arrive in time."),
            _ => format!("A request's line and headers may have at most {MAX_HEAD_BYTES} bytes.").into(),
        };
        let body = Problem::new(self, detail).body(None);
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.status(),
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

/// One refusal, with what this case adds to its kind.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    detail: Cow<'static, str>,
    rejected: Vec<Rejected>,
    /// Boxed, so that a `Result` that mostly is no refusal stays small.
    rate: Option<Box<RateFields>>,
    retry_after_s: Option<u64>,
    /// For the log, never for the client.
    cause: Option<String>,
    /// What its list takes of the byte budget.
    held: Option<Reservation>,
}

/// What the access log may say of a refusal.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    /// [`Kind::slug`].
    pub(super) problem: &'static str,
    /// What the buffer or the system said.
    pub(super) cause: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            rejected: Vec::new(),
            rate: None,
            // A whole fleet that met the same outage must not come back in the same second.
            retry_after_s: kind.retry_after_s().map(|shortest| rand::random_range(shortest..=shortest * 2)),
            cause: None,
            held: None,
        }
    }

    /// `held` stands for its list, if it has one.
    pub(super) fn holding(mut self, mut held: Reservation) -> Self {
        match held.resize(listed_bytes(&self.rejected)) {
            Ok(()) => Self { held: Some(held), ..self },
            // The list is what there is no room for. What is wrong as a whole can be told.
            Err(NoRoom) => {
                self.rejected = Vec::new();
                self
            }
        }
    }

    /// Hands over what stands for the list.
    pub(super) fn take_held(&mut self) -> Option<Reservation> {
        self.held.take()
    }

    pub(super) fn with_rejected(self, rejected: Vec<Rejected>) -> Self {
        Self { rejected, ..self }
    }

    pub(super) fn with_rate(self, rate: Option<RateFields>) -> Self {
        Self { rate: rate.map(Box::new), ..self }
    }

    pub(super) fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds.max(1)), ..self }
    }

    pub(super) fn with_cause(self, cause: impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// The records that the answer lists.
    pub(super) fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// The answer to `request`.
    pub(super) fn respond(self, request: &HttpRequest) -> HttpResponse {
        let id = RequestId::of(request);
        let mut response = HttpResponse::build(self.kind.status());
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(rate) = &self.rate {
            rate.insert(&mut response);
        }
        if self.kind == Kind::Unauthorized {
            response.insert_header(CHALLENGE);
        }
        let body = self.body(id.as_ref().map(RequestId::as_str));
        let mut response = response.insert_header(CONTENT_TYPE).body(body);
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause { problem: self.kind.slug(), cause });
        }
        response
    }

    /// The document itself.
    pub(super) fn body(&self, instance: Option<&str>) -> Vec<u8> {
        let (slug, status, title) = self.kind.about();
        let document = Document {
            r#type: format_args!("urn:systole:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance,
            accepted: (!self.rejected.is_empty()).then_some(0),
            rejected: &self.rejected,
        };
        // A struct of numbers and texts always serializes.
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

const CONTENT_TYPE: (HeaderName, HeaderValue) =
    (actix_web::http::header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));

/// RFC 6750 wants at least one parameter.
const CHALLENGE: (HeaderName, HeaderValue) = (WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="systole""#));

#[derive(Serialize)]
struct Document<'a> {
    r#type: std::fmt::Arguments<'a>,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rejected: &'a [Rejected],
}

/// What to tell a client whose heartbeats the buffer did not take.
const RESEND: &str = "Some of the heartbeats may be held already; sending all of them again is safe.";

impl From<buffer::Error> for Problem {
    fn from(error: buffer::Error) -> Self {
        let (kind, reason) = why(&error);
        let said = if kind == Kind::ExceedsBuffer { reason.to_owned() } else { format!("{reason} {RESEND}") };
        Self::new(kind, said).with_cause(error)
    }
}

impl Problem {
    /// A question that the buffer did not answer.
    pub(super) fn unanswered(error: buffer::Error) -> Self {
        let (kind, reason) = why(&error);
        Self::new(kind, reason).with_cause(error)
    }

    /// There is no place for one more read.
    pub(super) fn overloaded_reads(cause: impl ToString) -> Self {
        Self::new(Kind::Overloaded, "Too many answers are being read at this moment.").with_cause(cause)
    }

    /// Heartbeats that cannot be read.
    pub(super) fn unread(error: query::Error) -> Self {
        match &error {
            query::Error::Buffer(of_buffer) => {
                let (kind, reason) = why(of_buffer);
                Self::new(kind, reason).with_cause(error)
            }
            query::Error::Busy { .. } | query::Error::CutOff { .. } => Self::overloaded_reads(error),
            query::Error::Damaged(cause) | query::Error::Files(cause) => {
                Self::new(Kind::FilesUnreadable, sentence(&error)).with_cause(cause)
            }
            query::Error::Moving | query::Error::Newer => {
                Self::new(Kind::FilesUnreadable, sentence(&error)).with_cause(&error)
            }
        }
    }
}

/// What is said of it, as a sentence.
fn sentence(error: &query::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default()
}

/// What a fault of the buffer is to a client.
const fn why(error: &buffer::Error) -> (Kind, &'static str) {
    use buffer::Error as E;
    match error {
        E::Full { .. } => (Kind::BufferFull, "The buffer is full until batchers have drained it."),
        E::TooLarge { .. } => (
            Kind::ExceedsBuffer,
            "The request holds more heartbeats of one user, or of users who share their place in the buffer, than it has room for \
             when it is empty; none was kept. Send smaller bulks.",
        ),
        E::TimedOut { .. } => (Kind::BufferTimeout, "The buffer did not answer in time."),
        E::Unreachable { .. } => (Kind::BufferUnreachable, "The buffer is out of reach."),
        E::Refused { .. } => (Kind::BufferRefused, "The buffer refuses for the moment."),
        E::TooFewReplicas { .. } => (Kind::TooFewReplicas, "Too few replicas of the buffer confirmed in time."),
        E::NotRegistered => (Kind::BufferNotRegistered, "The buffer is not registered for a dataset yet."),
        E::ForeignDataset { .. } => (Kind::ForeignBuffer, "The buffer belongs to another dataset."),
        // Steps of batchers do not come up here; were they to, they would be as little the client's to mend.
        E::BeingMoved | E::Fenced { .. } | E::NotStanding | E::Unwatched | E::Corrupt { .. } | E::Unsafe { .. } => {
            (Kind::BufferUnusable, "The buffer cannot be used until somebody has looked at it.")
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        use Refusal as R;
        match refusal {
            // One text for all of them: who guesses learns nothing from it.
            R::Missing | R::Malformed | R::Unknown | R::Wrong | R::Expired => {
                Self::new(Kind::Unauthorized, "Send a valid token: `Authorization: Bearer systole_…`.")
            }
            R::Scope(scope) => {
                Self::new(Kind::MissingScope, format!("This needs a token with the scope `{}`.", scope.as_str()))
            }
            R::Unread => Self::new(Kind::TokensUnavailable, "Who may come in is not known yet; nothing was kept.")
                .with_cause("the tokens have not been read yet"),
            R::Erased => Self::new(Kind::TokensUnavailable, "Who may come in is not known any more; nothing was kept.")
                .with_cause("the tokens were erased under a running process"),
            R::OtherSite => Self::new(Kind::CrossSite, "Another site had a browser send this; nothing was kept."),
            R::OtherName => Self::new(
                Kind::CrossSite,
                "As long as there is no token, ask by an address or `localhost`: this name may be anybody's. A proxy gives \
                 its own name by a token, or with --allow-anonymous.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::http::StatusCode;

    use super::*;
    use crate::heartbeat::DatasetId;

    #[test]
    fn every_fault_of_the_buffer_is_503_with_retry_after_and_a_type_of_its_own() {
        use buffer::Error as E;
        let text = String::new;
        let faults = [
            (E::Full { partition: 3 }, "buffer-full"),
            (E::TimedOut { after: Duration::from_secs(1) }, "buffer-timeout"),
            (E::Unreachable { reason: text() }, "buffer-unreachable"),
            (E::Refused { reason: text() }, "buffer-refused"),
            (E::TooFewReplicas { have: 0, want: 1 }, "too-few-replicas"),
            (E::NotRegistered, "buffer-not-registered"),
            (E::ForeignDataset { expected: DatasetId::new(), found: text() }, "foreign-buffer"),
            (E::Corrupt { detail: text() }, "buffer-unusable"),
            (E::Unsafe { advice: text() }, "buffer-unusable"),
            (E::BeingMoved, "buffer-unusable"),
            (E::NotStanding, "buffer-unusable"),
            (E::Fenced { partition: 3 }, "buffer-unusable"),
        ];
        for (fault, slug) in faults {
            let problem = Problem::from(fault);
            assert_eq!(problem.kind.slug(), slug);
            assert_eq!(problem.kind.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(problem.retry_after_s.is_some_and(|seconds| seconds >= 1), "{slug}");
        }
    }

    #[test]
    fn what_never_fits_is_the_clients_to_cut_and_not_to_send_again() {
        let problem = Problem::from(buffer::Error::TooLarge { partition: 3 });
        assert_eq!((problem.kind.slug(), problem.kind.status()), ("exceeds-buffer", StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(problem.retry_after_s, None);
        let body = String::from_utf8(problem.body(None).to_vec()).unwrap();
        assert!(body.contains("smaller bulks") && !body.contains("again"), "{body}");
    }

    #[test]
    fn who_has_no_good_token_is_not_told_why() {
        use Refusal as R;
        let told = |refusal: R| {
            let problem = Problem::from(refusal);
            (problem.kind, problem.retry_after_s, problem.body(None))
        };
        for refusal in [R::Malformed, R::Unknown, R::Wrong, R::Expired] {
            assert_eq!(told(refusal), told(R::Missing));
        }
        assert_eq!(told(R::Missing).0.status(), StatusCode::UNAUTHORIZED);
        for refusal in [R::Unread, R::Erased] {
            let (kind, retry_after_s, _) = told(refusal);
            assert_eq!(kind.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(retry_after_s.is_some());
        }
    }

    #[test]
    fn a_document_has_the_members_of_rfc_9457() {
        let body = Problem::new(Kind::NotFound, "no such path").body(Some("0f3"));
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:systole:problem:not-found",
                "title": "No such path",
                "status": 404,
                "detail": "no such path",
                "instance": "0f3",
            })
        );
    }
}
