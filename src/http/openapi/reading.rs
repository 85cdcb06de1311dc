//! What can be asked about heartbeats that were sent, and what is answered.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{
    ArrayBuilder, ComponentsBuilder, Content, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr, Required,
    Response, Schema,
};

use super::super::read::{DEFAULT_LIMIT, MAX_LIMIT};
use super::{answers, operations, record};
use crate::heartbeat::{HeartbeatRef, MAX_NAME_BYTES, MIN_TIMESTAMP_NOT_SECONDS};
use crate::query::output::{self, Encoder, Format};
use crate::query::{Position, Query, cursor};

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
         an answer that breaks off ends without its last chunk; to HTTP/1.0, which has none, they answer what one page can \
         hold, and refuse more. At most {MAX_LIMIT} make a page."
    );
    let (asked, behind) = example_of_question(hour);
    let (from, to) = (json!(asked.from.map(output::time)), json!(asked.to.map(output::time)));
    let device = record::plain_name("Its id", MAX_NAME_BYTES);
    let operation = operations::operation("getUserHeartbeats", "Ask for the heartbeats of a user")
        .description(Some(description))
        .parameter(user())
        .parameter(query("from", "Heartbeats from this time on, this one among them.", time(), from))
        .parameter(query("to", "Heartbeats before this time; not before `from`.", time(), to))
        .parameter(query("device", "Heartbeats of this device only.", device, json!(asked.device_id)))
        .parameter(query("limit", "Heartbeats of a page at most.", limit(), json!(100)))
        .parameter(query(
            "cursor",
            "Goes on where another answer to the same question ended: `next` of that.",
            ObjectBuilder::new().schema_type(Type::String).build(),
            json!(cursor::encode(&asked, &behind)),
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

/// The last day of a device, and a heartbeat behind which the answer goes on: one question, as the examples ask it together.
fn example_of_question(hour: Timestamp) -> (Query, Position) {
    let to = hour.as_millisecond();
    let day_ms = 24 * 3600 * 1000;
    let query =
        Query { user_id: "ada".into(), device_id: Some("laptop".into()), from: Some(to - day_ms), to: Some(to) };
    (query, Position { timestamp: to - day_ms / 2, device_id: "laptop".into(), id: None })
}

fn query(name: &str, description: &str, schema: impl Into<RefOr<Schema>>, example: Value) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example))
        .build()
}

fn time() -> Schema {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(record::date_time()))
        .description(Some("RFC 3339 with an offset."));
    let ms = |description: &str| {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .description(Some(description))
    };
    let since = ms("Milliseconds since the Unix epoch; less is taken for seconds, and refused.");
    let before = ms("Milliseconds, before the Unix epoch.");
    OneOfBuilder::new()
        .item(text)
        .item(since.minimum(Some(MIN_TIMESTAMP_NOT_SECONDS)))
        .item(before.maximum(Some(-1)))
        .into()
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
    let (schema, example): (RefOr<Schema>, Value) = match format {
        Format::Json => {
            let heartbeats: Value = serde_json::from_slice(&written(Format::Json, hour)).unwrap_or_default();
            (Ref::from_schema_name(PAGE).into(), json!({"heartbeats": heartbeats, "next": null, "covers": "all"}))
        }
        Format::Ndjson => {
            let description = "One `HeldHeartbeat` a line.";
            (text(description).into(), text_of(format, hour).into())
        }
        Format::Csv => {
            let description = "RFC 4180 with a header line, a heartbeat a line. In `user_id`, `device_id` and `id`, what a \
                               spreadsheet would take for a formula at the beginning or behind a `;` or TAB, or is an \
                               apostrophe there, has one more apostrophe ahead of it. `attributes` is JSON on one line, with \
                               `\\u003b` for `;`.";
            (text(description).into(), text_of(format, hour).into())
        }
        Format::Parquet => {
            let description = "A Parquet file with the columns of the dataset. The example is in Base64.";
            let schema = ObjectBuilder::new().description(Some(description));
            (schema.into(), BASE64_STANDARD.encode(written(format, hour)).into())
        }
    };
    let example = answers::example(("one", "One heartbeat", example));
    ContentBuilder::new().schema(Some(schema)).examples_from_iter([example]).build()
}

/// One heartbeat, as it is answered.
fn written(format: Format, hour: Timestamp) -> Vec<u8> {
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
    written.unwrap_or_default()
}

fn text_of(format: Format, hour: Timestamp) -> String {
    String::from_utf8(written(format, hour)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::time_ms;

    #[test]
    fn the_bounds_of_a_time_are_the_last_that_pass() {
        let schema = serde_json::to_value(time()).unwrap();
        let bound = |n: usize, name: &str| schema["oneOf"][n][name].as_i64().unwrap();
        let (least, most) = (bound(1, "minimum"), bound(2, "maximum"));
        for (ms, passes) in
            [(least, true), (least - 1, false), (most, true), (most + 1, false), (i64::MIN, true), (i64::MAX, true)]
        {
            assert_eq!(time_ms("from", &ms.to_string()).is_ok(), passes, "{ms}");
        }
    }

    #[test]
    fn an_example_is_what_is_answered() {
        let row: Value = serde_json::from_slice(&written(Format::Ndjson, Timestamp::UNIX_EPOCH)).unwrap();
        let schema = serde_json::to_value(held().build()).unwrap();
        let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&row), names(&schema["properties"]));
        assert!(written(Format::Parquet, Timestamp::UNIX_EPOCH).ends_with(b"PAR1"));
        assert!(text_of(Format::Csv, Timestamp::UNIX_EPOCH).ends_with("\"{\"\"battery\"\":81}\"\r\n"));
    }
}
