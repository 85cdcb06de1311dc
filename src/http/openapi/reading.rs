//! What can be asked about heartbeats that were sent, and what is answered.

use jiff::Timestamp;
use serde_json::{Value, json};
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{
    ArrayBuilder, ComponentsBuilder, Content, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr, Required,
    Response, Schema,
};

use super::super::read::{DEFAULT_LIMIT, MAX_LIMIT};
use super::{answers, operations, record};
use crate::heartbeat::{HeartbeatRef, MAX_NAME_BYTES, MIN_TIMESTAMP_NOT_SECONDS};
use crate::query::output::{Encoder, Format};

const HELD: &str = "HeldHeartbeat";
const PAGE: &str = "HeartbeatPage";

pub(super) fn add_to(components: ComponentsBuilder) -> ComponentsBuilder {
    components.schema(HELD, held()).schema(PAGE, page())
}

pub(super) fn get(hour: Timestamp) -> OperationBuilder {
    let description = format!(
        "Every heartbeat of a user that was answered 202, wherever it lies by now, each identity once, in the order of \
         timestamp, device and id. What was answered 202 before the request is in the answer. With `limit`, and for JSON \
         always, the answer is a page: at most so many, fewer where they are long; `Link` (and `next` in JSON) leads to the \
         next, and is absent (null) at the end. Without `limit` the other formats answer the whole range, piece by piece; \
         an answer that breaks off ends without its last chunk. At most {MAX_LIMIT} make a page."
    );
    let operation = operations::operation("getUserHeartbeats", "Ask for the heartbeats of a user")
        .description(Some(description))
        .parameter(user())
        .parameter(query("from", "Heartbeats from this time on, this one among them.", time()))
        .parameter(query("to", "Heartbeats before this time; not before `from`.", time()))
        .parameter(query("device", "Heartbeats of this device only.", record::plain_name("Its id", MAX_NAME_BYTES)))
        .parameter(query("limit", "Heartbeats of a page at most.", limit()))
        .parameter(query(
            "cursor",
            "Goes on where another answer to the same question ended: `next` of that.",
            ObjectBuilder::new().schema_type(Type::String).build(),
        ))
        .response("200", answer(hour));
    operations::guarded(operation)
}

fn user() -> Parameter {
    ParameterBuilder::new()
        .name("user")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("Whose heartbeats, percent-encoded."))
        .schema(Some(record::plain_name("Their id", MAX_NAME_BYTES)))
        .example(Some(json!("ada")))
        .build()
}

fn query(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn time() -> Schema {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(record::date_time()))
        .description(Some("RFC 3339 with an offset."));
    let ms = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(MIN_TIMESTAMP_NOT_SECONDS))
        .description(Some("Milliseconds since the Unix epoch; less is taken for seconds, and refused."));
    OneOfBuilder::new().item(text).item(ms).into()
}

fn limit() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(MAX_LIMIT as f64))
        .description(Some(format!("For JSON {DEFAULT_LIMIT} unless given.")))
        .into()
}

fn held() -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let time = |description: &str| text().format(Some(record::date_time())).description(Some(description));
    let or_null = |of: Type| SchemaType::from_iter([of, Type::Null]);
    ObjectBuilder::new()
        .description(Some("A heartbeat as it is kept."))
        .property("user_id", text())
        .property("device_id", text())
        .property("timestamp", time("When it happened: UTC, with milliseconds."))
        .property("received_at", time("When it was accepted."))
        .property("id", ObjectBuilder::new().schema_type(or_null(Type::String)))
        .property("attributes", ObjectBuilder::new().schema_type(or_null(Type::Object)))
        .required("user_id")
        .required("device_id")
        .required("timestamp")
        .required("received_at")
        .required("id")
        .required("attributes")
}

fn page() -> ObjectBuilder {
    let next = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("The cursor of the next page; null at the end."));
    let covers = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["all", "buffer"]))
        .description(Some("`buffer`: this process sees no files, so only what still waits in the buffer is here."));
    ObjectBuilder::new()
        .property("heartbeats", ArrayBuilder::new().items(RefOr::from(Ref::from_schema_name(HELD))))
        .property("next", next)
        .property("covers", covers)
        .required("heartbeats")
        .required("next")
        .required("covers")
}

fn answer(hour: Timestamp) -> Response {
    let mut response = answers::response("Heartbeats, in the format that `Accept` asks for.")
        .header_ref("Cache-Control", answers::header_reference(answers::CACHE_CONTROL))
        .header_ref("Systole-Covers", answers::header_reference(answers::COVERS))
        .header_ref("Link", answers::header_reference(answers::LINK))
        .header_ref("RateLimit", answers::header_reference(answers::RATE_LIMIT))
        .header_ref("RateLimit-Policy", answers::header_reference(answers::RATE_LIMIT_POLICY));
    for format in Format::ALL {
        response = response.content(format.media_type(), content(format, hour));
    }
    response.build()
}

fn content(format: Format, hour: Timestamp) -> Content {
    let text = |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    let (schema, example): (RefOr<Schema>, Option<Value>) = match format {
        Format::Json => {
            let heartbeats: Value = serde_json::from_str(&written(Format::Json, hour)).unwrap_or_default();
            (Ref::from_schema_name(PAGE).into(), Some(json!({"heartbeats": heartbeats, "next": null, "covers": "all"})))
        }
        Format::Ndjson => {
            let description = "One `HeldHeartbeat` a line.";
            (text(description).into(), Some(written(format, hour).into()))
        }
        Format::Csv => {
            let description = "RFC 4180 with a header line, a heartbeat a line. In `user_id`, `device_id` and `id`, what a \
                               spreadsheet would take for a formula at the beginning or behind a `;` or TAB, or is an \
                               apostrophe there, has one more apostrophe ahead of it. `attributes` is JSON on one line, with \
                               `\\u003b` for `;`.";
            (text(description).into(), Some(written(format, hour).into()))
        }
        Format::Parquet => {
            (ObjectBuilder::new().description(Some("A Parquet file with the columns of the dataset.")).into(), None)
        }
    };
    let content = ContentBuilder::new().schema(Some(schema));
    let examples = example.map(|value| answers::example(("one", "One heartbeat", value)));
    content.examples_from_iter(examples).build()
}

/// One heartbeat, as it is answered.
fn written(format: Format, hour: Timestamp) -> String {
    let row = HeartbeatRef {
        user_id: "ada",
        timestamp: hour.as_millisecond(),
        device_id: "laptop",
        id: None,
        received_at: hour.as_millisecond() + 42,
        attributes: Some(r#"{"battery":81}"#),
    };
    let written = Encoder::new(format).and_then(|mut encoder| {
        encoder.push(row)?;
        encoder.finish()
    });
    String::from_utf8(written.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_what_is_answered() {
        let row: Value = serde_json::from_str(&written(Format::Ndjson, Timestamp::UNIX_EPOCH)).unwrap();
        let schema = serde_json::to_value(held().build()).unwrap();
        let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&row), names(&schema["properties"]));
        assert!(written(Format::Csv, Timestamp::UNIX_EPOCH).ends_with("\"{\"\"battery\"\":81}\"\r\n"));
    }
}
