//! Where an answer went on to, as a text that a client hands back.
//!
//! It says "behind this identity", so heartbeats that come or go in the meantime neither repeat nor hide any other. It is
//! bound to what was asked: with another user, device or time it is refused, since it would skip what nobody has seen.
//!
//! Format: base64url without padding of version (1 byte), xxh3_64 of the query (8), timestamp in ms (8), device (2 of length,
//! text), and, where there is one, id (text). Integers are little-endian.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::Xxh3;

use super::{Position, Query};
use crate::heartbeat::{MAX_ID_BYTES, MAX_NAME_BYTES};

const VERSION: u8 = 1;
/// No cursor of ours is longer.
const MAX_TEXT: usize = (1 + 8 + 8 + 2 + MAX_NAME_BYTES + MAX_ID_BYTES).div_ceil(3) * 4;

/// Why a text is no cursor for a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Nothing that an answer held.
    #[error("it is no cursor of this server")]
    Malformed,
    /// A newer one, or one of days long gone.
    #[error("it is of another version of Systole")]
    Version,
    /// It stood in the answer to another question.
    #[error("it belongs to another question: user, device, from and to must be those that it was given for")]
    OtherQuery,
}

/// The text for what stands behind `position` of `query`.
pub fn encode(query: &Query, position: &Position) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(fingerprint(query).to_le_bytes());
    bytes.extend(position.timestamp.to_le_bytes());
    // A name has at most 128 bytes.
    bytes.extend((position.device_id.len() as u16).to_le_bytes());
    bytes.extend(position.device_id.as_bytes());
    bytes.extend(position.id.iter().flat_map(|id| id.as_bytes()));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The position that `text` stands for.
///
/// # Errors
/// [`CursorError`].
pub fn decode(query: &Query, text: &str) -> Result<Position, CursorError> {
    use CursorError::Malformed;
    if text.len() > MAX_TEXT {
        return Err(Malformed);
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Malformed)?;
    let (&version, rest) = bytes.split_first().ok_or(Malformed)?;
    if version != VERSION {
        return Err(CursorError::Version);
    }
    let (of, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let (timestamp, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let (length, rest) = rest.split_first_chunk().ok_or(Malformed)?;
    let (device, id) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(Malformed)?;
    if u64::from_le_bytes(*of) != fingerprint(query) {
        return Err(CursorError::OtherQuery);
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Malformed);
    let id = if id.is_empty() { None } else { Some(text(id)?) };
    Ok(Position { timestamp: i64::from_le_bytes(*timestamp), device_id: text(device)?, id })
}

fn fingerprint(query: &Query) -> u64 {
    let mut hash = Xxh3::new();
    let mut text = |text: Option<&str>| {
        hash.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        hash.update(text.unwrap_or_default().as_bytes());
    };
    text(Some(&query.user_id));
    text(query.device_id.as_deref());
    for bound in [query.from, query.to] {
        hash.update(&[u8::from(bound.is_some())]);
        hash.update(&bound.unwrap_or_default().to_le_bytes());
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query { user_id: "ada".into(), device_id: Some("laptop".into()), from: Some(0), to: None }
    }

    fn position(id: Option<&str>) -> Position {
        Position { timestamp: -7, device_id: "é\u{1f980}=".into(), id: id.map(str::to_owned) }
    }

    #[test]
    fn a_cursor_leads_back_to_where_it_was_given() {
        for id in [None, Some("a"), Some("+/=")] {
            let text = encode(&query(), &position(id));
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(decode(&query(), &text), Ok(position(id)));
        }
        let long = Position { timestamp: 0, device_id: "d".repeat(128), id: Some("i".repeat(64)) };
        assert_eq!(decode(&query(), &encode(&query(), &long)), Ok(long));
    }

    #[test]
    fn a_cursor_of_another_question_is_refused() {
        let text = encode(&query(), &position(None));
        for other in [
            Query { user_id: "bob".into(), ..query() },
            Query { device_id: None, ..query() },
            Query { device_id: Some("phone".into()), ..query() },
            Query { from: None, ..query() },
            Query { to: Some(0), ..query() },
        ] {
            assert_eq!(decode(&other, &text), Err(CursorError::OtherQuery), "{other:?}");
        }
    }

    #[test]
    fn garbage_is_refused_whatever_it_is() {
        let whole = encode(&query(), &position(None));
        for text in ["", "!", "AQ", &whole[..20], &whole.repeat(20), &format!("{whole}=")] {
            assert_eq!(decode(&query(), text), Err(CursorError::Malformed), "{text}");
        }
        assert_eq!(decode(&query(), "AgAA"), Err(CursorError::Version));
    }
}
