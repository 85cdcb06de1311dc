//! The text of a token: its id, by which it is looked up and spoken of, and its secret.

use std::fmt;
use std::str::FromStr;

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Error;

/// Tells a leaked token from other secrets, for people and for scanners.
const PREFIX: &str = "systole_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// The name of a token: random, short, no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; ID_BYTES]);

impl TokenId {
    /// The id with these bytes: for keys of a store.
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes: for keys of a store.
    pub const fn to_bytes(self) -> [u8; ID_BYTES] {
        self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read_hex(text).map(Self).ok_or_else(|| "it is no id of a token: 12 hexadecimal digits".to_owned())
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What makes a token a right. Never shown but by [`Secret::text`].
#[derive(Clone)]
pub struct Secret([u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// Makes a token: its id and its secret.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn mint() -> Result<(TokenId, Self), Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        for bytes in [&mut id[..], &mut secret[..]] {
            OsRng.try_fill_bytes(bytes).map_err(|error| Error::Randomness(error.to_string()))?;
        }
        Ok((TokenId(id), Self(secret)))
    }

    /// What is kept of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).into())
    }

    /// The whole token as it is handed to its user, once.
    pub fn text(&self, id: TokenId) -> String {
        let mut text = format!("{PREFIX}{id}_");
        // Writing to a text does not fail.
        let _ = write_hex(&self.0, &mut text);
        text
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// What no secret has, as far as anybody knows: compared with where there is no token, so that it takes as long.
    pub const OF_NOBODY: Self = Self([0; 32]);

    /// Whether it is the same one, in a time that does not depend on where they differ.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(64);
        write_hex(&self.0, &mut text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_hex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("no hash"))
    }
}

/// A token as somebody presents it; nothing is known of whether it is one of ours.
#[derive(Debug, Clone)]
pub struct Presented {
    /// The token that it says to be.
    pub id: TokenId,
    /// What it says to know.
    pub secret: Secret,
}

impl Presented {
    /// Reads the text of a token, without taking memory for it. `None` for what is no such text.
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        Some(Self { id: TokenId(read_hex(id)?), secret: Secret(read_hex(secret)?) })
    }
}

fn write_hex(bytes: &[u8], to: &mut impl fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
}

fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_known_by_its_hash_alone() {
        let (id, secret) = Secret::mint().unwrap();
        let text = secret.text(id);
        assert_eq!(text.len(), "systole_".len() + 12 + 1 + 64);
        let presented = Presented::read(&text).unwrap();
        assert_eq!(presented.id, id);
        assert!(presented.secret.hash().is(&secret.hash()));
        assert!(!presented.secret.hash().is(&SecretHash::OF_NOBODY));
        let (other_id, other) = Secret::mint().unwrap();
        assert!(other_id != id && !other.hash().is(&secret.hash()));
    }

    #[test]
    fn a_token_has_one_text() {
        let (id, secret) = Secret::mint().unwrap();
        let text = secret.text(id);
        let (head, tail) = text.split_at(text.len() - 64);
        for wrong in [
            text.to_uppercase(),
            format!("{head}{}", tail.replace(|c: char| c.is_ascii_digit(), "A")),
            format!(" {text}"),
            format!("{text} "),
            format!("{text}0"),
            text[..text.len() - 1].to_owned(),
            text.replacen("systole_", "", 1),
            text.replacen('_', "-", 1),
            format!("{head}_{tail}"),
            format!("{head}{}", "é".repeat(32)),
            String::new(),
        ] {
            assert!(Presented::read(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn no_secret_and_no_hash_shows_itself() {
        let (id, secret) = Secret::mint().unwrap();
        let shown = format!("{:?} {:?}", Presented { id, secret: secret.clone() }, secret.hash());
        let text = secret.text(id);
        let hash = serde_json::to_string(&secret.hash()).unwrap();
        assert!(!shown.contains(&text[text.len() - 64..]) && !shown.contains(hash.trim_matches('"')), "{shown}");
    }

    #[test]
    fn the_hash_is_sha_256_of_the_secret() {
        let text = serde_json::to_string(&Secret([0; 32]).hash()).unwrap();
        assert_eq!(text, r#""66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925""#);
        assert!(serde_json::from_str::<SecretHash>(&text).unwrap().is(&Secret([0; 32]).hash()));
    }

    proptest! {
        #[test]
        fn nonsense_is_no_token_and_no_panic(text: String) {
            prop_assert!(Presented::read(&text).is_none());
            let prefixed = format!("systole_{text}");
            prop_assert!(Presented::read(&prefixed).is_none());
        }
    }
}
