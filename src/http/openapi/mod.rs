//! What this server takes and answers, as an OpenAPI 3.1 document at `/openapi.json`.
//!
//! Constraints:
//! - Made from the types that do the work: answers from the structs that are serialized, refusals from
//!   [`Kind`](super::problem::Kind), bounds from the settings in force. What stands by hand here (the record, the order of
//!   things) is held to them by tests.
//! - What a client may send is closed, to the last field: what is not in the schema is refused. What it is answered is open:
//!   fields may be added, and clients must pass over those they do not know.
//! - The examples of requests are accepted by the server that shows them: their times are of this hour.
//! - Anybody may read it: it holds nothing of this server but its bounds.

mod answers;
mod devices;
mod operations;
mod overview;
mod reading;
mod record;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::Value;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder};

use super::digest::size;
use super::options::Options;
use super::problem::{Kind, Problem};
use super::routes::Route;

/// Headers of answers that are always there where the document names them. The library cannot say so.
const HEADERS_ALWAYS_THERE: [&str; 6] = [
    answers::REQUEST_ID,
    answers::RETRY_AFTER,
    answers::CACHE_CONTROL,
    answers::CHALLENGE,
    answers::COVERS,
    answers::ETAG,
];

/// The bounds that the document states.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    max_bulk: usize,
    max_body: usize,
    max_inflated_body: usize,
    max_clock_skew: humantime::Duration,
    max_age: humantime::Duration,
}

impl Bounds {
    pub(super) fn of(options: &Options) -> Self {
        Self {
            max_bulk: options.max_bulk as usize,
            max_body: size(options.max_body),
            max_inflated_body: size(options.max_inflated_body),
            max_clock_skew: options.max_clock_skew,
            max_age: options.max_age,
        }
    }
}

/// The document, rendered anew each hour for the sake of its examples.
pub(super) struct Document {
    /// `None` in processes that take no heartbeats in.
    bounds: Option<Bounds>,
    rendered: Mutex<Option<(Timestamp, Bytes)>>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Document {
    pub(super) fn new(bounds: Option<Bounds>) -> Self {
        Self { bounds, rendered: Mutex::default() }
    }

    fn at(&self, now: Timestamp) -> Result<Bytes, String> {
        let to_the_hour = TimestampRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc);
        let hour = now.round(to_the_hour).map_err(|error| error.to_string())?;
        // Whoever comes while it is rendered waits some milliseconds for it.
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some((of, text)) if *of == hour => Ok(text.clone()),
            _ => {
                let json = render(self.bounds.as_ref(), hour).map_err(|error| error.to_string())?;
                let text = Bytes::from(json.to_string());
                *rendered = Some((hour, text.clone()));
                Ok(text)
            }
        }
    }
}

/// The handler.
pub(super) async fn get(document: web::Data<Document>, request: HttpRequest) -> HttpResponse {
    match document.at(Timestamp::now()) {
        Ok(text) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(text),
        Err(error) => {
            Problem::new(Kind::Internal, "The document cannot be rendered.").with_cause(error).respond(&request)
        }
    }
}

fn render(bounds: Option<&Bounds>, hour: Timestamp) -> Result<Value, serde_json::Error> {
    let mut json = serde_json::to_value(document(bounds, hour))?;
    for name in HEADERS_ALWAYS_THERE {
        if let Some(header) = json.pointer_mut(&format!("/components/headers/{name}")) {
            header["required"] = Value::Bool(true);
        }
    }
    Ok(json)
}

fn document(bounds: Option<&Bounds>, hour: Timestamp) -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Systole")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    let mut paths = PathsBuilder::new();
    for route in Route::ALL {
        if let Some(item) = operations::of(route, bounds, hour) {
            paths = paths.path(route.template(), item);
        }
    }
    let mut components = answers::add_to(ComponentsBuilder::new());
    if let Some(bounds) = bounds {
        components = reading::add_to(record::add_to(components, bounds));
        components = overview::add_to(components);
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(BEARER)).build();
    components = components.security_scheme(operations::BEARER, SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::with_description("systole_token", COOKIE);
    components = components.security_scheme(operations::COOKIE, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

const DESCRIPTION: &str = "Collects heartbeats and lays them down as Parquet. A heartbeat that is answered 202 is held \
    durably; one that was sent twice is published once, so sending again is always safe.\n\n\
    Every refusal is an RFC 9457 problem document with a stable `type`. 4xx: mend the request, except for 408 and 429, \
    which are to be sent again. 5xx: send the same again, after `Retry-After`. Wherever GET is answered, HEAD is as well; \
    any other method is answered 405 with `Allow`, any other path 404.";

const BEARER: &str = "A token as `systole token create` prints it, of the scope `write` for sending \
    heartbeats, `read` for asking for them, and `admin` for metrics and the parts of \
    the health. Where no token was made none is asked for.";

const COOKIE: &str = "The same token, as `POST /login` has a browser keep it. For GET and HEAD.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::heartbeat::RejectCode;

    fn rendered() -> Value {
        render(Some(&Bounds::of(&Options::default())), "2026-11-22T08:00:00Z".parse().unwrap()).unwrap()
    }

    fn texts(of: &Value) -> BTreeSet<&str> {
        of.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    #[test]
    fn every_route_is_in_the_document() {
        let json = rendered();
        let found: BTreeSet<&str> = json["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routed = Route::ALL.into_iter().filter(|route| *route != Route::Other).map(Route::template);
        assert_eq!(found, routed.collect());
        // A process that takes nothing in has no more than it serves.
        let json = render(None, Timestamp::UNIX_EPOCH).unwrap();
        assert!(
            json["paths"].get("/v1/heartbeats").is_none() && json["components"]["schemas"].get("Heartbeat").is_none()
        );
    }

    #[test]
    fn every_type_of_problem_and_every_code_is_in_the_document() {
        let json = rendered();
        let types = Kind::ALL.map(|kind| format!("urn:systole:problem:{}", kind.slug()));
        let found = texts(&json["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]);
        assert_eq!(found, types.iter().map(String::as_str).collect());
        let codes = texts(&json["components"]["schemas"]["RejectCode"]["enum"]);
        assert_eq!(codes, RejectCode::ALL.map(RejectCode::as_str).into());
    }

    #[test]
    fn each_refusal_of_heartbeats_stands_at_its_status_with_an_example() {
        let json = rendered();
        let responses = &json["paths"]["/v1/heartbeats"]["post"]["responses"];
        for kind in Kind::ALL.into_iter().filter(|kind| kind.meets(Route::Heartbeats)) {
            let response = &responses[kind.status().as_str()];
            let examples = &response["content"]["application/problem+json"]["examples"];
            assert_eq!(examples[kind.slug()]["value"]["status"], kind.status().as_u16(), "{}", kind.slug());
            assert!(!kind.has_retry_after() || response["headers"].get("Retry-After").is_some(), "{}", kind.slug());
        }
    }

    #[test]
    fn references_lead_somewhere() {
        fn walk<'a>(json: &'a Value, found: &mut Vec<&'a str>) {
            match json {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|member| walk(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                _ => {}
            }
        }
        for json in [rendered(), render(None, Timestamp::UNIX_EPOCH).unwrap()] {
            let mut references = Vec::new();
            walk(&json, &mut references);
            assert!(references.len() > 5);
            for reference in references {
                assert!(json.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn the_bounds_are_those_of_the_settings() {
        let json = rendered();
        let heartbeat = &json["components"]["schemas"]["Heartbeat"];
        assert_eq!(heartbeat["additionalProperties"], false);
        assert_eq!(heartbeat["properties"]["user_id"]["maxLength"], 128);
        let options = Options { max_bulk: 7, ..Options::default() };
        let json = render(Some(&Bounds::of(&options)), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(json["components"]["schemas"]["Heartbeats"]["maxItems"], 7);
        assert_eq!(json["openapi"], json!("3.1.0"));
    }

    #[test]
    fn it_is_rendered_once_an_hour() {
        let document = Document::new(None);
        let at = |text: &str| document.at(text.parse().unwrap()).unwrap();
        let first = at("2026-11-22T08:00:00Z");
        assert_eq!(first.as_ptr(), at("2026-11-22T08:59:59Z").as_ptr());
        assert_ne!(first.as_ptr(), at("2026-11-22T09:00:00Z").as_ptr());
    }
}
