//! What the page asks for, as operations and schemas.

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ComponentsBuilder, ContentBuilder, ObjectBuilder, Ref, Required, Response, ResponseBuilder};

use super::answers;
use super::operations::{guarded, operation};
use crate::overview::report;

/// What is sent to log in.
const LOGIN: &str = "Login";

pub(super) fn add_to(components: ComponentsBuilder) -> ComponentsBuilder {
    let mut schemas = Vec::new();
    report::Status::schemas(&mut schemas);
    report::History::schemas(&mut schemas);
    components.schemas_from_iter(schemas).schema_from::<report::Status>().schema_from::<report::History>().schema(
        LOGIN,
        ObjectBuilder::new()
            .property(
                "token",
                ObjectBuilder::new().schema_type(Type::String).description(Some("As it was handed out.")),
            )
            .required("token"),
    )
}

pub(super) fn status() -> OperationBuilder {
    let description = "Everything that a person wants to see of the collector: the flow, what waits, who drains it, the \
                       files, the exceptions and the books. Gathered only when somebody asks, at most once a second, and \
                       from the same counters as the metrics. Absent parts are null.";
    let examples = [("flow", "A server with one batcher", example_of_status())];
    let operation = operation("getStatus", "The flow as it is now")
        .description(Some(description))
        .response("200", told::<report::Status>("The flow.", examples));
    guarded(operation)
}

pub(super) fn history() -> OperationBuilder {
    let examples = [("young", "Half a minute after the start", example_of_history())];
    let operation = operation("getHistory", "The flow of the last hour, in steps of ten seconds")
        .response("200", told::<report::History>("At most 360 steps, the oldest first.", examples));
    guarded(operation)
}

fn told<T: ToSchema>(description: &str, examples: [(&'static str, &'static str, Value); 1]) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(answers::reference::<T>()))
        .examples_from_iter(examples.map(answers::example))
        .build();
    answers::not_kept(answers::response(description)).content("application/json", content).build()
}

pub(super) fn login() -> OperationBuilder {
    let description = "Has a browser keep a token of the scope `admin` in a cookie that scripts cannot read. It counts for GET \
                       and HEAD, and not beside an `Authorization` header. Refused when another site sends it.";
    operation("login", "Log a browser in")
        .description(Some(description))
        .request_body(Some(login_body()))
        .response(StatusCode::NO_CONTENT.as_str(), done("Done; without a cookie where no token is needed.").build())
        .response(StatusCode::SEE_OTHER.as_str(), sent_back("The same, for a form."))
}

fn login_body() -> RequestBody {
    let token = "systole_0123456789ab_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let schema = || Some(Ref::from_schema_name(LOGIN));
    let example = || answers::example(("token", "A token", json!({"token": token})));
    let json = ContentBuilder::new().schema(schema()).examples_from_iter([example()]).build();
    let form = ContentBuilder::new().schema(schema()).examples_from_iter([example()]).build();
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", json)
        .content("application/x-www-form-urlencoded", form)
        .build()
}

pub(super) fn logout() -> OperationBuilder {
    operation("logout", "Have a browser forget its token")
        .description(Some("The token stays good: revoke it where others may have it."))
        .response(StatusCode::NO_CONTENT.as_str(), done("Done.").build())
        .response(StatusCode::SEE_OTHER.as_str(), sent_back("The same, for a form."))
}

fn done(description: &str) -> ResponseBuilder {
    answers::with_cookie(answers::not_kept(answers::response(description)))
}

fn sent_back(description: &str) -> Response {
    answers::with_location(done(description)).build()
}

fn example_of_status() -> Value {
    json!({
        "now": 1_795_392_000_000_i64,
        "version": env!("CARGO_PKG_VERSION"),
        "role": "up",
        "uptime_s": 86_400,
        "verdict": {"well": false, "problems": [{
            "part": "batchers",
            "detail": "no batcher is alive: heartbeats wait in the buffer",
            "advice": "Look at the log for why the batcher of this process ended; nothing accepted is lost meanwhile.",
        }]},
        "rates": {"in": 120.5, "out": 0.0, "published": 118.2},
        "refused": [{"reason": "rate_limited", "heartbeats": 12}],
        "buffer": {
            "kind": "embedded", "durability": "always", "looked_s": 1,
            "heartbeats": 1204, "heartbeats_max": 10_000_000, "bytes": 48_160, "bytes_max": 1_073_741_824,
            "oldest_pending_s": 11.2,
            "partitions": [{
                "partition": 0, "heartbeats": 1204, "heartbeats_max": 10_000_000, "bytes": 48_160,
                "bytes_max": 1_073_741_824, "oldest_pending_s": 11.2, "claim_age_s": null, "owner": null, "dead": 4,
            }],
        },
        "batchers": [{"id": "0198c9e2-6f3a-7cc1-8f3e-2b1d5a7e9c04", "seen_s": 31.0, "alive": false, "partitions": []}],
        "files": {
            "complete": true, "fragments": 3, "fragment_rows": 1800, "fragment_bytes": 21_400, "oldest_fragment_s": 14,
            "published_files": 20, "published_rows": 1_200_000, "published_bytes": 20_400_000, "quarantined": 0,
            "last_publishes": [{
                "at": 1_795_391_990_000_i64, "date": "2026-11-22", "partition": 0, "rows": 600, "bytes": 9000,
            }],
            "days": [{"date": "2026-11-22", "rows": 1_200_000, "bytes": 20_400_000, "files": 20}],
            "disk": {"free_bytes": 40_000_000_000_i64, "total_bytes": 80_000_000_000_i64, "min_free_bytes": 268_435_456},
        },
        "files_unknown": null,
        "dead_letters": {"heartbeats": 4, "more": false, "letters": [{
            "id": "0198c9e2-6f3a-7cc1-8f3e-2b1d5a7e9c05", "partition": 0, "rows": 4, "since": 1_795_391_000_000_i64,
            "reason": "the frame's checksum is wrong",
        }]},
        "silent": {"after_s": 300, "more": false, "devices": [
            {"user_id": "ada", "device_id": "laptop", "last_seen": 1_795_391_600_000_i64},
        ]},
        "books": {
            "accepted": 1_203_208, "pending": 1200, "claimed": 0, "acked": 1_202_004, "dead": 4, "dropped": 0,
            "balanced": true, "files_unknown": null,
            "files": {
                "at": 1_795_391_970_000_i64, "staged": 1800, "merged": 1_200_204, "quarantined": 0, "balanced": true,
            },
        },
    })
}

fn example_of_history() -> Value {
    json!({
        "step_s": 10,
        "until": 1_795_392_000_000_i64,
        "in": [null, 12.5, 120.0],
        "out": [null, 10.0, 118.0],
        "refused": [0.0, 0.0, 1.2],
        "waiting": [null, 25, 45],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;
    use utoipa::openapi::RefOr;

    use super::*;

    #[test]
    fn the_examples_have_the_members_of_their_schemas() {
        let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let properties =
            |schema: RefOr<utoipa::openapi::Schema>| keys(&serde_json::to_value(schema).unwrap()["properties"]);
        let status = example_of_status();
        for (example, schema) in [
            (&status, report::Status::schema()),
            (&status["verdict"]["problems"][0], report::UnwellPart::schema()),
            (&status["rates"], report::Rates::schema()),
            (&status["buffer"], report::BufferState::schema()),
            (&status["buffer"]["partitions"][0], report::PartitionState::schema()),
            (&status["batchers"][0], report::BatcherState::schema()),
            (&status["files"], report::Files::schema()),
            (&status["files"]["last_publishes"][0], report::Publish::schema()),
            (&status["files"]["days"][0], report::Day::schema()),
            (&status["files"]["disk"], report::Disk::schema()),
            (&status["dead_letters"]["letters"][0], report::Letter::schema()),
            (&status["silent"]["devices"][0], report::StoppedDevice::schema()),
            (&status["books"], report::Books::schema()),
            (&status["books"]["files"], report::BooksOfFiles::schema()),
            (&example_of_history(), report::History::schema()),
        ] {
            assert_eq!(keys(example), properties(schema));
        }
    }
}
