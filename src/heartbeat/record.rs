//! One heartbeat, its identity and its place in the sort order.

use xxhash_rust::xxh3::Xxh3;

/// One heartbeat that passed validation, borrowed from a frame, a column or a [`Heartbeat`].
///
/// The order of the fields **is** the sort order of the project (user, timestamp, device, id with none first,
/// received_at, attributes with none first), compared bytewise, so the derived `Ord` is that order and equal identities
/// are neighbours in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeartbeatRef<'a> {
    /// 1..=128 bytes of UTF-8 without control characters.
    pub user_id: &'a str,
    /// When the beat happened on the client: milliseconds since the Unix epoch, UTC.
    pub timestamp: i64,
    /// 1..=128 bytes of UTF-8 without control characters.
    pub device_id: &'a str,
    /// The client's own idempotency key, 1..=64 bytes.
    pub id: Option<&'a str>,
    /// When the server accepted it: milliseconds since the Unix epoch, UTC.
    pub received_at: i64,
    /// A JSON object as text, at most 4 KiB.
    pub attributes: Option<&'a str>,
}

impl<'a> HeartbeatRef<'a> {
    /// What makes two heartbeats the same one. `received_at` and `attributes` are no part of it: the first stands.
    pub fn identity(&self) -> (&'a str, &'a str, i64, Option<&'a str>) {
        (self.user_id, self.device_id, self.timestamp, self.id)
    }

    /// Whether both have the same [`identity`](Self::identity).
    pub fn has_identity_of(&self, other: &HeartbeatRef<'_>) -> bool {
        // What differs most often is compared first.
        self.timestamp == other.timestamp
            && self.device_id == other.device_id
            && self.user_id == other.user_id
            && self.id == other.id
    }

    /// A 64-bit hash of the identity (xxh3; each text preceded by its length, so that no two identities share an input).
    ///
    /// It stands in identity indexes on disk: changing it is a format change.
    pub fn identity_hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(self.user_id);
        text(self.device_id);
        match self.id {
            None => text(""),
            Some(id) => {
                text("id");
                text(id);
            }
        }
        hash.update(&self.timestamp.to_le_bytes());
        hash.digest()
    }

    /// The same heartbeat, owned.
    pub fn to_heartbeat(&self) -> Heartbeat {
        Heartbeat {
            user_id: self.user_id.to_owned(),
            device_id: self.device_id.to_owned(),
            timestamp: self.timestamp,
            id: self.id.map(str::to_owned),
            received_at: self.received_at,
            attributes: self.attributes.map(str::to_owned),
        }
    }

    /// Bytes that this heartbeat takes as raw data: the measure of budgets (row groups, claims, merges).
    pub fn raw_len(&self) -> usize {
        self.user_id.len()
            + self.device_id.len()
            + self.id.map_or(0, str::len)
            + self.attributes.map_or(0, str::len)
            + 2 * size_of::<i64>()
    }
}

/// One heartbeat that passed validation, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// See [`HeartbeatRef::user_id`].
    pub user_id: String,
    /// See [`HeartbeatRef::device_id`].
    pub device_id: String,
    /// See [`HeartbeatRef::timestamp`].
    pub timestamp: i64,
    /// See [`HeartbeatRef::id`].
    pub id: Option<String>,
    /// See [`HeartbeatRef::received_at`].
    pub received_at: i64,
    /// See [`HeartbeatRef::attributes`].
    pub attributes: Option<String>,
}

impl Heartbeat {
    /// The same heartbeat, borrowed.
    pub fn as_ref(&self) -> HeartbeatRef<'_> {
        HeartbeatRef {
            user_id: &self.user_id,
            timestamp: self.timestamp,
            device_id: &self.device_id,
            id: self.id.as_deref(),
            received_at: self.received_at,
            attributes: self.attributes.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: HeartbeatRef<'static> =
        HeartbeatRef { user_id: "u", timestamp: 10, device_id: "d", id: None, received_at: 20, attributes: None };

    #[test]
    fn rows_sort_by_user_then_time_then_device_then_id() {
        let mut rows = [
            HeartbeatRef { user_id: "v", timestamp: 1, ..BASE },
            HeartbeatRef { id: Some("a"), ..BASE },
            HeartbeatRef { device_id: "e", ..BASE },
            HeartbeatRef { timestamp: 9, device_id: "z", ..BASE },
            HeartbeatRef { received_at: 21, attributes: Some("{}"), ..BASE },
            HeartbeatRef { attributes: Some("{}"), ..BASE },
            BASE,
            // Bytewise, not by locale: 'Z' < 'u', and 'é' after 'z'.
            HeartbeatRef { user_id: "Z", ..BASE },
            HeartbeatRef { user_id: "é", ..BASE },
        ];
        rows.sort();
        let expected = [
            HeartbeatRef { user_id: "Z", ..BASE },
            HeartbeatRef { timestamp: 9, device_id: "z", ..BASE },
            BASE,
            HeartbeatRef { attributes: Some("{}"), ..BASE },
            HeartbeatRef { received_at: 21, attributes: Some("{}"), ..BASE },
            HeartbeatRef { id: Some("a"), ..BASE },
            HeartbeatRef { device_id: "e", ..BASE },
            HeartbeatRef { user_id: "v", timestamp: 1, ..BASE },
            HeartbeatRef { user_id: "é", ..BASE },
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn identity_ignores_what_a_retry_may_change_and_nothing_else() {
        let same = HeartbeatRef { received_at: 99, attributes: Some("{}"), ..BASE };
        assert_eq!(same.identity(), BASE.identity());
        assert_eq!(same.identity_hash(), BASE.identity_hash());
        for other in [
            HeartbeatRef { user_id: "ud", device_id: "", ..BASE },
            HeartbeatRef { timestamp: 11, ..BASE },
            HeartbeatRef { device_id: "e", ..BASE },
            HeartbeatRef { id: Some("a"), ..BASE },
            HeartbeatRef { id: Some("id"), ..BASE },
        ] {
            assert_ne!(other.identity(), BASE.identity());
            assert_ne!(other.identity_hash(), BASE.identity_hash());
        }
    }
}
