//! The names of things that several parts speak about.

use xxhash_rust::xxh3::xxh3_64;

/// The unit of ownership, in the buffer and on disk: `0..partitions`.
pub type Partition = u16;

/// The partition of a user: `xxh3_64(user_id) % partitions`.
///
/// `partitions` is fixed at a dataset's birth and never zero; zero is read as one rather than dividing by it.
pub fn partition_of(user_id: &str, partitions: Partition) -> Partition {
    let partitions = u64::from(partitions.max(1));
    // The remainder of a division by a u16 fits a u16.
    (xxh3_64(user_id.as_bytes()) % partitions) as Partition
}

/// An id of 128 bits, made by whoever needs one.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(::uuid::Uuid);

        impl $name {
            /// A new id: random, and roughly ordered by time of birth (UUIDv7).
            #[allow(clippy::new_without_default, reason = "each call gives another id, so it is no default")]
            pub fn new() -> Self {
                Self(::uuid::Uuid::now_v7())
            }

            /// The id with exactly these bits: for tests and for decoding.
            pub const fn from_u128(bits: u128) -> Self {
                Self(::uuid::Uuid::from_u128(bits))
            }

            /// All bits of the id: for binary encodings.
            pub const fn to_u128(self) -> u128 {
                self.0.as_u128()
            }

            /// When the id was made, in ms since the Unix epoch, by the clock of its maker. `None` for an id that was
            /// not made by [`new`](Self::new).
            pub fn born_at_ms(&self) -> Option<i64> {
                // The first 48 bits of a UUIDv7 are its time, so this always fits.
                (self.0.get_version_num() == 7).then(|| (self.0.as_u128() >> 80) as i64)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = ::uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                ::uuid::Uuid::parse_str(text).map(Self)
            }
        }
    };
}
pub(crate) use uuid_id;

uuid_id!(
    /// One dataset, from its birth on. Every partition of its buffer carries it, and a buffer without it is refused.
    DatasetId
);
uuid_id!(
    /// One claim. Random, never from a counter: a counter that Redis rolled back would be used again, and new data
    /// would be taken for data already merged.
    ClaimId
);
uuid_id!(
    /// One running batcher process.
    BatcherId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_always_has_the_same_partition() {
        // Fixed for ever: a changed hash would split a user's rows over two partitions and break uniqueness.
        assert_eq!(partition_of("alice", 16), partition_of("alice", 16));
        assert_eq!(
            ["alice", "bob", "zoë", "007"].map(|user| partition_of(user, 16)),
            ["alice", "bob", "zoë", "007"].map(|user| (xxh3_64(user.as_bytes()) % 16) as Partition)
        );
        assert!((0..1000).all(|n| partition_of(&format!("u{n}"), 16) < 16));
    }

    #[test]
    fn ids_survive_their_text_form() {
        let id = ClaimId::new();
        assert_eq!(id.to_string().parse::<ClaimId>().unwrap(), id);
        assert!("not-an-id".parse::<ClaimId>().is_err());
        assert_eq!(ClaimId::from_u128(id.to_u128()), id);
    }

    #[test]
    fn an_id_knows_when_it_was_made() {
        let now = jiff::Timestamp::now().as_millisecond();
        let born = ClaimId::new().born_at_ms().unwrap();
        assert!((born - now).abs() < 60_000, "{born} is not about {now}");
        assert_eq!(ClaimId::from_u128(7).born_at_ms(), None);
    }
}
