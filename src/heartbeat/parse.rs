//! From JSON to a validated heartbeat, in one pass over the text, and without a copy of what stands in it.
//!
//! A record that breaks a rule is a [`Rejection`] and the parser goes on behind it; only text that is no JSON stops it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::value::RawValue;

use super::field::{Field, ReadField, ReadScalar, Scalar};
use super::record::HeartbeatRef;
use super::reject::{RejectCode, Rejection};
use super::text::{MAX_ID_BYTES, MAX_NAME_BYTES, check_attributes, check_name, check_not_seconds, rfc3339_ms};

/// What time a heartbeat may speak of, as seen from the door.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How far a timestamp may lie in the future, in milliseconds.
    pub max_clock_skew_ms: i64,
    /// How old a timestamp may be, in milliseconds.
    pub max_age_ms: i64,
}

/// The outcome for one record.
pub type Parsed<'a> = Result<ParsedHeartbeat<'a>, Rejection>;

/// One heartbeat that passed validation, where it stands in the text it was read from: only names that were written with
/// escapes have memory of their own. What the fields hold is said at [`HeartbeatRef`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedHeartbeat<'a> {
    user_id: Cow<'a, str>,
    device_id: Cow<'a, str>,
    timestamp: i64,
    id: Option<Cow<'a, str>>,
    received_at: i64,
    attributes: Option<&'a str>,
}

impl ParsedHeartbeat<'_> {
    /// The same heartbeat, borrowed.
    pub fn as_ref(&self) -> HeartbeatRef<'_> {
        HeartbeatRef {
            user_id: &self.user_id,
            timestamp: self.timestamp,
            device_id: &self.device_id,
            id: self.id.as_deref(),
            received_at: self.received_at,
            attributes: self.attributes,
        }
    }
}

/// Parses one JSON text as one record. `now` is the server's time in milliseconds; it becomes `received_at`.
///
/// # Errors
/// The first thing wrong with the record.
pub fn parse_one(json: &[u8], limits: Limits, now: i64) -> Parsed<'_> {
    match std::str::from_utf8(json) {
        Ok(text) => read_one(serde_json::Deserializer::from_str(text), limits, now),
        // Says where.
        Err(_) => read_one(serde_json::Deserializer::from_slice(json), limits, now),
    }
}

/// The same for text, which need not be looked through for what is no UTF-8.
///
/// # Errors
/// The first thing wrong with the record.
pub fn parse_text(text: &str, limits: Limits, now: i64) -> Parsed<'_> {
    read_one(serde_json::Deserializer::from_str(text), limits, now)
}

fn read_one<'a, R: Read<'a>>(mut deserializer: serde_json::Deserializer<R>, limits: Limits, now: i64) -> Parsed<'a> {
    let parsed = Record { limits, now }.deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    parsed
}

/// Few records are shorter as text: what a list of them is made for.
const USUAL_BYTES: usize = 128;

/// Parses a JSON array of records, each with its own outcome, in their order.
///
/// At most `max` elements are looked at; the caller refuses a longer array by counting `max` of them and one more, so it
/// passes its limit plus one.
///
/// # Errors
/// The text as a whole is no JSON array.
pub fn parse_array(json: &[u8], limits: Limits, now: i64, max: usize) -> Result<Vec<Parsed<'_>>, Rejection> {
    if let Ok(text) = std::str::from_utf8(json) {
        let expected = max.min(json.len() / USUAL_BYTES + 1);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let quick = deserializer.deserialize_seq(Records { record: Record { limits, now }, max, expected });
        if let Ok(records) = quick
            && deserializer.end().is_ok()
        {
            return Ok(records);
        }
    }
    // One element that is well-formed JSON but that the parser refuses to read (a lone surrogate, 1e999) stops the quick
    // way for all. The slow one splits first, so that only this element is refused. It also says where text is not UTF-8.
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let elements = deserializer.deserialize_seq(Elements { max }).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(elements.into_iter().map(|element| parse_one(element.get().as_bytes(), limits, now)).collect())
}

fn malformed(error: serde_json::Error) -> Rejection {
    Rejection::new(RejectCode::MalformedJson, format!("this is not valid JSON: {error}"))
}

/// Reads an array of records.
struct Records {
    record: Record,
    max: usize,
    expected: usize,
}

impl<'de> Visitor<'de> for Records {
    type Value = Vec<Parsed<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of heartbeats")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut records = Vec::with_capacity(self.expected);
        while records.len() < self.max
            && let Some(parsed) = seq.next_element_seed(self.record)?
        {
            records.push(parsed);
        }
        skip_rest(seq)?;
        Ok(records)
    }
}

/// Splits an array without reading its elements.
struct Elements {
    max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of heartbeats")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.max
            && let Some(element) = seq.next_element()?
        {
            elements.push(element);
        }
        skip_rest(seq)?;
        Ok(elements)
    }
}

/// Passes over what stands behind the last element that is wanted: a parser that is left in the middle of an array reports
/// an error, and a list of millions of tiny elements must not be collected to count them.
fn skip_rest<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Reads one record; it fails only where the text is no JSON.
#[derive(Clone, Copy)]
struct Record {
    limits: Limits,
    now: i64,
}

impl<'de> DeserializeSeed<'de> for Record {
    type Value = Parsed<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn not_an_object<'de, E>() -> Result<Parsed<'de>, E> {
    Ok(Err(Rejection::new(RejectCode::NotAnObject, "a heartbeat must be a JSON object")))
}

impl<'de> Visitor<'de> for Record {
    type Value = Parsed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a heartbeat")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed<'de>, A::Error> {
        let mut fields = Fields::default();
        let mut refused = None;
        while let Some(field) = map.next_key_seed(ReadField)? {
            if refused.is_some() {
                map.next_value::<IgnoredAny>()?;
            } else if let Err(rejection) = fields.read(field, &mut map)? {
                refused = Some(rejection);
            }
        }
        Ok(match refused {
            Some(rejection) => Err(rejection),
            None => fields.validate(self.limits, self.now),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        not_an_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<Parsed<'de>, E> {
        not_an_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Parsed<'de>, E> {
        not_an_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Parsed<'de>, E> {
        not_an_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Parsed<'de>, E> {
        not_an_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Parsed<'de>, E> {
        not_an_object()
    }

    fn visit_unit<E>(self) -> Result<Parsed<'de>, E> {
        not_an_object()
    }
}

/// The fields as they came, before any rule but their names.
#[derive(Default)]
struct Fields<'de> {
    user_id: Option<Scalar<'de>>,
    device_id: Option<Scalar<'de>>,
    timestamp: Option<Scalar<'de>>,
    id: Option<Scalar<'de>>,
    attributes: Option<&'de RawValue>,
}

impl<'de> Fields<'de> {
    /// Takes in the value of a field, consuming it whatever it is.
    fn read<A: MapAccess<'de>>(&mut self, field: Field, map: &mut A) -> Result<Result<(), Rejection>, A::Error> {
        let (name, slot) = match field {
            Field::UserId => ("user_id", &mut self.user_id),
            Field::DeviceId => ("device_id", &mut self.device_id),
            Field::Timestamp => ("timestamp", &mut self.timestamp),
            Field::Id => ("id", &mut self.id),
            Field::Attributes => {
                let first = self.attributes.replace(map.next_value()?).is_none();
                return Ok(if first { Ok(()) } else { Err(twice("attributes")) });
            }
            Field::Unknown(name) => {
                map.next_value::<IgnoredAny>()?;
                let detail = format!(
                    "unknown field `{name}`; a heartbeat has `user_id`, `device_id`, `timestamp`, and optionally `id` and \
                     `attributes`"
                );
                return Ok(Err(Rejection::new(RejectCode::UnknownField, detail)));
            }
        };
        let first = slot.replace(map.next_value_seed(ReadScalar)?).is_none();
        Ok(if first { Ok(()) } else { Err(twice(name)) })
    }

    fn validate(self, limits: Limits, now: i64) -> Parsed<'de> {
        let user_id = required_name("user_id", self.user_id)?;
        let device_id = required_name("device_id", self.device_id)?;
        let timestamp = check_timestamp(self.timestamp, limits, now)?;
        let id = match self.id {
            None | Some(Scalar::Null) => None,
            Some(id) => Some(name("id", id, MAX_ID_BYTES)?),
        };
        let attributes = match self.attributes.map(RawValue::get) {
            None | Some("null") => None,
            Some(json) if json.starts_with('{') => {
                check_attributes(json)?;
                Some(json)
            }
            Some(_) => return Err(Rejection::new(RejectCode::WrongType, "`attributes` must be a JSON object")),
        };
        Ok(ParsedHeartbeat { user_id, device_id, timestamp, id, received_at: now, attributes })
    }
}

fn twice(field: &str) -> Rejection {
    Rejection::new(RejectCode::DuplicateField, format!("field `{field}` is given twice"))
}

fn missing(field: &str) -> Rejection {
    Rejection::new(RejectCode::MissingField, format!("field `{field}` is missing"))
}

fn required_name<'a>(field: &'static str, value: Option<Scalar<'a>>) -> Result<Cow<'a, str>, Rejection> {
    match value {
        None | Some(Scalar::Null) => Err(missing(field)),
        Some(value) => name(field, value, MAX_NAME_BYTES),
    }
}

fn name<'a>(field: &'static str, value: Scalar<'a>, max_bytes: usize) -> Result<Cow<'a, str>, Rejection> {
    let Scalar::Text(text) = value else {
        return Err(Rejection::new(RejectCode::WrongType, format!("`{field}` must be a string")));
    };
    check_name(field, &text, max_bytes)?;
    Ok(text)
}

fn check_timestamp(value: Option<Scalar<'_>>, limits: Limits, now: i64) -> Result<i64, Rejection> {
    let ms = match value {
        None | Some(Scalar::Null) => return Err(missing("timestamp")),
        Some(Scalar::Text(text)) => rfc3339_ms(&text)?,
        Some(Scalar::Integer(ms)) => {
            check_not_seconds(ms)?;
            ms
        }
        Some(Scalar::Other) => {
            let detail =
                "`timestamp` must be an RFC 3339 string with an offset, or integer milliseconds that fit 64 bits";
            return Err(Rejection::new(RejectCode::WrongType, detail));
        }
    };
    if ms > now.saturating_add(limits.max_clock_skew_ms) {
        let detail = format!(
            "`timestamp` lies {} s in the future; at most {} s are allowed: check the device's clock",
            ms.saturating_sub(now) / 1000,
            limits.max_clock_skew_ms / 1000
        );
        return Err(Rejection::new(RejectCode::TimestampInFuture, detail));
    }
    if ms < now.saturating_sub(limits.max_age_ms) {
        let detail = format!(
            "`timestamp` is {} s old; at most {} s are allowed",
            now.saturating_sub(ms) / 1000,
            limits.max_age_ms / 1000
        );
        return Err(Rejection::new(RejectCode::TimestampTooOld, detail));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000_000;
    const LIMITS: Limits = Limits { max_clock_skew_ms: 300_000, max_age_ms: 30 * 86_400_000 };

    fn code(json: &str) -> &'static str {
        parse_one(json.as_bytes(), LIMITS, NOW).unwrap_err().code.as_str()
    }

    fn record(rest: &str) -> String {
        format!(r#"{{"user_id":"u","device_id":"d","timestamp":{NOW}{rest}}}"#)
    }

    #[test]
    fn a_whole_record_is_kept_as_it_came() {
        let json = record(r#","id":"k","attributes":{"b": 1, "a":[null]}"#);
        let heartbeat = parse_one(json.as_bytes(), LIMITS, NOW).unwrap();
        assert_eq!(
            heartbeat.as_ref(),
            HeartbeatRef {
                user_id: "u",
                timestamp: NOW,
                device_id: "d",
                id: Some("k"),
                received_at: NOW,
                attributes: Some(r#"{"b": 1, "a":[null]}"#),
            }
        );
    }

    #[test]
    fn each_fault_has_its_code() {
        let cases = [
            ("{", "malformed_json"),
            ("{} {}", "malformed_json"),
            ("[]", "not_an_object"),
            ("7", "not_an_object"),
            ("null", "not_an_object"),
            ("{}", "missing_field"),
            (r#"{"user_id":null,"device_id":"d","timestamp":1}"#, "missing_field"),
            (r#"{"user_id":7,"device_id":"d","timestamp":1}"#, "wrong_type"),
            (r#"{"user_id":"","device_id":"d","timestamp":1}"#, "invalid_length"),
            (r#"{"user_id":"a\u0000b","device_id":"d","timestamp":1}"#, "control_character"),
            (r#"{"user_id":"u","device_id":"d","timestamp":1795000000}"#, "timestamp_in_seconds"),
            (r#"{"user_id":"u","device_id":"d","timestamp":"yesterday"}"#, "timestamp_format"),
            (r#"{"user_id":"u","device_id":"d","timestamp":1.5}"#, "wrong_type"),
            (r#"{"user_id":"u","device_id":"d","timestamp":18446744073709551615}"#, "wrong_type"),
            (r#"{"user_id":"u","device_id":"d","timestamp":9223372036854775807}"#, "timestamp_in_future"),
            (r#"{"user_id":"u","device_id":"d","timestamp":-9223372036854775808}"#, "timestamp_too_old"),
        ];
        for (json, expected) in cases {
            assert_eq!(code(json), expected, "{json}");
        }
        assert_eq!(code(&record(r#","userid":"x""#)), "unknown_field");
        assert_eq!(code(&record(r#","user_id":"u""#)), "duplicate_field");
        assert_eq!(code(&record(r#","attributes":{},"attributes":{}"#)), "duplicate_field");
        assert_eq!(code(&record(r#","attributes":[]"#)), "wrong_type");
        assert_eq!(code(&record(&format!(r#","attributes":{{"a":"{}"}}"#, "x".repeat(4096)))), "attributes_too_large");
        assert_eq!(code(&record(&format!(r#","id":"{}""#, "x".repeat(65)))), "invalid_length");
    }

    #[test]
    fn one_bad_record_leaves_the_others_of_an_array() {
        let good = record("");
        let json = format!(r#"[{good},7,{{"user_id":"\ud800"}},{{"user_id":{{"a":[1]}},"x":[{{}}]}},1e999,{good}]"#);
        let parsed = parse_array(json.as_bytes(), LIMITS, NOW, 100).unwrap();
        let kept: Vec<bool> = parsed.iter().map(Result::is_ok).collect();
        assert_eq!(kept, [true, false, false, false, false, true]);
    }

    #[test]
    fn an_array_is_read_only_as_far_as_allowed() {
        let json = format!("[{}]", vec![record(""); 5].join(","));
        assert_eq!(parse_array(json.as_bytes(), LIMITS, NOW, 3).unwrap().len(), 3);
        assert_eq!(parse_array(json.as_bytes(), LIMITS, NOW, 6).unwrap().len(), 5);
        assert_eq!(parse_array(b"[1e999,7,7,7,7]", LIMITS, NOW, 3).unwrap().len(), 3);
        assert!(parse_array(b"[1,", LIMITS, NOW, 6).is_err());
        assert!(parse_array(b"[1] 2", LIMITS, NOW, 6).is_err());
        assert!(parse_array(b"{}", LIMITS, NOW, 6).is_err());
    }
}
