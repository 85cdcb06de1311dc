//! Where a list goes on, as a text that clients hand back as it is.
//!
//! Layout before base64url: a version byte, 8 bytes of the hash of the question, then what the list goes on behind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
/// Longer is none that was ever given: two names of 128 bytes each, and some.
const MAX_LEN: usize = 512;

/// A cursor of this question, behind this.
pub(super) fn encode(question: &str, behind: &[u8]) -> String {
    let hash = xxh3_64(question.as_bytes()).to_le_bytes();
    URL_SAFE_NO_PAD.encode([&[VERSION][..], &hash, behind].concat())
}

/// What the list goes on behind. `None` for what is no cursor, or one of another question.
pub(super) fn decode(question: &str, text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(Some(text).filter(|text| text.len() <= MAX_LEN)?).ok()?;
    let (hash, behind) = bytes.strip_prefix(&[VERSION])?.split_first_chunk()?;
    (u64::from_le_bytes(*hash) == xxh3_64(question.as_bytes())).then(|| behind.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_question_only() {
        let longest = [0xff; 300];
        for behind in [&b""[..], b"d", &longest] {
            let text = encode("devices of ada", behind);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(decode("devices of ada", &text).as_deref(), Some(behind));
            assert_eq!(decode("devices of bob", &text), None);
        }
        for nonsense in ["", "AQ", "!", "AAAAAAAAAAAAAAAA", &"A".repeat(600)] {
            assert_eq!(decode("devices of ada", nonsense), None, "{nonsense}");
        }
    }
}
