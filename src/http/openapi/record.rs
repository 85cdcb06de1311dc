//! What a client may send, as schemas.

use jiff::Timestamp;
use serde_json::{Value, json};
use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, SchemaFormat, SchemaType};
use utoipa::openapi::{ArrayBuilder, ComponentsBuilder, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type};

use super::Bounds;
use crate::heartbeat::{
    MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTE_LEVELS, MAX_ID_BYTES, MAX_NAME_BYTES, MIN_TIMESTAMP_NOT_SECONDS,
};

pub(super) const HEARTBEAT: &str = "Heartbeat";
pub(super) const HEARTBEATS: &str = "Heartbeats";

/// What no name holds: the control characters of Unicode.
const NO_CONTROL_CHARACTER: &str = "^[^\\u0000-\\u001F\\u007F-\\u009F]*$";

pub(super) fn add_to(components: ComponentsBuilder, bounds: &Bounds) -> ComponentsBuilder {
    components.schema(HEARTBEAT, heartbeat(bounds)).schema(HEARTBEATS, heartbeats(bounds))
}

fn heartbeats(bounds: &Bounds) -> ArrayBuilder {
    let description = "Several heartbeats. Each is judged by itself; `index` in an answer is the place here.";
    ArrayBuilder::new()
        .items(RefOr::from(Ref::from_schema_name(HEARTBEAT)))
        .min_items(Some(1))
        .max_items(Some(bounds.max_bulk))
        .description(Some(description))
}

fn heartbeat(bounds: &Bounds) -> ObjectBuilder {
    let description = "One heartbeat. `user_id`, `device_id`, `timestamp` in milliseconds and `id` make its identity: of \
                       several with the same one, the first is kept. A field given twice is refused.";
    ObjectBuilder::new()
        .description(Some(description))
        .property("user_id", name("Whose heartbeat it is", MAX_NAME_BYTES, false))
        .property("device_id", name("The device that beats", MAX_NAME_BYTES, false))
        .property("timestamp", timestamp(bounds))
        .property("id", name("A key of the client's own, for beats within one millisecond", MAX_ID_BYTES, true))
        .property("attributes", attributes())
        .required("user_id")
        .required("device_id")
        .required("timestamp")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

fn name(what: &str, max_bytes: usize, nullable: bool) -> Object {
    // JSON Schema counts characters; a text of so many may still be too long in bytes.
    let description = format!("{what}: 1 to {max_bytes} bytes of UTF-8, no control characters.");
    ObjectBuilder::new()
        .schema_type(of_type(Type::String, nullable))
        .description(Some(description))
        .min_length(Some(1))
        .max_length(Some(max_bytes))
        .pattern(Some(NO_CONTROL_CHARACTER))
        .build()
}

/// A time as text.
pub(super) const fn date_time() -> SchemaFormat {
    SchemaFormat::KnownFormat(KnownFormat::DateTime)
}

/// A name that is always there, outside of a record.
pub(super) fn plain_name(what: &str, max_bytes: usize) -> Object {
    name(what, max_bytes, false)
}

fn of_type(of: Type, nullable: bool) -> SchemaType {
    if nullable { SchemaType::from_iter([of, Type::Null]) } else { of.into() }
}

fn timestamp(bounds: &Bounds) -> OneOfBuilder {
    let description = format!(
        "When it beat: at most {} in the future and {} in the past of the server's clock. Digits below the millisecond are \
         cut.",
        bounds.max_clock_skew, bounds.max_age
    );
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(date_time()))
        .description(Some("RFC 3339 with an offset"));
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(MIN_TIMESTAMP_NOT_SECONDS))
        .description(Some("Milliseconds since the Unix epoch; what looks like seconds is refused"));
    OneOfBuilder::new().description(Some(description)).item(text).item(number)
}

fn attributes() -> Object {
    let description = format!(
        "Whatever else there is to say, kept as it stands: at most {MAX_ATTRIBUTE_BYTES} bytes of JSON text, \
         {MAX_ATTRIBUTE_LEVELS} levels deep with this object as the first."
    );
    ObjectBuilder::new()
        .schema_type(of_type(Type::Object, true))
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
        .build()
}

/// Requests that are accepted, with times of `hour`: each with its name and what it shows.
pub(super) fn examples(hour: Timestamp) -> [(&'static str, &'static str, Value); 3] {
    let one = json!({"user_id": "ada", "device_id": "laptop", "timestamp": hour.to_string()});
    let whole = json!({
        "user_id": "ada",
        "device_id": "phone",
        "timestamp": hour.as_millisecond(),
        "id": "6f1c",
        "attributes": {"battery": 0.81, "network": {"kind": "wifi"}},
    });
    let bulk = json!([one, whole]);
    [
        ("one", "One heartbeat", one),
        ("whole", "One heartbeat with all that it may have", whole),
        ("bulk", "Several heartbeats", bulk),
    ]
}

/// The same as lines.
pub(super) fn example_of_lines(hour: Timestamp) -> String {
    let [(_, _, one), (_, _, whole), _] = examples(hour);
    format!("{one}\n{whole}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Options;
    use super::*;
    use crate::heartbeat::{Limits, parse_one};

    const NOW: i64 = 1_795_000_000_000;

    /// A record's code, or "kept".
    fn outcome(record: &Value) -> String {
        let limits = Limits { max_clock_skew_ms: i64::MAX, max_age_ms: i64::MAX };
        parse_one(record.to_string().as_bytes(), limits, NOW)
            .map_or_else(|rejection| rejection.code.as_str().to_owned(), |_| "kept".to_owned())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut record = json!({"user_id": "u", "device_id": "d", "timestamp": NOW});
        record[field] = value;
        record
    }

    #[test]
    fn the_schema_has_the_fields_of_the_record_and_no_other() {
        let schema = serde_json::to_value(heartbeat(&Bounds::of(&Options::default())).build()).unwrap();
        let properties: BTreeMap<String, Value> = serde_json::from_value(schema["properties"].clone()).unwrap();
        let samples = [
            ("user_id", json!("x")),
            ("device_id", json!("x")),
            ("timestamp", json!(NOW)),
            ("id", json!("x")),
            ("attributes", json!({})),
        ];
        assert!(properties.keys().map(String::as_str).eq(BTreeMap::from(samples.clone()).into_keys()));
        for (field, sample) in samples {
            assert_eq!(outcome(&with(field, sample)), "kept", "{field}");
            let required = schema["required"].as_array().unwrap().contains(&json!(field));
            let absent = outcome(&with(field, Value::Null));
            assert_eq!(absent, if required { "missing_field" } else { "kept" }, "{field}");
        }
        assert_eq!(outcome(&with("userid", json!("x"))), "unknown_field");
    }

    #[test]
    fn the_bounds_of_the_schema_are_the_last_that_pass() {
        let schema = serde_json::to_value(heartbeat(&Bounds::of(&Options::default())).build()).unwrap();
        for field in ["user_id", "device_id", "id"] {
            let most = schema["properties"][field]["maxLength"].as_u64().unwrap() as usize;
            assert_eq!(outcome(&with(field, json!("x".repeat(most)))), "kept");
            assert_eq!(outcome(&with(field, json!("x".repeat(most + 1)))), "invalid_length");
            assert_eq!(outcome(&with(field, json!(""))), "invalid_length");
            for control in ['\0', '\u{1f}', '\u{7f}', '\u{9f}'] {
                assert_eq!(outcome(&with(field, json!(format!("a{control}")))), "control_character");
            }
            assert_eq!(outcome(&with(field, json!("\u{a0}\u{20}~"))), "kept");
        }
        let least = schema["properties"]["timestamp"]["oneOf"][1]["minimum"].as_i64().unwrap();
        assert_eq!(outcome(&with("timestamp", json!(least))), "kept");
        assert_eq!(outcome(&with("timestamp", json!(least - 1))), "timestamp_in_seconds");
    }
}
