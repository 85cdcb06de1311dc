//! From the text of a body to records, each with its own outcome.
//!
//! Three forms: one JSON object, a JSON array of objects, or one object a line (NDJSON). A record's index is its place
//! among the records: in the array, or among the lines that are not blank.

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};

use crate::heartbeat::{Limits as TimeLimits, Parsed, RejectCode, parse_array, parse_one, parse_text};

/// The content types of one JSON text a line: the usual one, and what else it goes by.
pub(super) const LINE_TYPES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

/// What a body holds, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON text: an object or an array, by its first byte.
    Json,
    /// One JSON text a line.
    Lines,
}

impl Format {
    /// What the header says; without one it is JSON.
    ///
    /// # Errors
    /// It names something else; the text is what stands there.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Self::Json) };
        let value = value.to_str().unwrap_or("unreadable");
        // Parameters (`charset=utf-8`) change nothing: JSON is UTF-8.
        let essence = value.split_once(';').map_or(value, |(essence, _)| essence).trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if essence.is_empty() || is("application/json") {
            Ok(Self::Json)
        } else if LINE_TYPES.into_iter().any(is) {
            Ok(Self::Lines)
        } else {
            Err(essence.chars().take(64).collect())
        }
    }
}

/// Why a body could not be split into records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SplitError {
    /// It holds no record at all.
    Empty,
    /// It holds more than the limit.
    TooMany,
    /// It is no JSON, as a whole; says where.
    Malformed(String),
}

/// Splits a body. `now` is the server's time in milliseconds; at most `max` records are taken.
pub(crate) fn split(
    body: &[u8],
    format: Format,
    limits: TimeLimits,
    now: i64,
    max: usize,
) -> Result<Vec<Parsed<'_>>, SplitError> {
    let records = match format {
        Format::Json => match body.trim_ascii_start().first() {
            None => Vec::new(),
            Some(b'[') => {
                // One more than allowed tells a full array from one that is too long.
                parse_array(body, limits, now, max.saturating_add(1))
                    .map_err(|rejection| SplitError::Malformed(rejection.detail))?
            }
            Some(_) => vec![one(body, limits, now)?],
        },
        Format::Lines => {
            let most = max.saturating_add(1);
            match std::str::from_utf8(body) {
                Ok(text) => {
                    let lines = text.split('\n').map(str::trim_ascii).filter(|line| !line.is_empty());
                    lines.take(most).map(|line| parse_text(line, limits, now)).collect()
                }
                // Some line is not; the others are good.
                Err(_) => {
                    let lines = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
                    lines.filter(|line| !line.is_empty()).take(most).map(|line| parse_one(line, limits, now)).collect()
                }
            }
        }
    };
    match records.len() {
        0 => Err(SplitError::Empty),
        len if len > max => Err(SplitError::TooMany),
        _ => Ok(records),
    }
}

/// The only record of a body: when it is no JSON, the body is not.
fn one(body: &[u8], limits: TimeLimits, now: i64) -> Result<Parsed<'_>, SplitError> {
    match parse_one(body, limits, now) {
        Err(rejection) if rejection.code == RejectCode::MalformedJson => Err(SplitError::Malformed(rejection.detail)),
        parsed => Ok(parsed),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const NOW: i64 = 1_795_000_000_000;
    const LIMITS: TimeLimits = TimeLimits { max_clock_skew_ms: 300_000, max_age_ms: 86_400_000 };

    fn record(user: &str) -> String {
        format!(r#"{{"user_id":"{user}","device_id":"d","timestamp":{NOW}}}"#)
    }

    fn kept(body: &str, format: Format) -> Result<Vec<bool>, SplitError> {
        split(body.as_bytes(), format, LIMITS, NOW, 3).map(|records| records.iter().map(Result::is_ok).collect())
    }

    #[test]
    fn the_first_byte_tells_an_array_from_an_object() {
        let one = record("a");
        assert_eq!(kept(&one, Format::Json), Ok(vec![true]));
        assert_eq!(kept(&format!(" \n{one}\n"), Format::Json), Ok(vec![true]));
        assert_eq!(kept(&format!(" [{one},{one},7]"), Format::Json), Ok(vec![true, true, false]));
        assert_eq!(kept("7", Format::Json), Ok(vec![false]));
    }

    #[test]
    fn a_bad_line_is_refused_alone_and_blank_lines_do_not_count() {
        let one = record("a");
        assert_eq!(kept(&format!("\n{one}\r\n\n  \n{{oops\n{one}"), Format::Lines), Ok(vec![true, false, true]));
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused_alone_and_an_array_that_is_not_as_a_whole() {
        let one = record("a").into_bytes();
        let bad: Vec<u8> = one.iter().map(|&byte| if byte == b'a' { 0xff } else { byte }).collect();
        let lines = [&one[..], &bad, &one].join(&b'\n');
        let records = split(&lines, Format::Lines, LIMITS, NOW, 3).unwrap();
        assert_eq!(records.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        let array = [&b"["[..], &one, b",", &bad, b"]"].concat();
        assert!(matches!(split(&array, Format::Json, LIMITS, NOW, 3), Err(SplitError::Malformed(_))));
    }

    #[test]
    fn a_body_without_records_is_told_from_one_that_is_no_json() {
        for (body, format) in [("", Format::Json), (" ", Format::Json), ("[]", Format::Json), ("\n\r\n", Format::Lines)]
        {
            assert_eq!(kept(body, format), Err(SplitError::Empty), "{body:?}");
        }
        for body in ["{", "[1,", "oops", "[1] 2", "{} {}"] {
            assert!(matches!(kept(body, Format::Json), Err(SplitError::Malformed(_))), "{body:?}");
        }
    }

    #[test]
    fn the_limit_is_the_last_number_that_passes() {
        let one = record("a");
        let array = |count| format!("[{}]", vec![one.as_str(); count].join(","));
        assert_eq!(kept(&array(3), Format::Json).unwrap().len(), 3);
        assert_eq!(kept(&array(4), Format::Json), Err(SplitError::TooMany));
        let lines = |count| format!("{one}\n").repeat(count);
        assert_eq!(kept(&lines(3), Format::Lines).unwrap().len(), 3);
        assert_eq!(kept(&lines(4), Format::Lines), Err(SplitError::TooMany));
    }

    #[test]
    fn only_known_content_types_are_read() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            Format::of(&headers)
        };
        assert_eq!(Format::of(&HeaderMap::new()), Ok(Format::Json));
        assert_eq!(of("application/json; charset=utf-8"), Ok(Format::Json));
        assert_eq!(of("Application/X-NDJSON"), Ok(Format::Lines));
        assert_eq!(of("application/x-www-form-urlencoded"), Err("application/x-www-form-urlencoded".to_owned()));
    }
}
