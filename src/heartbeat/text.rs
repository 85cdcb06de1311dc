//! Checks on texts: ids, timestamps, attributes. Each says what is wrong with one field.

use super::reject::{RejectCode, Rejection};

/// Attributes may nest this deep; the object itself is level one.
pub const MAX_ATTRIBUTE_LEVELS: usize = 8;
/// Attributes may be this long as JSON text.
pub const MAX_ATTRIBUTE_BYTES: usize = 4 * 1024;
/// Longest `user_id` and `device_id`.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest `id`.
pub const MAX_ID_BYTES: usize = 64;

/// An integer timestamp below this many milliseconds (March 1973) can only be seconds that lost their thousand.
pub const MIN_TIMESTAMP_NOT_SECONDS: i64 = 100_000_000_000;

/// Checks a `user_id`, `device_id` or `id`: its length and that it holds no control character.
pub fn check_name(field: &'static str, text: &str, max_bytes: usize) -> Result<(), Rejection> {
    if text.is_empty() || text.len() > max_bytes {
        let detail = format!("`{field}` must be 1 to {max_bytes} bytes of UTF-8, but has {}", text.len());
        return Err(Rejection::new(RejectCode::InvalidLength, detail));
    }
    if text.chars().any(char::is_control) {
        let detail = format!("`{field}` must hold no control characters");
        return Err(Rejection::new(RejectCode::ControlCharacter, detail));
    }
    Ok(())
}

/// Checks what is to be a `user_id` outside of a record.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub fn check_user_id(text: &str) -> Result<(), Rejection> {
    check_name("user_id", text, MAX_NAME_BYTES)
}

/// Checks what is to be a `device_id` outside of a record.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub fn check_device_id(text: &str) -> Result<(), Rejection> {
    check_name("device_id", text, MAX_NAME_BYTES)
}

/// Reads a time outside of a record as strictly as in one: RFC 3339 with offset, or integer milliseconds since the Unix
/// epoch. `field` is what it is called there.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub fn time_ms(field: &str, text: &str) -> Result<i64, Rejection> {
    let is_integer = {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let read = match text.parse() {
        Ok(ms) if is_integer => check_not_seconds(ms).map(|()| ms),
        _ => rfc3339_ms(text),
    };
    read.map_err(|Rejection { code, detail }| {
        Rejection::new(code, detail.replacen("`timestamp`", &format!("`{field}`"), 1))
    })
}

/// Reads an RFC 3339 timestamp with offset into milliseconds since the Unix epoch; digits below are cut.
pub fn rfc3339_ms(text: &str) -> Result<i64, Rejection> {
    let refused = || {
        let detail = "`timestamp` must be RFC 3339 with an offset, such as \"2026-11-22T08:30:00Z\", or integer \
                      milliseconds since the Unix epoch";
        Rejection::new(RejectCode::TimestampFormat, detail)
    };
    if !has_rfc3339_shape(text.as_bytes()) {
        return Err(refused());
    }
    let timestamp: jiff::Timestamp = text.parse().map_err(|_| refused())?;
    // Floor, also before 1970, so that cutting never moves a beat forward in time.
    // By seconds and what is left of one: a count of microseconds would be cut towards 1970 already.
    let (seconds, nanoseconds) = (timestamp.as_second(), i64::from(timestamp.subsec_nanosecond()));
    Ok(seconds * 1000 + nanoseconds.div_euclid(1_000_000))
}

/// `YYYY-MM-DDTHH:MM:SS`, then anything: the library reads more of ISO 8601 than RFC 3339 allows.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    text.len() >= "2026-11-22T08:30:00Z".len()
        && text.iter().zip(b"dddd-dd-ddTdd:dd:dd").all(|(have, want)| match want {
            b'd' => have.is_ascii_digit(),
            b'T' => matches!(have, b'T' | b't' | b' '),
            other => have == other,
        })
}

/// Refuses an integer timestamp that was meant as seconds.
pub fn check_not_seconds(ms: i64) -> Result<(), Rejection> {
    if (0..MIN_TIMESTAMP_NOT_SECONDS).contains(&ms) {
        let detail =
            format!("`timestamp` {ms} looks like seconds; give milliseconds since the Unix epoch (times 1000)");
        return Err(Rejection::new(RejectCode::TimestampInSeconds, detail));
    }
    Ok(())
}

/// Checks the text of an attributes object that a JSON parser has already found well formed.
///
/// The parser skips over escapes in values that it does not read, so lone surrogates are looked for here: a reader's JSON
/// functions would fail on them.
pub fn check_attributes(json: &str) -> Result<(), Rejection> {
    if json.len() > MAX_ATTRIBUTE_BYTES {
        let detail =
            format!("`attributes` must be at most {MAX_ATTRIBUTE_BYTES} bytes of JSON text, but has {}", json.len());
        return Err(Rejection::new(RejectCode::AttributesTooLarge, detail));
    }
    let bytes = json.as_bytes();
    // Most are plain: no escape in them, and too few brackets, wherever they stand, to nest too deep.
    let opening = bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if opening <= MAX_ATTRIBUTE_LEVELS && !bytes.contains(&b'\\') {
        return Ok(());
    }
    let (mut at, mut level, mut in_text) = (0, 0_usize, false);
    while let Some(&byte) = bytes.get(at) {
        match (in_text, byte) {
            (true, b'\\') => {
                at += check_escape(&bytes[at..])?;
                continue;
            }
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                level += 1;
                if level > MAX_ATTRIBUTE_LEVELS {
                    let detail = format!("`attributes` must nest at most {MAX_ATTRIBUTE_LEVELS} levels deep");
                    return Err(Rejection::new(RejectCode::AttributesTooDeep, detail));
                }
            }
            (false, b'}' | b']') => level = level.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Length of the escape at the start of `rest`; refuses a surrogate without its other half.
fn check_escape(rest: &[u8]) -> Result<usize, Rejection> {
    let lone = || {
        let detail = "`attributes` holds a lone surrogate (\\uD800 to \\uDFFF without its pair)";
        Rejection::new(RejectCode::InvalidUnicode, detail)
    };
    match unicode_escape(rest) {
        None => Ok(2),
        Some(0xD800..=0xDBFF) => match rest.get(6..).and_then(unicode_escape) {
            Some(0xDC00..=0xDFFF) => Ok(12),
            _ => Err(lone()),
        },
        Some(0xDC00..=0xDFFF) => Err(lone()),
        Some(_) => Ok(6),
    }
}

/// The code unit of a `\uXXXX` at the start of `rest`.
fn unicode_escape(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_cut_to_the_millisecond() {
        assert_eq!(rfc3339_ms("1970-01-01T00:00:01.9999Z"), Ok(1_999));
        for text in ["1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999Z"] {
            assert_eq!(rfc3339_ms(text), Ok(-1), "{text}");
        }
        assert_eq!(rfc3339_ms("2026-11-22T09:30:00+01:00"), rfc3339_ms("2026-11-22T08:30:00Z"));
    }

    #[test]
    fn only_rfc3339_with_an_offset_is_a_timestamp() {
        for text in ["", "now", "2026-11-22", "20261122T083000Z", "2026-11-22T08:30:00", "2026-13-22T08:30:00Z"] {
            assert_eq!(rfc3339_ms(text).unwrap_err().code, RejectCode::TimestampFormat, "{text}");
        }
    }

    #[test]
    fn nesting_is_counted_outside_of_texts_only() {
        let deep = |levels: usize| format!("{}{}", "{\"a\":".repeat(levels - 1) + "{", "}".repeat(levels));
        assert_eq!(check_attributes(&deep(8)), Ok(()));
        assert_eq!(check_attributes(&deep(9)).unwrap_err().code, RejectCode::AttributesTooDeep);
        assert_eq!(check_attributes(r#"{"a":"[[[[[[[[[[\"[[["}"#), Ok(()));
    }

    #[test]
    fn lone_surrogates_are_refused_and_pairs_kept() {
        assert_eq!(check_attributes(r#"{"a":"\ud83d\ude00 \\ud800"}"#), Ok(()));
        for lone in [r#"{"a":"\ud83d"}"#, r#"{"a":"\ude00"}"#, r#"{"a":"\ud83d\n"}"#, r#"{"\ud83dA":1}"#] {
            assert_eq!(check_attributes(lone).unwrap_err().code, RejectCode::InvalidUnicode, "{lone}");
        }
    }
}
