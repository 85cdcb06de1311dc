//! Signatures as Standard Webhooks has them (version 1, symmetric): `v1,` and in base64 the HMAC-SHA256 of
//! `<webhook-id>.<webhook-timestamp>.<body>`.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a key: what the specification asks for.
const LEAST_BYTES: usize = 24;
/// Bytes of the file at most.
const MOST_BYTES: u64 = 4_096;
const PREFIX: &str = "whsec_";

/// A key. It is never shown.
#[derive(Clone)]
pub(super) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads a file: `whsec_` and the key in base64, or the key itself; white space around it is no part of it.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
        if std::fs::metadata(file).map_err(cannot)?.len() > MOST_BYTES {
            return Err(format!("{} is too long for a key", file.display()));
        }
        let text = std::fs::read_to_string(file).map_err(cannot)?;
        Self::of(text.trim()).map_err(|what| format!("{} {what}", file.display()))
    }

    fn of(text: &str) -> Result<Self, &'static str> {
        let key = match text.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| "is no base64 behind whsec_")?,
            None => text.as_bytes().to_vec(),
        };
        if key.len() < LEAST_BYTES {
            return Err("holds a key of less than 24 bytes; make one by: echo whsec_$(openssl rand -base64 32)");
        }
        Ok(Self(key))
    }

    /// The value of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        // A key of any length is taken, so this cannot fail; and without a key nothing is signed.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let secret = Secret::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_base64_behind_its_prefix_or_itself_and_never_short_nor_shown() {
        assert_eq!(Secret::of("0123456789abcdef01234567").unwrap().0, b"0123456789abcdef01234567");
        assert!(Secret::of("whsec_!").unwrap_err().contains("base64"));
        assert!(Secret::of("short").unwrap_err().contains("24 bytes") && Secret::of("whsec_AAAA").is_err());
        assert!(!format!("{:?}", Secret::of("0123456789abcdef01234567")).contains("0123"));
    }
}
