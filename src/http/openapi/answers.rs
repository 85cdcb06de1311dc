//! What a client may be answered: schemas, and the headers that go with them.

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::schema::{ComponentsBuilder, Schema, Type};
use utoipa::openapi::{
    AllOfBuilder, ArrayBuilder, ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response,
    ResponseBuilder, example::ExampleBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::super::answer::{Accepted, Rejected};
use super::super::devices::{SilentDevice, SilentDevices, UserDevice, UserDevices};
use super::super::ops::{Part, Report};
use super::super::problem::{Kind, Problem};
use crate::heartbeat::RejectCode;

/// The headers, by their names in the document.
pub(super) const REQUEST_ID: &str = "RequestId";
const REQUEST_ID_IF_ANY: &str = "RequestIdIfAny";
pub(super) const RETRY_AFTER: &str = "RetryAfter";
pub(super) const CACHE_CONTROL: &str = "CacheControl";
pub(super) const COVERS: &str = "Covers";
pub(super) const LINK: &str = "Link";
pub(super) const RATE_LIMIT: &str = "RateLimit";
pub(super) const RATE_LIMIT_POLICY: &str = "RateLimitPolicy";
const SET_COOKIE: &str = "SetCookie";
const LOCATION: &str = "Location";
const PREFERENCE_APPLIED: &str = "PreferenceApplied";
pub(super) const ETAG: &str = "ETag";
pub(super) const CHALLENGE: &str = "Challenge";

const PROBLEM: &str = "Problem";
const PROBLEM_JSON: &str = "application/problem+json";

impl PartialSchema for RejectCode {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::ALL.map(Self::as_str)))
            .description(Some("Why a record was refused. Codes may be added; none is ever renamed."))
            .into()
    }
}

impl ToSchema for RejectCode {}

pub(super) fn add_to(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<Accepted>()
        .schema_from::<Rejected>()
        .schema_from::<RejectCode>()
        .schema_from::<Report>()
        .schema_from::<Part>()
        .schema_from::<UserDevices>()
        .schema_from::<UserDevice>()
        .schema_from::<SilentDevices>()
        .schema_from::<SilentDevice>()
        .schema(PROBLEM, problem())
        .header(
            REQUEST_ID,
            header("The id of this request: the one it was sent with if that was a sane one, else a new one."),
        )
        .header(REQUEST_ID_IF_ANY, header("The same, where the head of the request came whole."))
        .header(RETRY_AFTER, seconds("Seconds to wait before the same is sent again."))
        .header(CACHE_CONTROL, header("Never to be kept."))
        .header(ETAG, header("Of this very text."))
        .header(
            COVERS,
            header("`all`; or `buffer` where the process sees no files, so that only what still waits in the buffer is here."),
        )
        .header(LINK, header("The next page, with `rel=\"next\"` (RFC 8288). Absent at the end."))
        .header(
            RATE_LIMIT,
            header(r#"What is left of the tightest limit, as in `"user";r=50;t=30`. Absent without limits."#),
        )
        .header(RATE_LIMIT_POLICY, header(r#"That limit, as in `"user";q=100;w=60`. Absent without limits."#))
        .header(CHALLENGE, header("RFC 6750: always `Bearer realm=\"systole\"`, whatever was wrong with the token."))
        .header(SET_COOKIE, header("The token for the browser to keep, or to forget; out of reach of scripts."))
        .header(LOCATION, header("`/`: the page."))
        .header(PREFERENCE_APPLIED, header("`handling=strict` or `handling=lenient`, if one was asked for."))
}

fn header(description: &str) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn seconds(description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    HeaderBuilder::new().description(Some(description)).schema(Some(schema)).build()
}

fn urn(kind: Kind) -> String {
    format!("urn:systole:problem:{}", kind.slug())
}

/// The document of RFC 9457, as `problem.rs` writes it.
fn problem() -> ObjectBuilder {
    let text = |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    let kinds = Kind::ALL.map(|kind| format!("- `{}`: {} ({})", urn(kind), kind.title(), kind.status().as_u16()));
    let description = format!("What is wrong, for programs. None is ever renamed.\n\n{}", kinds.join("\n"));
    let status = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(400)).maximum(Some(599));
    let none = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some([0]))
        .description(Some("Beside `rejected`: none was kept."));
    let rejected = ArrayBuilder::new().items(reference::<Rejected>()).min_items(Some(1));
    ObjectBuilder::new()
        .description(Some("A refusal (RFC 9457)."))
        .property("type", text(&description).enum_values(Some(Kind::ALL.map(urn))))
        .property("title", text("What is wrong, for people, the same for all of a type."))
        .property("status", status)
        .property("detail", text("What to mend, or when to come back."))
        .property("instance", text("The id of the request, as in `X-Request-Id`, where there was a whole one."))
        .property("accepted", none)
        .property("rejected", rejected)
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
}

pub(super) fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// An answer with its request id, to be gone on with.
pub(super) fn response(description: &str) -> ResponseBuilder {
    with_request_id(description, REQUEST_ID)
}

fn with_request_id(description: &str, header: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description).header_ref("X-Request-Id", header_reference(header))
}

/// An answer that no cache keeps.
pub(super) fn not_kept(response: ResponseBuilder) -> ResponseBuilder {
    response.header_ref("Cache-Control", header_reference(CACHE_CONTROL))
}

/// An answer that may set a cookie.
pub(super) fn with_cookie(response: ResponseBuilder) -> ResponseBuilder {
    response.header_ref("Set-Cookie", header_reference(SET_COOKIE))
}

/// An answer that sends the browser elsewhere.
pub(super) fn with_location(response: ResponseBuilder) -> ResponseBuilder {
    response.header_ref("Location", header_reference(LOCATION))
}

pub(super) fn header_reference(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// 202.
pub(super) fn accepted() -> Response {
    let code = RejectCode::WrongType;
    let rejected = json!({
        "index": 2, "code": code.as_str(), "detail": "`user_id` must be a string", "retryable": code.retryable(),
    });
    let examples = [
        ("all", "All are held", json!({"accepted": 2, "rejected": []})),
        ("some", "One was refused, the others are held", json!({"accepted": 2, "rejected": [rejected]})),
    ];
    let content = ContentBuilder::new().schema(Some(reference::<Accepted>())).examples_from_iter(examples.map(example));
    response(
        "Held durably, but for those in `rejected`: mend these, or send them again later where `retryable` says so.",
    )
    .header_ref("RateLimit", header_reference(RATE_LIMIT))
    .header_ref("RateLimit-Policy", header_reference(RATE_LIMIT_POLICY))
    .header_ref("Preference-Applied", header_reference(PREFERENCE_APPLIED))
    .content("application/json", content.build())
    .build()
}

pub(super) fn example(
    (name, summary, value): (&'static str, &'static str, Value),
) -> (&'static str, RefOr<utoipa::openapi::example::Example>) {
    (name, ExampleBuilder::new().summary(summary).value(Some(value)).into())
}

/// Health, well or not.
pub(super) fn report<const N: usize>(
    description: &str,
    examples: [(&'static str, &'static str, Report); N],
) -> Response {
    let examples = examples.map(|(name, summary, report)| example((name, summary, json!(report))));
    let content = ContentBuilder::new().schema(Some(reference::<Report>())).examples_from_iter(examples).build();
    not_kept(response(description)).content("application/json", content).build()
}

/// 200 with this, never to be kept.
pub(super) fn found<T: ToSchema>(description: &str, name: &'static str, value: Value) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(reference::<T>()))
        .examples_from_iter([example((name, "An answer", value))])
        .build();
    response(description)
        .header_ref("Cache-Control", header_reference(CACHE_CONTROL))
        .content("application/json", content)
        .build()
}

/// All refusals of one status: `kinds`, which have no other.
pub(super) fn refusal(status: StatusCode, kinds: &[Kind]) -> Response {
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
    let examples = kinds.iter().map(|&kind| {
        let body = Problem::new(kind, "What to mend, or when to come back.")
            .body(Some("0198c9e2-6f3a-7cc1-8f3e-2b1d5a7e9c04"));
        example((kind.slug(), kind.title(), serde_json::from_slice(&body).unwrap_or_default()))
    });
    let exactly = ObjectBuilder::new()
        .property(
            "type",
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(kinds.iter().copied().map(urn))),
        )
        .property("status", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status.as_u16()])));
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(PROBLEM)).item(exactly);
    let content = ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build();
    let request_id = if kinds.iter().any(|kind| kind.is_bare()) { REQUEST_ID_IF_ANY } else { REQUEST_ID };
    let mut response = with_request_id(&format!("{}.", titles.join("; ")), request_id).content(PROBLEM_JSON, content);
    if kinds.iter().any(|kind| kind.has_retry_after()) {
        response = response.header_ref("Retry-After", header_reference(RETRY_AFTER));
    }
    if status == StatusCode::UNAUTHORIZED {
        response = response.header_ref("WWW-Authenticate", header_reference(CHALLENGE));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        response = response
            .header_ref("RateLimit", header_reference(RATE_LIMIT))
            .header_ref("RateLimit-Policy", header_reference(RATE_LIMIT_POLICY));
    }
    response.build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::heartbeat::Rejection;

    fn keys(of: &Value) -> BTreeSet<String> {
        of.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_problem_has_the_members_of_its_schema() {
        let schema = serde_json::to_value(problem().build()).unwrap();
        let rejected = Rejected::new(0, Rejection::new(RejectCode::MalformedJson, "x"));
        let whole = Problem::new(Kind::NoneAccepted, "x").with_rejected(vec![rejected]).body(Some("0f3"));
        assert_eq!(keys(&schema["properties"]), keys(&serde_json::from_slice(&whole).unwrap()));
        let least: Value = serde_json::from_slice(&Problem::new(Kind::HeadTimeout, "x").body(None)).unwrap();
        let required = schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        assert_eq!(required.collect::<BTreeSet<_>>(), keys(&least));
    }

    #[test]
    fn an_answer_has_the_members_of_its_schema() {
        let rejected = Rejected::new(0, Rejection::new(RejectCode::MalformedJson, "x"));
        let answer = Accepted { accepted: 1, rejected: vec![rejected], rate: None };
        let RefOr::T(schema) = Accepted::schema() else { panic!("not a schema of its own") };
        let schema = serde_json::to_value(schema).unwrap();
        assert_eq!(keys(&schema["properties"]), keys(&serde_json::to_value(&answer).unwrap()));
    }
}
