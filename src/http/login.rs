//! `POST /login` and `POST /logout`: a browser that shows the page keeps its token in a cookie.
//!
//! Constraints: nothing is kept here, so there is no session to end: whoever has the cookie has the token. Other sites cannot
//! have a browser log in or out (`same_site`). Guessing is limited by address, as anywhere, and told nothing.

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::Value;

use super::auth::{Credentials, Pass, cookie, site};
use super::body::{self, declared_length};
use super::budget::Reservation;
use super::ingest::Edge;
use super::problem::{Kind, Problem};
use super::pulse::Reading;
use crate::token::Scope;

/// A form with a token takes 100 bytes.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// What logging in needs to know beside the edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login {
    /// Whether this server is spoken to over TLS.
    pub(super) tls: bool,
}

impl Login {
    /// Whether the browser speaks TLS, to here or to a proxy of ours. A cookie that came so must not go in the clear.
    fn is_secure(self, edge: &Edge, request: &HttpRequest) -> bool {
        self.tls || edge.clients.came_over_tls(request.peer_addr(), request.headers())
    }
}

/// How a token is sent, and so what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By a script, which goes on by itself: 204.
    Json,
    /// By a form of the page, which the browser is sent back to: 303.
    UrlEncoded,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let line = headers.get(CONTENT_TYPE).and_then(|line| line.to_str().ok()).unwrap_or_default();
        let kind = line.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Ok(Self::UrlEncoded)
        } else {
            let detail = "Send application/json or application/x-www-form-urlencoded, with a `token`.";
            Err(Problem::new(Kind::UnsupportedMediaType, detail))
        }
    }

    fn read(self, body: &[u8]) -> Result<Credentials, Problem> {
        match self {
            Self::Json => match serde_json::from_slice(body) {
                Ok(Value::Object(sent)) => match sent.get("token") {
                    None => Ok(Credentials::None),
                    Some(token) => Ok(token.as_str().map_or(Credentials::Unreadable, Credentials::of_text)),
                },
                // What the parser says may quote what was sent.
                _ => Err(Problem::new(Kind::MalformedBody, "Send a JSON object with a `token`.")),
            },
            Self::UrlEncoded => {
                let token = url::form_urlencoded::parse(body).find(|(name, _)| name == "token");
                Ok(token.map_or(Credentials::None, |(_, text)| Credentials::of_text(&text)))
            }
        }
    }

    fn done(self) -> HttpResponse {
        let mut response = match self {
            Self::Json => HttpResponse::new(StatusCode::NO_CONTENT),
            Self::UrlEncoded => HttpResponse::new(StatusCode::SEE_OTHER),
        };
        if self == Self::UrlEncoded {
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
        }
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Has the browser present a token from now on, if it is one that may see the page.
pub(super) async fn login(
    request: HttpRequest,
    payload: web::Payload,
    edge: web::Data<Edge>,
    login: web::Data<Login>,
) -> HttpResponse {
    let mut payload = payload.into_inner();
    match let_in(&edge, &request, &mut payload).await {
        Ok((form, credentials)) => {
            let mut response = form.done();
            if let Credentials::Token(token) = &credentials {
                insert_cookie(&mut response, cookie::set(token, login.is_secure(&edge, &request)));
            }
            response
        }
        Err(problem) => body::with_unread(problem.respond(&request), payload),
    }
}

/// Has the browser forget it.
pub(super) async fn logout(
    request: HttpRequest,
    payload: web::Payload,
    edge: web::Data<Edge>,
    login: web::Data<Login>,
) -> HttpResponse {
    let response = match same_site(request.headers()) {
        Ok(()) => {
            // A page without a script sends an empty form, and wants to be shown something.
            let mut response = Form::of(request.headers()).unwrap_or(Form::Json).done();
            insert_cookie(&mut response, cookie::clear(login.is_secure(&edge, &request)));
            response
        }
        Err(problem) => problem.respond(&request),
    };
    body::with_unread(response, payload.into_inner())
}

fn insert_cookie(response: &mut HttpResponse, line: String) {
    // Made of our own letters alone.
    if let Ok(line) = HeaderValue::try_from(line) {
        response.headers_mut().insert(SET_COOKIE, line);
    }
}

async fn let_in(edge: &Edge, request: &HttpRequest, payload: &mut Payload) -> Result<(Form, Credentials), Problem> {
    let length = declared_length(request.headers());
    let form = match judge_head(edge, request, length) {
        Ok(form) => form,
        Err(problem) => {
            body::discard(payload, length, edge.bounds.deadline).await;
            return Err(problem);
        }
    };
    let body = read(edge, request, payload, length).await?;
    let credentials = form.read(&body)?;
    match edge.gate.judge_presented(|| credentials.clone(), Scope::Admin)? {
        Pass::Token(_) => Ok((form, credentials)),
        // Where no token is needed there is none to remember, whatever was sent.
        Pass::Anybody => Ok((form, Credentials::None)),
    }
}

async fn read(
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
    length: Option<u64>,
) -> Result<Bytes, Problem> {
    let _reading = Reading::of(request);
    let mut reservation = Reservation::empty(&edge.budget);
    let share = edge.arriving.body_of(edge.clients.of(request.peer_addr(), request.headers()));
    body::read(payload, length, body::Bounds { limit: MAX_BODY_BYTES, ..edge.bounds }, &mut reservation, share).await
}

fn judge_head(edge: &Edge, request: &HttpRequest, length: Option<u64>) -> Result<Form, Problem> {
    // Each guess is charged, good or not.
    edge.judge_address(request)?;
    same_site(request.headers())?;
    if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(body::too_large(MAX_BODY_BYTES));
    }
    Form::of(request.headers())
}

/// Refuses what another site has a browser send. What is no browser holds no cookie.
fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    if site::is_sent_by_own_site(headers) {
        return Ok(());
    }
    Err(Problem::new(Kind::CrossSite, "Log in and out from this server's own page."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Secret;

    #[test]
    fn a_token_is_read_from_either_form() {
        let (id, secret) = Secret::mint().unwrap();
        let text = secret.text(id);
        for (form, body) in [
            (Form::Json, format!("{{\"token\":\"{text}\"}}")),
            (Form::Json, format!("{{\"other\":1,\"token\":\" {text}\\n\"}}")),
            (Form::UrlEncoded, format!("token={text}")),
            (Form::UrlEncoded, format!("a=b&token=%20{text}+&c")),
        ] {
            let read = form.read(body.as_bytes()).unwrap();
            assert!(matches!(read, Credentials::Token(found) if found.id == id), "{body}");
        }
        for (form, body) in [(Form::Json, "{}"), (Form::UrlEncoded, ""), (Form::UrlEncoded, "token=")] {
            assert!(matches!(form.read(body.as_bytes()), Ok(Credentials::None)), "{body}");
        }
        assert!(matches!(Form::Json.read(br#"{"token":7}"#), Ok(Credentials::Unreadable)));
        assert!(matches!(Form::UrlEncoded.read(b"token=\xff%ff"), Ok(Credentials::Unreadable)));
        for body in ["", "[]", "token=x", "7"] {
            assert_eq!(Form::Json.read(body.as_bytes()).unwrap_err().kind, Kind::MalformedBody);
        }
    }
}
