//! The record of a published file: which fragments were merged into it, and how many of their rows were dropped.
//!
//! Constraints: every fragment ever merged into a bucket is accounted for in the records of its published files, by name
//! or in totals, so that the books balance from the files alone; and the record stays small enough for a footer.
//!
//! Format, as key-value metadata of the file:
//! - `systole.record`: a JSON object of the numbers.
//! - `systole.claims`: the merged claims in the order of merging, 64 hexadecimal digits each: 32 of the claim id, 16 of the
//!   fragment's hash, 16 of its rows.
//!
//! Folding: a claim is named while it is among the [`KEEP_CLAIMS`] newest and younger than [`FOLD_AFTER`]; then it only
//! counts in totals. By then nothing asks for it by name: the claim that stands in a buffer is its partition's newest, and a
//! fragment that a zombie writes so late is merged once more, where row identity drops what stands.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ContentHash;
use crate::heartbeat::ClaimId;

/// Claims older than this are folded into totals: longer than any row may be late at the door (30 days).
pub const FOLD_AFTER: Duration = Duration::from_secs(40 * 24 * 3600);
/// Fragments that a record names at most (640 KB of footer); older ones are folded into totals.
pub const KEEP_CLAIMS: usize = 10_000;

const RECORD_KEY: &str = "systole.record";
const CLAIMS_KEY: &str = "systole.claims";
/// Characters of one merged claim in the metadata.
const CLAIM_CHARS: usize = 64;

/// One fragment that was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergedClaim {
    /// The claim that it came from.
    pub claim: ClaimId,
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Its rows.
    pub rows: u64,
}

/// Totals of merged fragments that are not named any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Folded {
    /// Fragments.
    pub fragments: u64,
    /// Different claims among them.
    pub claims: u64,
    /// Rows, counting one fragment a claim: the first that was merged.
    pub rows: u64,
    /// Rows of the other fragments of those claims.
    pub repeated_rows: u64,
}

/// What a published file says of its making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishRecord {
    /// The fragments merged, in the order of merging.
    pub claims: Vec<MergedClaim>,
    /// Those that are not named any more.
    pub folded: Folded,
    /// Rows of all fragments merged.
    pub merged_rows: u64,
    /// Rows in the file.
    pub published_rows: u64,
    /// Rows dropped because their identity stood already.
    pub deduplicated_rows: u64,
    /// Published files that it was consolidated from; 0 for a file made of fragments.
    pub consolidated_files: u64,
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    merged_rows: u64,
    published_rows: u64,
    deduplicated_rows: u64,
    consolidated_files: u64,
    folded: Folded,
}

impl PublishRecord {
    /// Whether the file's books balance: merged = published + deduplicated.
    pub fn balances(&self) -> bool {
        Some(self.merged_rows) == self.published_rows.checked_add(self.deduplicated_rows)
    }

    /// Makes this the record of a file that stands for both files (consolidation).
    pub fn absorb(&mut self, other: &Self) {
        self.claims.extend_from_slice(&other.claims);
        // Saturating, since a damaged footer may hold any number.
        let add = |total: &mut u64, other: u64| *total = total.saturating_add(other);
        add(&mut self.folded.fragments, other.folded.fragments);
        add(&mut self.folded.claims, other.folded.claims);
        add(&mut self.folded.rows, other.folded.rows);
        add(&mut self.folded.repeated_rows, other.folded.repeated_rows);
        add(&mut self.merged_rows, other.merged_rows);
        add(&mut self.published_rows, other.published_rows);
        add(&mut self.deduplicated_rows, other.deduplicated_rows);
    }

    /// Folds the claims that are past the horizon into totals. A claim is folded with all its fragments or not at all.
    pub fn fold(&mut self, now: jiff::Timestamp) {
        let kept = self.kept_claims(now.as_millisecond());
        let (keep, fold): (Vec<MergedClaim>, Vec<MergedClaim>) =
            self.claims.iter().copied().partition(|merged| kept.contains(&merged.claim));
        let mut seen = BTreeSet::new();
        for merged in fold {
            self.folded.fragments += 1;
            if seen.insert(merged.claim) {
                self.folded.claims += 1;
                self.folded.rows += merged.rows;
            } else {
                self.folded.repeated_rows += merged.rows;
            }
        }
        self.claims = keep;
    }

    fn kept_claims(&self, now_ms: i64) -> BTreeSet<ClaimId> {
        let mut fragments = BTreeMap::<_, usize>::new();
        for merged in &self.claims {
            *fragments.entry(merged.claim).or_default() += 1;
        }
        let is_young = |claim: &ClaimId| {
            let born = claim.born_at_ms().unwrap_or(now_ms);
            u128::try_from(now_ms.saturating_sub(born)).map_or(true, |age| age <= FOLD_AFTER.as_millis())
        };
        let mut newest_first: Vec<_> = fragments.into_iter().filter(|(claim, _)| is_young(claim)).collect();
        newest_first.sort_by_key(|(claim, _)| Reverse((claim.born_at_ms(), *claim)));
        let mut room = KEEP_CLAIMS;
        let fits = |(claim, fragments): (ClaimId, usize)| {
            room = room.checked_sub(fragments)?;
            Some(claim)
        };
        newest_first.into_iter().map_while(fits).collect()
    }

    pub(super) fn to_metadata(&self) -> Result<Vec<(String, String)>, serde_json::Error> {
        let numbers = Numbers {
            merged_rows: self.merged_rows,
            published_rows: self.published_rows,
            deduplicated_rows: self.deduplicated_rows,
            consolidated_files: self.consolidated_files,
            folded: self.folded,
        };
        let claims = self
            .claims
            .iter()
            .map(|merged| format!("{:032x}{}{:016x}", merged.claim.to_u128(), merged.hash, merged.rows));
        Ok(vec![(RECORD_KEY.into(), serde_json::to_string(&numbers)?), (CLAIMS_KEY.into(), claims.collect())])
    }

    /// What is wrong with the metadata, as an error.
    pub(super) fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let get = |key| metadata.get(key).ok_or_else(|| format!("it has no {key}"));
        let numbers: Numbers =
            serde_json::from_str(get(RECORD_KEY)?).map_err(|error| format!("its {RECORD_KEY}: {error}"))?;
        let text = get(CLAIMS_KEY)?;
        if text.len() % CLAIM_CHARS != 0 {
            return Err(format!("its {CLAIMS_KEY} is cut"));
        }
        let claims =
            (0..text.len() / CLAIM_CHARS).map(|i| parse_claim(text.get(CLAIM_CHARS * i..CLAIM_CHARS * (i + 1))?));
        let claims =
            claims.collect::<Option<Vec<_>>>().ok_or_else(|| format!("its {CLAIMS_KEY} is not hexadecimal"))?;
        let record = Self {
            claims,
            folded: numbers.folded,
            merged_rows: numbers.merged_rows,
            published_rows: numbers.published_rows,
            deduplicated_rows: numbers.deduplicated_rows,
            consolidated_files: numbers.consolidated_files,
        };
        if !record.balances() {
            return Err(format!("its {RECORD_KEY} does not balance"));
        }
        Ok(record)
    }
}

fn parse_claim(text: &str) -> Option<MergedClaim> {
    let hex = |from: usize, to: usize| u64::from_str_radix(text.get(from..to)?, 16).ok();
    Some(MergedClaim {
        claim: ClaimId::from_u128(u128::from_str_radix(text.get(..32)?, 16).ok()?),
        hash: ContentHash(hex(32, 48)?),
        rows: hex(48, 64)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim_of(born_ms: i64, low: u64) -> ClaimId {
        // A UUIDv7: 48 bits of time, the version, and the rest.
        ClaimId::from_u128(((born_ms as u128) << 80) | (7 << 76) | (2 << 62) | u128::from(low >> 2))
    }

    fn merged(claim: ClaimId, hash: u64, rows: u64) -> MergedClaim {
        MergedClaim { claim, hash: ContentHash(hash), rows }
    }

    fn record(claims: Vec<MergedClaim>) -> PublishRecord {
        let merged_rows = claims.iter().map(|merged| merged.rows).sum();
        PublishRecord { claims, merged_rows, published_rows: merged_rows, ..PublishRecord::default() }
    }

    proptest! {
        #[test]
        fn a_record_survives_its_metadata(claims in proptest::collection::vec((any::<u128>(), any::<u64>(), 0..1_u64 << 40), 0..20), dropped in 0..1_u64 << 40) {
            let mut record = record(claims.into_iter().map(|(id, hash, rows)| merged(ClaimId::from_u128(id), hash, rows)).collect());
            record.merged_rows += dropped;
            record.deduplicated_rows = dropped;
            record.folded = Folded { fragments: 3, claims: 2, rows: 9, repeated_rows: 1 };
            let metadata = record.to_metadata().unwrap().into_iter().collect();
            prop_assert_eq!(PublishRecord::from_metadata(&metadata), Ok(record));
        }
    }

    #[test]
    fn folding_keeps_the_young_and_counts_the_old() {
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let days_ago = |days: i64, low| claim_of(now.as_millisecond() - days * 86_400_000, low);
        let (old, young, future) = (days_ago(41, 1), days_ago(39, 2), days_ago(-1, 3));
        let unknown = ClaimId::from_u128(5);
        let claims = vec![
            merged(young, 1, 10),
            merged(old, 2, 20),
            merged(unknown, 6, 1),
            merged(old, 3, 21),
            merged(future, 4, 30),
        ];
        let mut folded = record(claims.clone());
        folded.fold(now);
        assert_eq!(folded.claims, [claims[0], claims[2], claims[4]]);
        assert_eq!(folded.folded, Folded { fragments: 2, claims: 1, rows: 20, repeated_rows: 21 });
        assert_eq!(folded.merged_rows, 82, "the totals do not change");
        let once = folded.clone();
        folded.fold(now);
        assert_eq!(folded, once, "folding again changes nothing");
    }

    #[test]
    fn a_record_never_names_more_than_its_footer_can_hold() {
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let claims: Vec<_> =
            (0..KEEP_CLAIMS as i64 + 5).map(|n| merged(claim_of(now.as_millisecond() - n, 0), 1, 1)).collect();
        let mut folded = record(claims.clone());
        folded.fold(now);
        assert_eq!(folded.claims, claims[..KEEP_CLAIMS], "the newest stay");
        assert_eq!(folded.folded, Folded { fragments: 5, claims: 5, rows: 5, repeated_rows: 0 });
    }

    #[test]
    fn absorbing_adds_the_books_up() {
        let mut first = record(vec![merged(ClaimId::from_u128(1), 1, 10)]);
        let mut second = record(vec![merged(ClaimId::from_u128(2), 2, 20)]);
        second.published_rows -= 3;
        second.deduplicated_rows += 3;
        second.folded = Folded { fragments: 1, claims: 1, rows: 1, repeated_rows: 0 };
        first.absorb(&second);
        assert!(first.balances());
        assert_eq!((first.merged_rows, first.published_rows, first.deduplicated_rows), (30, 27, 3));
        assert_eq!((first.claims.len(), first.folded), (2, second.folded));
    }

    #[test]
    fn damaged_metadata_is_an_error() {
        let good: BTreeMap<_, _> =
            record(vec![merged(ClaimId::from_u128(1), 1, 10)]).to_metadata().unwrap().into_iter().collect();
        for (key, value) in [
            (CLAIMS_KEY, "0".repeat(63)),
            (CLAIMS_KEY, "g".repeat(64)),
            (CLAIMS_KEY, "é".repeat(32)),
            (RECORD_KEY, String::new()),
            (RECORD_KEY, good[RECORD_KEY].replace("\"published_rows\":10", "\"published_rows\":9")),
        ] {
            let mut bad = good.clone();
            bad.insert(key.into(), value.clone());
            assert!(PublishRecord::from_metadata(&bad).is_err(), "{key} {value}");
        }
    }
}
