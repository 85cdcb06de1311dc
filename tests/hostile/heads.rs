//! Heads: methods, targets, headers, and the shapes by which two servers are made to disagree on where a request ends.

use crate::page::{Case, Expected};
use crate::support::Beat;

fn case(what: &str, request: impl Into<Vec<u8>>, answer: Expected) -> Case {
    Case { what: what.to_owned(), request: request.into(), answer }
}

fn bare(what: &str, request: impl Into<Vec<u8>>) -> Case {
    case(what, request, Expected::Bare(400))
}

/// A POST of this body with exactly these lines of header.
fn post(headers: &str, body: &str) -> String {
    format!("POST /v1/heartbeats HTTP/1.1\r\n{headers}\r\n\r\n{body}")
}

fn to(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
}

pub fn cases() -> Vec<Case> {
    [ends(), forms(), targets(), sizes()].into_iter().flatten().collect()
}

/// Where a body ends.
fn ends() -> Vec<Case> {
    let beat = Beat::of("ends", "d");
    let body = beat.json().to_string();
    let length = body.len();
    let chunked = |chunks: &str| post("Host: test\r\nTransfer-Encoding: chunked", chunks);
    let broken = |what: &str, chunks: &str| {
        case(what, chunked(chunks), Expected::Problem(400, "body-incomplete", "could not be read to its end"))
    };
    vec![
        bare("a length and chunks", post("Host: test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        bare("chunks and a length", post("Host: test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n")),
        bare(
            "two lengths that differ",
            post(&format!("Host: test\r\nContent-Length: 0\r\nContent-Length: {length}"), &body),
        ),
        bare(
            "two lengths that agree",
            post(&format!("Host: test\r\nContent-Length: {length}\r\nContent-Length: {length}"), &body),
        ),
        bare("a list of lengths", post(&format!("Host: test\r\nContent-Length: {length}, {length}"), &body)),
        bare("a negative length", post("Host: test\r\nContent-Length: -1", "")),
        bare("a length with a plus", post(&format!("Host: test\r\nContent-Length: +{length}"), &body)),
        bare("a hexadecimal length", post("Host: test\r\nContent-Length: 0x10", &body)),
        bare("a length beyond 64 bits", post("Host: test\r\nContent-Length: 18446744073709551616", "")),
        case(
            "a length of 2^63",
            post("Host: test\r\nContent-Length: 9223372036854775808", ""),
            Expected::Problem(413, "body-too-large", "8388608"),
        ),
        bare("a transfer coding that is not known", post("Host: test\r\nTransfer-Encoding: xchunked", "0\r\n\r\n")),
        bare("gzip as a transfer coding", post("Host: test\r\nTransfer-Encoding: gzip, chunked", "0\r\n\r\n")),
        bare(
            "two transfer codings",
            post("Host: test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        bare("identity as a transfer coding", post("Host: test\r\nTransfer-Encoding: identity", "0\r\n\r\n")),
        bare(
            "chunks in HTTP/1.0",
            "POST /v1/heartbeats HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        bare("a POST of HTTP/1.0 without a length", "POST /v1/heartbeats HTTP/1.0\r\nHost: test\r\n\r\n"),
        case("chunks", chunked(&format!("{length:x}\r\n{body}\r\n0\r\n\r\n")), Expected::Kept(beat.clone())),
        broken("a chunk whose size is no number", "size\r\n{}\r\n0\r\n\r\n"),
        broken("a chunk whose size is negative", "-2\r\n{}\r\n0\r\n\r\n"),
        broken("a chunk whose size passes 64 bits", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        broken("a chunk that is longer than its size", "2\r\n{}{}\r\n0\r\n\r\n"),
        case(
            "no length and no chunks: no body",
            post("Host: test", ""),
            Expected::Problem(422, "empty", "no heartbeat"),
        ),
    ]
}

/// Lines that are no HTTP, or another one.
fn forms() -> Vec<Case> {
    let beat = Beat::of("forms", "d");
    let body = beat.json().to_string();
    let sized = |headers: &str| post(&format!("Host: test\r\n{headers}\r\nContent-Length: {}", body.len()), &body);
    vec![
        bare("a header that is folded onto a second line", sized("X-Odd: one\r\n two")),
        bare("a blank before the colon", sized("X-Odd : one")),
        bare("a header without a colon", sized("X-Odd")),
        bare("a NUL byte in a header", sized("X-Odd: a\0b")),
        bare("a lone CR in a header", sized("X-Odd: a\rb")),
        case(
            "without any token: what another site has a browser send, by its origin",
            sized("Origin: https://elsewhere.example"),
            Expected::Problem(403, "cross-site", "Another site"),
        ),
        case(
            "without any token: the same, as the browser says itself",
            sized("Sec-Fetch-Site: cross-site"),
            Expected::Problem(403, "cross-site", "Another site"),
        ),
        case(
            "without any token: a name that may be anybody's",
            post(&format!("Host: elsewhere.example:8080\r\nContent-Length: {}", body.len()), &body),
            Expected::Problem(403, "cross-site", "by an address or `localhost`"),
        ),
        case(
            "without any token: looking by such a name",
            "GET /v1/silent HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
            Expected::Problem(403, "cross-site", "by an address or `localhost`"),
        ),
        bare("no Host", post("Content-Length: 0", "")),
        bare("two Hosts", post("Host: test\r\nHost: other\r\nContent-Length: 0", "")),
        bare("a request line of HTTP/0.9", "GET /health/live\r\n\r\n"),
        bare("HTTP/2 without an agreement", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        bare("TLS where plain HTTP is spoken", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        bare("another protocol", "SSH-2.0-OpenSSH_9.6\r\n"),
        bare("bytes that are no text", vec![0xff; 64]),
        case("a header that is not ASCII", sized("X-Odd: \u{e9}"), Expected::Kept(beat.clone())),
        case("an expectation that is not known", sized("Expect: miracles"), Expected::Kept(beat.clone())),
        case(
            "an X-Request-Id of an attacker's making: replaced",
            sized("X-Request-Id: a\" onload=1"),
            Expected::Kept(beat),
        ),
    ]
}

fn targets() -> Vec<Case> {
    let absent = |what: &str, method: &str, target: &str| {
        case(what, to(method, target), Expected::Problem(404, "not-found", "/v1/heartbeats"))
    };
    let wrong = |method: &str| {
        case(
            &format!("{method} where there is POST alone"),
            to(method, "/v1/heartbeats"),
            Expected::Problem(405, "method-not-allowed", "POST"),
        )
    };
    let beat = Beat::of("targets", "d");
    let body = beat.json().to_string();
    let at =
        |target: &str| format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let kept = |what: &str, target: &str| case(what, at(target), Expected::Kept(beat.clone()));
    let mut cases: Vec<Case> = ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"].map(wrong).into();
    cases.extend([
        case("POST to health", to("POST", "/health/live"), Expected::Problem(405, "method-not-allowed", "GET")),
        case("GET of health", to("GET", "/health/live"), Expected::Fine),
        absent("an unknown path", "POST", "/v2/heartbeats"),
        absent("a slash behind the path", "POST", "/v1/heartbeats/"),
        absent("two slashes in the path", "POST", "/v1//heartbeats"),
        absent("dots in the path", "POST", "/v1/../v1/heartbeats"),
        absent("dots in percents", "GET", "/%2e%2e/%2e%2e/etc/passwd"),
        absent("a NUL in percents behind the path", "POST", "/v1/heartbeats%00"),
        absent("percents that are no UTF-8", "GET", "/%ff%fe"),
        absent("a percent that is cut short", "GET", "/%"),
        absent("a star", "OPTIONS", "*"),
        kept("a query: not looked at", "/v1/heartbeats?user_id=other"),
        kept("a letter of the path in percents", "/v1/heartbeat%73"),
        kept("the target as a whole URL, of whatever host", "http://elsewhere.example/v1/heartbeats"),
    ]);
    cases
}

fn sizes() -> Vec<Case> {
    let long = |what: &str, head: String| case(what, head, Expected::Problem(431, "head-too-large", "12288"));
    let headers = |count: usize| {
        let headers: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET /health/live HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
    };
    let header =
        |length: usize| format!("GET /health/live HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "y".repeat(length));
    vec![
        case("90 headers", headers(90), Expected::Fine),
        case("100 headers", headers(100), Expected::Bare(431)),
        case("a header of 8,000 bytes", header(8_000), Expected::Fine),
        long("a header of 16 KiB", header(16 << 10)),
        long("a header of 1 MiB", header(1 << 20)),
        long("10,000 headers", headers(10_000)),
        long("a URL of 64 KiB", to("GET", &format!("/{}", "u".repeat(64 << 10)))),
        long("a method of 64 KiB", to(&"M".repeat(64 << 10), "/")),
        long("a name of a header of 64 KiB", format!("GET / HTTP/1.1\r\n{}: 1\r\n\r\n", "N".repeat(64 << 10))),
        case(
            "a URL of 8,000 bytes",
            to("GET", &format!("/{}", "u".repeat(8_000))),
            Expected::Problem(404, "not-found", "/v1/heartbeats"),
        ),
    ]
}
