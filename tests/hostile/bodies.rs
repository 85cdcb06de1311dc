//! Bodies: their type, their coding, their length, and many records in one.

use std::io::Write;

use serde_json::Value;

use crate::page::{Case, Expected};
use crate::support::{Beat, beats};
use crate::wire::post;

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// One zstd frame that asks for a window of 2^`log` bytes.
pub fn with_window(log: u32, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn problem(
    what: &str,
    headers: &str,
    body: impl AsRef<[u8]>,
    status: u16,
    kind: &'static str,
    word: &'static str,
) -> Case {
    Case { what: what.to_owned(), request: post(headers, body), answer: Expected::Problem(status, kind, word) }
}

fn kept(what: &str, headers: &str, body: impl AsRef<[u8]>, beat: &Beat) -> Case {
    Case { what: what.to_owned(), request: post(headers, body), answer: Expected::Kept(beat.clone()) }
}

fn records(count: usize) -> String {
    let record = Beat::at("u", "d", beats::now_ms()).json().to_string();
    format!("[{}]", vec![record; count].join(","))
}

pub fn cases() -> Vec<Case> {
    [types(), codings(), bulks()].into_iter().flatten().collect()
}

fn types() -> Vec<Case> {
    let (beat, kind) = (Beat::of("typed", "d"), "unsupported-media-type");
    let body = beat.json().to_string();
    vec![
        kept("no content type", "", &body, &beat),
        kept("an empty content type", "Content-Type:\r\n", &body, &beat),
        kept("`Application/JSON`", "Content-Type: Application/JSON\r\n", &body, &beat),
        kept(
            "a charset other than UTF-8: not looked at, as JSON is UTF-8",
            "Content-Type: application/json; charset=utf-7\r\n",
            &body,
            &beat,
        ),
        problem("`text/plain`", "Content-Type: text/plain\r\n", &body, 415, kind, "text/plain"),
        problem("a form", "Content-Type: application/x-www-form-urlencoded\r\n", "a=b", 415, kind, "application/json"),
        problem("parts", "Content-Type: multipart/form-data; boundary=x\r\n", "--x--", 415, kind, "multipart"),
        problem(
            "two content types in one",
            "Content-Type: application/json, text/plain\r\n",
            &body,
            415,
            kind,
            "text/plain",
        ),
        problem("a content type that is no text", "Content-Type: a\u{e9}b\r\n", &body, 415, kind, "application/json"),
    ]
}

fn codings() -> Vec<Case> {
    let (beat, unknown, damaged) = (Beat::of("coded", "d"), "unsupported-encoding", "malformed-encoding");
    let body = beat.json().to_string();
    let (gzipped, zstandard) = (gzip(body.as_bytes()), zstd(body.as_bytes()));
    let coded = |coding: &str| format!("Content-Encoding: {coding}\r\n");
    let blanks = vec![b' '; 64 << 20];
    let members = |one: Vec<u8>, count: usize| one.repeat(count);
    vec![
        kept("gzip", &coded("gzip"), &gzipped, &beat),
        kept("zstd", &coded("zstd"), &zstandard, &beat),
        kept("`GZIP`", &coded("GZIP"), &gzipped, &beat),
        kept("identity", &coded("identity"), &body, &beat),
        kept("gzip in 10,000 members", &coded("gzip"), [members(gzip(b""), 9_999), gzipped.clone()].concat(), &beat),
        kept("zstd in 10,000 frames", &coded("zstd"), [members(zstd(b""), 9_999), zstandard.clone()].concat(), &beat),
        kept("a zstd window of 8 MiB", &coded("zstd"), with_window(23, body.as_bytes()), &beat),
        problem("a zstd window of 16 MiB", &coded("zstd"), with_window(24, body.as_bytes()), 400, damaged, "memory"),
        problem("a zstd window of 128 MiB", &coded("zstd"), with_window(27, body.as_bytes()), 400, damaged, "memory"),
        problem("an unknown coding", &coded("br"), &body, 415, unknown, "gzip, zstd"),
        problem("a coding on top of another", &coded("gzip, gzip"), gzip(&gzipped), 415, unknown, "gzip, gzip"),
        problem(
            "two lines of codings",
            &coded("gzip\r\nContent-Encoding: gzip"),
            gzip(&gzipped),
            415,
            unknown,
            "several",
        ),
        problem(
            "gzip within gzip, called gzip",
            &coded("gzip"),
            gzip(&gzipped),
            400,
            "malformed-body",
            "not valid JSON",
        ),
        problem("JSON that is called gzip", &coded("gzip"), &body, 400, damaged, "inflated"),
        problem("JSON that is called zstd", &coded("zstd"), &body, 400, damaged, "inflated"),
        problem("gzip that is called nothing", "", &gzipped, 400, "malformed-body", "not valid JSON"),
        problem("gzip, cut short", &coded("gzip"), &gzipped[..gzipped.len() - 5], 400, damaged, "inflated"),
        problem("zstd, cut short", &coded("zstd"), &zstandard[..zstandard.len() - 5], 400, damaged, "inflated"),
        problem(
            "gzip with something behind it",
            &coded("gzip"),
            bytes(&gzipped, b"and more"),
            400,
            damaged,
            "inflated",
        ),
        problem(
            "zstd with something behind it",
            &coded("zstd"),
            bytes(&zstandard, b"and more"),
            400,
            damaged,
            "inflated",
        ),
        problem("gzip with a wrong checksum", &coded("gzip"), flipped(&gzipped, 8), 400, damaged, "inflated"),
        problem("64 MiB of blanks in gzip", &coded("gzip"), gzip(&blanks), 413, "body-too-large", "8388608"),
        problem("64 MiB of blanks in zstd", &coded("zstd"), zstd(&blanks), 413, "body-too-large", "8388608"),
        problem(
            "64 MiB of blanks in 64 members of gzip",
            &coded("gzip"),
            members(gzip(&blanks[..1 << 20]), 64),
            413,
            "body-too-large",
            "8388608",
        ),
        problem("nothing at all in gzip", &coded("gzip"), gzip(b""), 422, "empty", "no heartbeat"),
        problem("an empty body that is called gzip", &coded("gzip"), "", 400, damaged, "inflated"),
    ]
}

fn bytes(one: &[u8], other: &[u8]) -> Vec<u8> {
    [one, other].concat()
}

fn flipped(bytes: &[u8], from_end: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    bytes
}

fn bulks() -> Vec<Case> {
    let lines = "Content-Type: application/x-ndjson\r\n";
    let beat = Beat::of("lines", "d");
    let body = beat.json().to_string();
    let bad: String = Value::from("x".repeat(100)).to_string();
    vec![
        problem("an empty body", "", "", 422, "empty", "no heartbeat"),
        problem("an empty array", "", "[]", 422, "empty", "no heartbeat"),
        problem("lines without a record", lines, "\n\r\n\n", 422, "empty", "no heartbeat"),
        problem("10,001 records", "", records(10_001), 413, "too-many-heartbeats", "10000"),
        problem(
            "a million tiny elements",
            "",
            format!("[{}]", vec!["1"; 1_000_000].join(",")),
            413,
            "too-many-heartbeats",
            "10000",
        ),
        problem("10,001 lines", lines, "7\n".repeat(10_001), 413, "too-many-heartbeats", "10000"),
        problem(
            "10,000 bad records",
            "",
            format!("[{}]", vec![bad.as_str(); 10_000].join(",")),
            422,
            "none-accepted",
            "rejected",
        ),
        problem("an array that is not closed", "", "[{},", 400, "malformed-body", "not valid JSON"),
        problem("8 MiB of blanks", "", vec![b' '; 8 << 20], 422, "empty", "no heartbeat"),
        problem("a body of more than 8 MiB", "", vec![b' '; (8 << 20) + 1], 413, "body-too-large", "8388608"),
        kept("lines that end in CR LF, with blank ones between", lines, format!("\r\n{body}\r\n\r\n"), &beat),
        problem(
            "lines that end in CR alone: one line",
            lines,
            format!("{body}\r{body}"),
            422,
            "none-accepted",
            "rejected",
        ),
        problem("a line of 8 MiB", lines, vec![b'['; 8 << 20], 422, "none-accepted", "rejected"),
    ]
}
