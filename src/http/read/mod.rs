//! `GET /v1/users/{user}/heartbeats`: what a user's devices have reported, wherever it lies by now.
//!
//! Constraints: with `limit`, and for JSON always, the answer is one page, made before its head is sent. Else it is the whole
//! range as a stream in bounded memory. HTTP/1.0 has no chunks, by which the end of a stream is told from its breaking off: there
//! the whole range is a page as well, and refused if it is more than that. Few answers are under way at once (`places`), and one
//! that finds no place soon is 503. It goes on for no longer than its token is one, and than its client stays: a search through
//! years may find nothing to send for long, and its place is wanted. Encoding runs on threads that give way to
//! those that serve connections.

mod page;
mod params;
mod places;
mod stream;

use actix_web::body::{BodyStream, BoxBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use actix_web::http::{Method, Version};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use self::page::Paged;
use self::params::Asked;
pub(super) use self::params::{DEFAULT_LIMIT, MAX_LIMIT};
use self::places::Reader;
pub(super) use self::places::Reads;
use self::stream::{Leaving, Walk};
use super::accept;
use super::answer::RateFields;
use super::auth::Refusal;
use super::ingest::Edge;
use super::problem::{Kind, Problem};
use super::pulse;
use super::services::Services;
use crate::query::output::{ExportError, Format};
use crate::query::{self, Coverage, Reading};
use crate::token::Scope;

const TOO_MANY_FOR_HTTP_1_0: &str = "There are more heartbeats than one answer of HTTP/1.0 can hold: ask with HTTP/1.1, or give \
    `limit` and follow `Link`.";

/// What an answer covers.
const SYSTOLE_COVERS: HeaderName = HeaderName::from_static("systole-covers");

/// Why an answer cannot be made.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// It cannot be read.
    #[error(transparent)]
    Unread(#[from] query::Error),
    /// It cannot be written in its format.
    #[error(transparent)]
    Unwritten(#[from] ExportError),
    /// Whoever reads it was let in, and would not be now.
    #[error("its token was revoked or has expired, or one is needed now")]
    TurnedAway(Refusal),
    /// Whoever asked has left, as it seems.
    #[error("its client has closed the connection, or one side of it")]
    Abandoned,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unread(error) => Self::unread(error),
            Fault::TurnedAway(refusal) => refusal.into(),
            Fault::Abandoned => {
                let detail = "The client has closed its side of the connection, and the answer takes long.";
                Self::new(Kind::Overloaded, detail).with_cause(fault)
            }
            Fault::Unwritten(_) => {
                Self::new(Kind::Internal, "The heartbeats cannot be written in this format.").with_cause(fault)
            }
        }
    }
}

/// The handler, of GET and HEAD.
pub(super) async fn get(
    request: HttpRequest,
    edge: web::Data<Edge>,
    services: web::Data<Services>,
    reads: web::Data<Reads>,
) -> HttpResponse {
    let answered = tokio::select! {
        biased;
        answered = answer(&request, &edge, &services.reading, &reads) => answered,
        () = pulse::abandoned(&request) => Err(Fault::Abandoned.into()),
    };
    match answered {
        Ok(response) => response,
        Err(problem) => problem.respond(&request),
    }
}

async fn answer(request: &HttpRequest, edge: &Edge, reading: &Reading, reads: &Reads) -> Result<HttpResponse, Problem> {
    let standing = edge.judge_address(request)?;
    let pass = edge.gate.judge(request, Scope::Read)?;
    let asked = Asked::read(request.uri().path(), request.uri().query().unwrap_or_default())?;
    if !pass.is_about(&asked.query.user_id) {
        return Err(Problem::new(Kind::ForbiddenUser, "The token may not read heartbeats of this user."));
    }
    let format = accept::choose(request.headers(), &Format::ALL, Format::media_type).ok_or_else(not_acceptable)?;
    let reader = Reader::of(&pass, edge.client(request));
    let place = reads.place(reader).await?;
    let admission = edge.gate.admission(request, Scope::Read);

    // Once: files that come to be seen later are in no part of the answer, or in some of it.
    let coverage = reading.coverage();
    let mut response = head(format, coverage);
    if let Some(rate) = RateFields::of(standing, &edge.limits) {
        rate.insert(&mut response);
    }
    let mut scan = reading.scan(asked.query.clone(), asked.after.clone());
    let paging = Paging::of(&asked, format, request.version());
    let Some(limit) = paging.limit() else {
        let walk = Walk::begin(scan, format).await?;
        if request.method() == Method::HEAD {
            // The framework would go through all of it to throw it away.
            let nothing = futures::stream::empty::<Result<_, std::io::Error>>();
            return Ok(response.body(BoxBody::new(BodyStream::new(nothing))));
        }
        return Ok(response.body(walk.body(Leaving::new(place, admission, request))));
    };
    let paged = page::read(&mut scan, &asked.query, format, limit).await?;
    if paging == Paging::AllOrNothing && paged.next.is_some() {
        return Err(Problem::new(Kind::InvalidParameter, TOO_MANY_FOR_HTTP_1_0));
    }
    if let Some(next) = paged.next.as_deref().and_then(|next| link(&asked, next)) {
        response.insert_header((LINK, next));
    }
    let bytes = if format == Format::Json { framed(paged, coverage) } else { paged.rows };
    Ok(response.body(stream::whole(bytes, Leaving::new(place, admission, request))))
}

/// In how many pieces a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paging {
    /// A page, that leads to the next.
    Page(usize),
    /// The whole range in one page.
    AllOrNothing,
    /// The whole range as a stream.
    Stream,
}

impl Paging {
    fn of(asked: &Asked, format: Format, version: Version) -> Self {
        match asked.limit {
            Some(limit) => Self::Page(limit),
            None if format == Format::Json => Self::Page(DEFAULT_LIMIT),
            None if version < Version::HTTP_11 => Self::AllOrNothing,
            None => Self::Stream,
        }
    }

    const fn limit(self) -> Option<usize> {
        match self {
            Self::Page(limit) => Some(limit),
            Self::AllOrNothing => Some(MAX_LIMIT),
            Self::Stream => None,
        }
    }
}

fn head(format: Format, coverage: Coverage) -> HttpResponseBuilder {
    let content_type = match format {
        Format::Csv => "text/csv; charset=utf-8; header=present",
        other => other.media_type(),
    };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((SYSTOLE_COVERS, covers(coverage)));
    response
}

const fn covers(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::All => "all",
        Coverage::BufferOnly => "buffer",
    }
}

fn link(asked: &Asked, next: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("<{}>; rel=\"next\"", asked.next(next))).ok()
}

/// A page of JSON. No cursor holds a character that JSON would write otherwise.
fn framed(paged: Paged, coverage: Coverage) -> Vec<u8> {
    let next = paged.next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
    let tail = format!(",\"next\":{next},\"covers\":\"{}\"}}\n", covers(coverage));
    [&b"{\"heartbeats\":"[..], &paged.rows, tail.as_bytes()].concat()
}

fn not_acceptable() -> Problem {
    let offered = Format::ALL.map(Format::media_type).join(", ");
    Problem::new(Kind::NotAcceptable, format!("There is none of what `Accept` asks for; there are {offered}."))
}
