//! Percent-encoding (RFC 3986), strictly: what is no UTF-8 is refused, never replaced, as a name must not turn into another.

/// Undoes it. With `plus` a `+` is a space, as forms write it. `None` for a `%` without two digits, or bytes that are no text.
pub(crate) fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match byte {
            b'%' => {
                let (&[high, low], behind) = rest.split_first_chunk()?;
                rest = behind;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Does it, to all but the characters that mean nothing anywhere.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_encoded_comes_back() {
        for text in ["ada", "a b+c/d?e&f=g%h#i", "é\u{1f980}", "~-._", ""] {
            let encoded = encode(text);
            assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()), "{encoded}");
            assert_eq!(decode(&encoded, false).as_deref(), Some(text));
            assert_eq!(decode(&encoded, true).as_deref(), Some(text));
        }
        assert_eq!(decode("a+b%2b", true).as_deref(), Some("a b+"));
        assert_eq!(decode("a+b%2B", false).as_deref(), Some("a+b+"));
    }

    #[test]
    fn what_is_broken_is_refused() {
        for text in ["%", "%4", "%zz", "%+1", "%ff", "a%c3", "%ed%a0%80"] {
            assert_eq!(decode(text, true), None, "{text}");
        }
    }
}
