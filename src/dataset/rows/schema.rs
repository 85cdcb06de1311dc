//! The one schema of all files.

use polars::prelude::{ArrowSchema, DataType, Schema, TimeUnit, TimeZone};

pub(super) const USER_ID: &str = "user_id";
pub(super) const DEVICE_ID: &str = "device_id";
pub(super) const TIMESTAMP: &str = "timestamp";
pub(super) const RECEIVED_AT: &str = "received_at";
pub(super) const ID: &str = "id";
pub(super) const ATTRIBUTES: &str = "attributes";

/// The columns in the order of the file.
pub(super) fn schema() -> Schema {
    let time = || DataType::Datetime(TimeUnit::Milliseconds, Some(TimeZone::UTC));
    Schema::from_iter([
        (USER_ID.into(), DataType::String),
        (DEVICE_ID.into(), DataType::String),
        (TIMESTAMP.into(), time()),
        (RECEIVED_AT.into(), time()),
        (ID.into(), DataType::String),
        (ATTRIBUTES.into(), DataType::String),
    ])
}

/// What is wrong with a file's schema, if anything.
pub(super) fn check(found: &ArrowSchema) -> Result<(), String> {
    let expected = schema();
    if found.len() != expected.len() {
        return Err(format!("it has {} columns instead of {}", found.len(), expected.len()));
    }
    for ((name, field), (expected_name, expected_type)) in found.iter().zip(expected.iter()) {
        let data_type = DataType::from_arrow_field(field);
        if name != expected_name || data_type != *expected_type {
            return Err(format!("its column {name:?} is {data_type}, not {expected_name:?} as {expected_type}"));
        }
    }
    Ok(())
}
