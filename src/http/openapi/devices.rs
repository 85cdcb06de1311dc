//! What can be asked about devices.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, Required};

use super::super::devices::{DEFAULT_LIMIT, MAX_LIMIT, OfUser, Silent, SilentDevices, UserDevices};
use super::answers;
use super::operations::{guarded, operation};
use crate::buffer::SeenDevice;

pub(super) fn of_user(hour: Timestamp) -> OperationBuilder {
    let answer = json!({
        "devices": [
            {"device_id": "desktop", "last_seen": minutes_before(hour, 1_520), "state": "silent"},
            {"device_id": "laptop", "last_seen": minutes_before(hour, 1), "state": "beating"},
        ],
        "silent_after": "5m",
        "next": null,
    });
    let user = ParameterBuilder::new()
        .name("user")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The user, percent-encoded."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).max_length(Some(128))))
        .example(Some(json!("ada")));
    let operation = operation("getUserDevices", "The devices of a user, and when each was last seen")
        .description(Some(
            "Devices that have beaten within `remember-devices` (7 days unless set), by their ids. A device is seen at the \
             `timestamp` of its heartbeat, or at its arrival where that was earlier: late heartbeats make nobody look alive.",
        ))
        .parameter(user)
        .parameter(after())
        .parameter(limit())
        .parameter(cursor(&OfUser::cursor("ada", "desktop")))
        .response("200", answers::found::<UserDevices>("They, a page at a time.", "devices", answer));
    guarded(operation)
}

pub(super) fn silent(hour: Timestamp) -> OperationBuilder {
    let last_seen = before(hour, 1_520).as_millisecond();
    let desktop = SeenDevice { last_seen, user_id: "ada".to_owned(), device_id: "desktop".to_owned() };
    let answer = json!({
        "devices": [{"user_id": "ada", "device_id": "desktop", "last_seen": minutes_before(hour, 1_520)}],
        "silent_after": "5m",
        "next": format!("/v1/silent?after=5m&limit=1&cursor={}", Silent::cursor(None, &desktop)),
    });
    let schema = ObjectBuilder::new().schema_type(Type::String).max_length(Some(128));
    let user = query("user", "Of this user only.", schema, json!("ada"));
    let operation = operation("getSilent", "Devices that have stopped beating")
        .description(Some(
            "Devices that have beaten within `remember-devices` (7 days unless set) and not within `after`, the longest silent \
             first. With a token that is bound to users, only theirs.",
        ))
        .parameter(after())
        .parameter(user)
        .parameter(limit())
        .parameter(cursor(&Silent::cursor(Some("ada"), &desktop)))
        .response("200", answers::found::<SilentDevices>("They, a page at a time.", "silent", answer));
    guarded(operation)
}

fn minutes_before(hour: Timestamp, minutes: i64) -> Value {
    json!(format!("{:.3}", before(hour, minutes)))
}

fn before(hour: Timestamp, minutes: i64) -> Timestamp {
    hour.checked_sub(SignedDuration::from_mins(minutes)).unwrap_or(hour)
}

fn query(name: &str, description: &str, schema: ObjectBuilder, example: Value) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example))
        .build()
}

fn after() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).default(Some(json!("5m")));
    let description = "Without a heartbeat for longer than this a device is silent, as in `30s`, `5m`, `2h 30m`.";
    query("after", description, schema, json!("5m"))
}

fn limit() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(MAX_LIMIT))
        .default(Some(json!(DEFAULT_LIMIT)));
    query("limit", "Devices of a page at most.", schema, json!(100))
}

fn cursor(example: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    query("cursor", "Where to go on: as it stands in `next` of the page before.", schema, json!(example))
}
