//! What can be asked for at each path.

use actix_web::http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, Required};

use super::super::ops::{Part, Report};
use super::super::page;
use super::super::problem::Kind;
use super::super::routes::Route;
use super::super::split::LINE_TYPES;
use super::{Bounds, answers, devices, overview, reading, record};
use crate::telemetry::metrics::CONTENT_TYPE as EXPOSITION;

/// The name of the security scheme.
pub(super) const BEARER: &str = "bearer";
/// The name of the other one.
pub(super) const COOKIE: &str = "cookie";

/// What `route` is good for. `None` where there is nothing to say, or nothing to ask for without `bounds`.
pub(super) fn of(route: Route, bounds: Option<&Bounds>, hour: Timestamp) -> Option<PathItem> {
    let (method, operation) = match route {
        Route::Heartbeats => (HttpMethod::Post, post(bounds?, hour)),
        Route::Status | Route::History | Route::Login | Route::Logout if bounds.is_none() => return None,
        Route::Status => (HttpMethod::Get, overview::status()),
        Route::History => (HttpMethod::Get, overview::history()),
        Route::Login => (HttpMethod::Post, overview::login()),
        Route::Logout => (HttpMethod::Post, overview::logout()),
        Route::UserHeartbeats => {
            bounds?;
            (HttpMethod::Get, reading::get(hour))
        }
        Route::UserDevices => bounds.map(|_| (HttpMethod::Get, devices::of_user(hour)))?,
        Route::Silent => bounds.map(|_| (HttpMethod::Get, devices::silent(hour)))?,
        Route::Health => (HttpMethod::Get, health()),
        Route::Live => (HttpMethod::Get, live()),
        Route::Ready => (HttpMethod::Get, ready()),
        Route::Metrics => (HttpMethod::Get, metrics()),
        Route::OpenApi => (HttpMethod::Get, openapi()),
        Route::Page => (HttpMethod::Get, bounds.map(|_| index())?),
        Route::PageFile => (HttpMethod::Get, bounds.map(|_| page_file())?),
        Route::Other => return None,
    };
    let parameter = ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "An id by which answer, log and problem speak of this request: 1 to 128 of A-Z a-z 0-9 . _ -; any other is \
             replaced.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    Some(PathItem::new(method, with_refusals(operation.parameter(parameter), route)))
}

/// Adds every refusal that can be met at `route`, by status.
fn with_refusals(mut operation: OperationBuilder, route: Route) -> OperationBuilder {
    let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.meets(route)).collect();
    kinds.sort_by_key(|kind| kind.status());
    for of_status in kinds.chunk_by(|one, other| one.status() == other.status()) {
        let Some(status) = of_status.first().map(|kind| kind.status()) else { continue };
        operation = operation.response(status.as_str(), answers::refusal(status, of_status));
    }
    operation
}

pub(super) fn operation(id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new().operation_id(Some(id)).summary(Some(summary))
}

/// A token is asked for where there is one at all.
pub(super) fn guarded(operation: OperationBuilder) -> OperationBuilder {
    let none = [] as [&str; 0];
    operation
        .security(SecurityRequirement::new(BEARER, none))
        .security(SecurityRequirement::new(COOKIE, none))
        .security(SecurityRequirement::default())
}

fn post(bounds: &Bounds, hour: Timestamp) -> OperationBuilder {
    let description = format!(
        "Takes one heartbeat, an array of them, or one a line (NDJSON): at most {} of them, {} bytes as sent and {} bytes \
         once inflated. 202 says that each heartbeat is held which is not in `rejected`. Lenient unless told otherwise: \
         the good ones are kept, the bad ones listed. When none is good, none is kept, and the answer is 422.",
        bounds.max_bulk, bounds.max_body, bounds.max_inflated_body
    );
    let header = |name: &str, description: &str, values: &[&str]| {
        let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.iter().copied()));
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema))
    };
    let operation = operation("postHeartbeats", "Send heartbeats")
        .description(Some(description))
        .parameter(header(
            "Prefer",
            "RFC 7240: with `handling=strict` one bad heartbeat refuses all of the request.",
            &["handling=lenient", "handling=strict"],
        ))
        .parameter(header("Content-Encoding", "How the body is packed.", &["identity", "gzip", "zstd"]))
        .request_body(Some(body(hour)))
        .response(StatusCode::ACCEPTED.as_str(), answers::accepted());
    // No cookie: a browser would send it for another site as well.
    operation.security(SecurityRequirement::new(BEARER, [] as [&str; 0])).security(SecurityRequirement::default())
}

fn body(hour: Timestamp) -> RequestBody {
    let either = OneOfBuilder::new()
        .item(Ref::from_schema_name(record::HEARTBEAT))
        .item(Ref::from_schema_name(record::HEARTBEATS));
    let json = ContentBuilder::new()
        .schema(Some(either))
        .examples_from_iter(record::examples(hour).map(answers::example))
        .build();
    let mut body = RequestBodyBuilder::new()
        .description(Some("Without a content type it is taken for JSON."))
        .required(Some(Required::True))
        .content("application/json", json);
    for name in LINE_TYPES {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("One `Heartbeat` a line; lines that hold nothing do not count."));
        let example = ("lines", "Two heartbeats", json!(record::example_of_lines(hour)));
        let content = ContentBuilder::new().schema(Some(schema)).examples_from_iter([answers::example(example)]);
        body = body.content(name, content.build());
    }
    body.build()
}

fn all_well() -> (&'static str, &'static str, Report) {
    ("well", "All is well", Report::new(true, vec![Part::new("buffer", true, "")]))
}

fn no_batcher() -> (&'static str, &'static str, Report) {
    let detail = "no batcher is alive: heartbeats wait in the buffer; start `systole batch`";
    let parts = vec![Part::new("batchers", false, detail), Part::new("buffer", true, "")];
    ("batchers", "Nobody drains the buffer", Report::new(false, parts))
}

fn out_of_reach() -> (&'static str, &'static str, Report) {
    let part = Part::new("buffer", false, "the buffer cannot be reached: connection refused");
    ("buffer", "The buffer is away", Report::new(false, vec![part]))
}

/// What is shown where there are tokens, to whoever has none of scope admin.
fn in_one_word(ok: bool) -> (&'static str, &'static str, Report) {
    ("in-one-word", "Without a token of scope admin, where there are tokens", Report::new(ok, Vec::new()))
}

const WELL: &str = "All that matters is well.";
const UNWELL: &str = "Something that matters is not well; `parts` says what, to whoever may see it.";

fn health() -> OperationBuilder {
    let operation = operation("getHealth", "Every part of the process, and whether it is well")
        .response("200", answers::report(WELL, [all_well(), in_one_word(true)]))
        .response("503", answers::report(UNWELL, [no_batcher(), in_one_word(false)]));
    guarded(operation)
}

fn live() -> OperationBuilder {
    operation("getLive", "Whether the process answers: what restarts it looks here")
        .response("200", answers::report("It does.", [("alive", "It does", Report::new(true, Vec::new()))]))
}

fn ready() -> OperationBuilder {
    let operation = operation("getReady", "Whether heartbeats can be taken in: what sends them here looks here")
        .response("200", answers::report(WELL, [all_well(), in_one_word(true)]))
        .response("503", answers::report(UNWELL, [out_of_reach(), in_one_word(false)]));
    guarded(operation)
}

const METRICS: &str = "# HELP systole_buffer_heartbeats Heartbeats that the buffer holds: pending, claimed and dead letters\n\
    # TYPE systole_buffer_heartbeats gauge\n\
    systole_buffer_heartbeats{partition=\"0\"} 1204\n\
    # HELP systole_http_requests_total Requests answered, by route and class of status.\n\
    # TYPE systole_http_requests_total counter\n\
    systole_http_requests_total{route=\"/v1/heartbeats\",status=\"2xx\"} 86400\n";

fn metrics() -> OperationBuilder {
    let text = text("excerpt", "Two of its metrics", METRICS.to_owned());
    let response = answers::response("Metrics in Prometheus' text format.").content(EXPOSITION, text).build();
    guarded(operation("getMetrics", "Metrics").response("200", response))
}

fn openapi() -> OperationBuilder {
    let outline = json!({
        "openapi": "3.1.0",
        "info": {"title": "Systole", "version": env!("CARGO_PKG_VERSION")},
        "paths": {"/health/live": {"get": {"operationId": "getLive", "responses": {}}}},
    });
    let json = ContentBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Object)))
        .examples_from_iter([answers::example(("outline", "Its outline", outline))])
        .build();
    let response = answers::response("This document.").content("application/json", json).build();
    operation("getOpenApi", "This document").response("200", response)
}

/// A text with an example.
fn text(name: &'static str, summary: &'static str, example: String) -> Content {
    ContentBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .examples_from_iter([answers::example((name, summary, json!(example)))])
        .build()
}

/// A file of the page, and that it is the one that the browser has.
fn of_the_page(operation: OperationBuilder, content_types: &[&str]) -> OperationBuilder {
    let content = |content_type| text("beginning", "How one begins", page::beginning_of(content_type));
    let answer =
        |description: &str| answers::response(description).header_ref("ETag", answers::header_reference(answers::ETAG));
    let whole = content_types.iter().fold(answer("It."), |answer, of| answer.content(*of, content(of)));
    let known = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The `ETag` of what the browser has."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    operation.parameter(known).response("200", whole.build()).response("304", answer("The browser has it.").build())
}

fn index() -> OperationBuilder {
    let operation = operation("getPage", "The page that shows people how the collector is");
    of_the_page(operation, &[page::HTML])
}

fn page_file() -> OperationBuilder {
    let names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(page::file_names()));
    let file = ParameterBuilder::new()
        .name("file")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(names))
        .example(page::file_names().next().map(Into::into));
    let operation = operation("getPageFile", "What the page is made of").parameter(file);
    of_the_page(operation, &[page::CSS, page::SCRIPT, page::ICON])
}
