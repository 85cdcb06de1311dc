//! Single records: each fault in one that is otherwise good, and each oddity that is none.

use serde_json::{Value, json};

use crate::page::{Case, Expected};
use crate::support::{Beat, beats};
use crate::wire::post;

/// A record with this text in the place of one field's value.
fn with(field: &str, value: &str) -> Vec<u8> {
    let now = beats::now_ms().to_string();
    let mut fields = vec![("user_id", "\"u\""), ("device_id", "\"d\""), ("timestamp", now.as_str())];
    match fields.iter_mut().find(|known| known.0 == field) {
        Some(known) => known.1 = value,
        None => fields.push((field, value)),
    }
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

fn bytes(before: &str, odd: &[u8], after: &str) -> Vec<u8> {
    [before.as_bytes(), odd, after.as_bytes()].concat()
}

fn nested(levels: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

fn keys(count: usize) -> String {
    let keys: Vec<String> = (0..count).map(|n| format!(r#""k{n}":{n}"#)).collect();
    format!("{{{}}}", keys.join(","))
}

fn case(what: &str, body: impl AsRef<[u8]>, answer: Expected) -> Case {
    Case { what: what.to_owned(), request: post("", body), answer }
}

fn refused(what: &str, body: impl AsRef<[u8]>, code: &'static str, word: &'static str) -> Case {
    case(what, body, Expected::Refused(code, word))
}

fn malformed(what: &str, body: impl AsRef<[u8]>) -> Case {
    case(what, body, Expected::Problem(400, "malformed-body", "not valid JSON"))
}

fn kept(what: &str, beat: Beat) -> Case {
    let body = beat.json().to_string();
    case(what, body, Expected::Kept(beat))
}

/// One whose attributes stand in another text than a library would write.
fn kept_as(what: &str, user: &str, attributes: &str, read: Value) -> Case {
    let beat = Beat::of(user, "d").attributes(read);
    let timestamp = beat.identity.timestamp;
    let body = format!(r#"{{"user_id":"{user}","device_id":"d","timestamp":{timestamp},"attributes":{attributes}}}"#);
    case(what, body, Expected::Kept(beat))
}

pub fn cases() -> Vec<Case> {
    [texts(), names(), times(), attributes()].into_iter().flatten().collect()
}

/// What is wrong with the text as a whole.
fn texts() -> Vec<Case> {
    let record = String::from_utf8(with("id", "null")).unwrap();
    let utf16: Vec<u8> = record.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        malformed("an object that is not closed", &record[..record.len() - 1]),
        malformed("something behind the object", format!("{record} {{}}")),
        malformed("a byte order mark", bytes("\u{feff}", record.as_bytes(), "")),
        malformed("UTF-16", utf16),
        malformed("a byte that is no UTF-8, within a text", bytes(r#"{"user_id":"a"#, b"\xff", r#"b"}"#)),
        malformed("an overlong form of `/` (`C0 AF`)", bytes(r#"{"user_id":"a"#, b"\xc0\xaf", r#"b"}"#)),
        malformed("a surrogate as three bytes (`ED A0 80`)", bytes(r#"{"user_id":"a"#, b"\xed\xa0\x80", r#"b"}"#)),
        malformed("a text that breaks off in a character", bytes(r#"{"user_id":"a"#, b"\xe2\x82", "")),
        malformed("a NUL byte", bytes(r#"{"user_id":"a"#, b"\0", r#"b"}"#)),
        malformed("a line break within a text", with("user_id", "\"a\nb\"")),
        malformed("a lone surrogate in a name (`\\ud800`)", with("user_id", r#""\ud800""#)),
        malformed("the two halves of a surrogate the wrong way round", with("user_id", r#""\udc00\ud800""#)),
        malformed("NaN", with("timestamp", "NaN")),
        malformed("Infinity", with("timestamp", "-Infinity")),
        malformed("a number beyond all doubles (`1e999`)", with("timestamp", "1e999")),
        malformed("a number of 100,000 digits", with("timestamp", &"9".repeat(100_000))),
        malformed("a number with a leading zero", with("timestamp", "01795000000000")),
        malformed("a hexadecimal number", with("timestamp", "0x1A2B")),
        malformed("a comma behind the last field", format!("{},}}", &record[..record.len() - 1])),
        malformed("a comment", format!("/* */{record}")),
        malformed("100,000 arrays within one another", "[".repeat(100_000)),
        refused("2,000 objects within one another", nested(2_000), "unknown_field", "`a`"),
        refused("a number instead of an object", "7", "not_an_object", "JSON object"),
        refused("a text instead of an object", "\"text\"", "not_an_object", "JSON object"),
        refused("null", "null", "not_an_object", "JSON object"),
        refused("an array in an array", "[[]]", "not_an_object", "JSON object"),
        refused("an object with no field", "{}", "missing_field", "user_id"),
        refused("an unknown field", with("userid", "1"), "unknown_field", "userid"),
        refused("an unknown field with a name of 1 MiB", with(&"n".repeat(1 << 20), "1"), "unknown_field", "…"),
        refused("an object with 10,000 keys", keys(10_000), "unknown_field", "k0"),
        refused("a field that is called `__proto__`", with("__proto__", "{}"), "unknown_field", "__proto__"),
        refused(
            "a field that is given twice",
            record.replace('{', r#"{"user_id":"other","#),
            "duplicate_field",
            "user_id",
        ),
        refused(
            "a field that is given twice, once with an escape in its name",
            record.replace('{', r#"{"user\u005fid":"other","#),
            "duplicate_field",
            "user_id",
        ),
    ]
}

/// `user_id`, `device_id`, `id`.
fn names() -> Vec<Case> {
    let name = |text: &str| with("user_id", &Value::from(text).to_string());
    let mut cases = vec![
        refused("an empty name", name(""), "invalid_length", "user_id"),
        refused("a name of 129 bytes", name(&"n".repeat(129)), "invalid_length", "128"),
        refused("a name of 43 characters of three bytes", name(&"€".repeat(43)), "invalid_length", "129"),
        refused("a name of 1 MiB", name(&"n".repeat(1 << 20)), "invalid_length", "128"),
        refused("an `id` of 65 bytes", with("id", &format!("\"{}\"", "i".repeat(65))), "invalid_length", "64"),
        refused("a number as a name", with("device_id", "7"), "wrong_type", "device_id"),
        refused("an object as a name", with("device_id", r#"{"a":[1]}"#), "wrong_type", "device_id"),
        refused("null as a name", with("device_id", "null"), "missing_field", "device_id"),
        refused("`\\u0000` in a name", name("a\0b"), "control_character", "user_id"),
        refused("a line break in a name", name("a\nb"), "control_character", "user_id"),
        refused("an escape sequence of terminals in a name", name("\u{1b}[31m"), "control_character", "user_id"),
        refused("DEL in a name", name("a\u{7f}"), "control_character", "user_id"),
        refused(
            "a control character of Latin 1 (`\\u0085`) in an `id`",
            with("id", "\"\u{85}\""),
            "control_character",
            "id",
        ),
        kept("a name of 128 bytes", Beat::of(&"n".repeat(128), "d")),
        kept("a pair of surrogates (`\\ud83d\\ude00`)", Beat::of("\u{1f600}", "d")),
        kept("a character that is none (U+FFFF)", Beat::of("a\u{ffff}b", "d")),
        kept("characters that turn the direction of writing (U+202E)", Beat::of("a\u{202e}b", "d")),
        kept("a name of blanks", Beat::of("   ", "d")),
    ];
    let words = [
        "../../etc/passwd",
        "/etc/passwd",
        "date=1999-01-01",
        ".part_x.parquet",
        "$(id); rm -rf /",
        "' OR 1=1 --",
        "<script>alert(1)</script>",
        "{{7*7}}${7*7}%n%s",
    ];
    cases.extend(words.map(|word| kept(&format!("`{word}` as a name"), Beat::of(word, word).id(word))));
    cases
}

fn times() -> Vec<Case> {
    let time = |value: &str| with("timestamp", value);
    let far = beats::now_ms() + 4 * 86_400_000;
    vec![
        refused("seconds instead of milliseconds", time("1795000000"), "timestamp_in_seconds", "seconds"),
        refused("0", time("0"), "timestamp_in_seconds", "seconds"),
        refused("-1", time("-1"), "timestamp_too_old", "old"),
        refused(
            "the largest of 64 bits (9223372036854775807)",
            time("9223372036854775807"),
            "timestamp_in_future",
            "clock",
        ),
        refused(
            "the smallest of 64 bits (-9223372036854775808)",
            time("-9223372036854775808"),
            "timestamp_too_old",
            "old",
        ),
        refused("one more than the largest", time("9223372036854775808"), "wrong_type", "64 bits"),
        refused("one less than the smallest", time("-9223372036854775809"), "wrong_type", "64 bits"),
        refused(
            "the largest without a sign (18446744073709551615)",
            time("18446744073709551615"),
            "wrong_type",
            "64 bits",
        ),
        refused("a fraction", time("1795000000000.5"), "wrong_type", "integer"),
        refused("a whole number with a point", time("1795000000000.0"), "wrong_type", "integer"),
        refused("a whole number with an exponent", time("1.795e12"), "wrong_type", "integer"),
        refused("a number that is huge (`1e300`)", time("1e300"), "wrong_type", "64 bits"),
        refused("true", time("true"), "wrong_type", "timestamp"),
        refused("an array", time("[1795000000000]"), "wrong_type", "timestamp"),
        refused("digits as a text", time("\"1795000000000\""), "timestamp_format", "RFC 3339"),
        refused("a time without an offset", time("\"2026-11-22T08:30:00\""), "timestamp_format", "offset"),
        refused("a day that there is not", time("\"2026-02-30T00:00:00Z\""), "timestamp_format", "RFC 3339"),
        refused("a year of five digits", time("\"12026-11-22T08:30:00Z\""), "timestamp_format", "RFC 3339"),
        refused("a text of 1 MiB", time(&format!("\"{}\"", "2".repeat(1 << 20))), "timestamp_format", "RFC 3339"),
        refused("the year 9999", time("\"9999-12-30T00:00:00Z\""), "timestamp_in_future", "clock"),
        refused("a time beyond `max-clock-skew`", time(&far.to_string()), "timestamp_in_future", "clock"),
    ]
}

fn attributes() -> Vec<Case> {
    let attributes = |value: &str| with("attributes", value);
    vec![
        refused("an array as attributes", attributes("[1]"), "wrong_type", "JSON object"),
        refused("a text as attributes", attributes("\"{}\""), "wrong_type", "JSON object"),
        refused("attributes of more than 4 KiB", attributes(&keys(1_000)), "attributes_too_large", "4096"),
        refused("attributes with 10,000 keys", attributes(&keys(10_000)), "attributes_too_large", "4096"),
        refused("attributes of 9 levels", attributes(&nested(9)), "attributes_too_deep", "8 levels"),
        refused("attributes of 600 levels", attributes(&nested(600)), "attributes_too_deep", "8 levels"),
        refused("a lone surrogate in attributes", attributes(r#"{"a":"\ud800"}"#), "invalid_unicode", "surrogate"),
        refused(
            "a lone surrogate in a key of attributes",
            attributes(r#"{"\udfff":1}"#),
            "invalid_unicode",
            "surrogate",
        ),
        refused(
            "attributes that are given twice",
            attributes(r#"{},"attributes":{}"#),
            "duplicate_field",
            "attributes",
        ),
        malformed("a number that is none in attributes", attributes(r#"{"a":.5}"#)),
        malformed("a byte that is no UTF-8 in attributes", bytes(r#"{"attributes":{"a":""#, b"\xff", r#""}}"#)),
        kept("attributes of 8 levels", Beat::of("deep", "d").attributes(serde_json::from_str(&nested(8)).unwrap())),
        kept("`\\u0000` in attributes", Beat::of("nul", "d").attributes(json!({ "a": "\0" }))),
        kept_as(
            "a key twice in attributes: kept as the text it is, and which one stands is the reader's choice",
            "twice",
            r#"{"a":1,"a":2}"#,
            json!({ "a": 2 }),
        ),
        kept_as(
            "a number of 40 digits in attributes: kept as text",
            "digits",
            &format!(r#"{{"a":{}}}"#, "9".repeat(40)),
            json!({ "a": 1e40 }),
        ),
        kept_as("blanks in attributes: kept as text", "blanks", "{ \"a\" : 1 }", json!({ "a": 1 })),
    ]
}
