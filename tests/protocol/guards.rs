//! Every guard of the protocol, what the model says of it, and a test of each.
//!
//! `needed(SCENARIO, Promise)`: without the guard the scenario breaks that promise. `redundant([SCENARIOS], "why it is kept")`:
//! without it all of these scenarios keep all promises. `net([SCENARIOS], with [Guards], SCENARIO, Promise, "why")`: the same,
//! but it is the last net when those others are gone too: then that scenario breaks that promise.

use crate::check;
use crate::promises::Promise;
use crate::scenario::Scenario;

/// What the model says of a guard.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    Needed {
        scenario: &'static Scenario,
        breaks: Promise,
    },
    Redundant {
        holds: &'static [Scenario],
        why: &'static str,
    },
    Net {
        holds: &'static [Scenario],
        with: &'static [Guard],
        scenario: &'static Scenario,
        breaks: Promise,
        why: &'static str,
    },
}

/// The guards that are in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guards(u64);

impl Guards {
    pub const ALL: Self = Self(u64::MAX);

    pub fn has(self, guard: Guard) -> bool {
        self.0 & 1 << guard as u64 != 0
    }

    pub fn without(self, guards: &[Guard]) -> Self {
        Self(guards.iter().fold(self.0, |left, guard| left & !(1 << *guard as u64)))
    }
}

macro_rules! verdict {
    (needed($scenario:ident, $promise:ident)) => {
        Verdict::Needed { scenario: &Scenario::$scenario, breaks: Promise::$promise }
    };
    (redundant([$($holds:ident),+], $why:literal)) => {
        Verdict::Redundant { holds: &[$(Scenario::$holds),+], why: $why }
    };
    (net([$($holds:ident),+], with [$($with:ident),+], $scenario:ident, $promise:ident, $why:literal)) => {
        Verdict::Net {
            holds: &[$(Scenario::$holds),+],
            with: &[$(Guard::$with),+],
            scenario: &Scenario::$scenario,
            breaks: Promise::$promise,
            why: $why,
        }
    };
}

macro_rules! guards {
    ($($(#[doc = $doc:literal])+ $guard:ident, $test:ident: $kind:ident $verdict:tt;)+) => {
        /// A guard of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Guard {
            $($(#[doc = $doc])+ $guard),+
        }

        /// Without the guard of its name, each.
        mod without {
            use super::*;

            $(
                #[test]
                fn $test() {
                    check::verdict(Guard::$guard, verdict!($kind $verdict));
                }
            )+
        }
    };
}

guards! {
    /// A 202 is sent only once the buffer has answered (`buffer/committer`).
    AnswerComesAfterPush, answer_comes_after_push: needed(RETRIES, NothingIsLost);

    /// `claim.lua` answers only the holder of the lease.
    ClaimIsFenced, claim_is_fenced: redundant([ZOMBIES, LATE_REQUESTS, CONDEMNED],
        "who is handed a claim can do no more with it than a zombie can; it keeps two from doing the same work, and deaths \
         from being counted wrong");

    /// `condemn.lua` listens only to the holder of the lease.
    CondemningIsFenced, condemning_is_fenced: redundant([CONDEMNED, CONDEMNED_LATE, JUDGES_DIFFER],
        "a row that is written as well as condemned is published and a dead letter: that can come with the fence, too");

    /// `condemn.lua` adds only to the claim that is named.
    CondemningNamesItsClaim, condemning_names_its_claim: needed(CONDEMNED_LATE, NothingIsLost);

    /// `ack.lua` listens only to the holder of the lease.
    AckIsFenced, ack_is_fenced: net([ZOMBIES, VERSIONS, LATE_REQUESTS, CONDEMNED, JUDGES_DIFFER],
        with [AckNamesItsClaim], ZOMBIES, NothingIsLost,
        "whoever acknowledges a claim by its id has stored all of it himself; the fence is the second lock on the same door");

    /// `ack.lua` closes only the claim that is named.
    AckNamesItsClaim, ack_names_its_claim: needed(LATE_REQUESTS, NothingIsLost);

    /// `ack.lua` closes a claim only if what it holds as condemned is what its writer left out: a rollback may have taken the
    /// list in between.
    AckNamesWhatWasLeftOut, ack_names_what_was_left_out: needed(ROLLBACK_JUDGES_DIFFER, NothingIsLost);

    /// A claim's id is random, never from a counter in the buffer (`heartbeat/ids.rs`).
    ClaimIdsAreRandom, claim_ids_are_random: needed(ROLLBACK, NothingIsLost);

    /// The claim is acknowledged behind the fragments (`Job::finish` in `batcher/write.rs`).
    AckComesAfterWriting, ack_comes_after_writing: needed(ZOMBIES, NothingIsLost);

    /// … behind those of all its dates.
    AckComesAfterAllDates, ack_comes_after_all_dates: needed(DATES, NothingIsLost);

    /// What is left out is written into the claim before the first fragment is renamed.
    CondemnedBeforeFirstRename, condemned_before_first_rename: net([CONDEMNED, CONDEMNED_LATE, JUDGES_DIFFER],
        with [RecordHasHashes], JUDGES_DIFFER, NothingIsLost,
        "it makes every attempt write the same fragments, so that not all rests on the hashes in the record");

    /// A fragment's content is synced before its rename (`dataset/fragment.rs`).
    FragmentIsSyncedBeforeRename, fragment_is_synced_before_rename: needed(POWER_CUTS, NothingIsLost);

    /// Its folder is synced before the acknowledgement.
    FragmentFolderIsSynced, fragment_folder_is_synced: needed(POWER_CUTS, NothingIsLost);

    /// … also where the fragment was found there: whoever renamed it may have died before it synced.
    FolderOfStandingFragmentIsSynced, folder_of_standing_fragment_is_synced: needed(POWER_CUTS, NothingIsLost);

    /// A fragment that is found there is read before it is trusted.
    StandingFragmentIsRead, standing_fragment_is_read: needed(DAMAGE, NothingIsLost);

    /// One compactor at a time in a bucket (`.compact.lock`).
    CompactLockIsTaken, compact_lock_is_taken: needed(COMPACTORS, NothingIsDoubled);

    /// … from recovery to the last delete.
    CompactLockLastsToTheLastDelete, compact_lock_lasts_to_the_last_delete: redundant([COMPACTORS, CONSOLIDATORS],
        "what is deleted is named in a published file by then, so another compactor only deletes it, too; held on, it saves \
         both from meeting each other's deletions");

    /// A dead predecessor's rename is synced before anything is deleted because of it (`settle_published`).
    PredecessorIsSettled, predecessor_is_settled: needed(POWER_CUTS, NothingIsLost);

    /// A fragment is read and checked against its name before it is merged.
    FragmentIsCheckedBeforeMerging, fragment_is_checked_before_merging: needed(DAMAGE, NothingIsLost);

    /// A damaged fragment is looked at once more before it is laid aside.
    DamagedIsLookedAtAgain, damaged_is_looked_at_again: needed(DAMAGE, NothingIsLost);

    /// … and no batcher can write it anew between the look and the move (`.lock`).
    BucketLockIsTaken, bucket_lock_is_taken: needed(DAMAGE, NothingIsLost);

    /// Published files name what was merged into them.
    RecordNamesClaims, record_names_claims: needed(ZOMBIES, AuditIsRight);

    /// A fragment that is named as merged is only deleted.
    RecordIsLookedAt, record_is_looked_at: redundant([VERSIONS, COMPACTORS],
        "row identity drops its rows and the audit counts its claim once; but each would be read and merged for a file of no \
         rows, and a compactor that dies before it deletes would make one more each time");

    /// The record tells fragments of one claim apart by their hashes.
    RecordHasHashes, record_has_hashes: needed(ROLLBACK_JUDGES_DIFFER, NothingIsLost);

    /// Of equal identities in one merge one row is kept.
    NeighboursAreCompared, neighbours_are_compared: needed(COMPACTORS, NothingIsDoubled);

    /// A row whose identity is published is dropped.
    PublishedIdentitiesAreLookedUp, published_identities_are_looked_up: needed(RETRIES, NothingIsDoubled);

    /// What is published is listed anew for each file of a visit.
    StandingIsListedAnew, standing_is_listed_anew: needed(RETRIES, NothingIsDoubled);

    /// A merge without a new row makes a file of no rows, for its record.
    FileOfNoRowsIsPublished, file_of_no_rows_is_published: needed(RETRIES, AuditIsRight);

    /// A published file's content is synced before its rename (`dataset/published.rs`).
    PublishedFileIsSyncedBeforeRename, published_file_is_synced_before_rename: needed(POWER_CUTS, NothingIsLost);

    /// Its folder is synced before the fragments are deleted.
    PublishedFolderIsSyncedBeforeDeleting, published_folder_is_synced_before_deleting: needed(POWER_CUTS, NothingIsLost);

    /// Exactly the fragments that were merged are deleted.
    OnlyMergedFragmentsAreDeleted, only_merged_fragments_are_deleted: needed(ZOMBIES, NothingIsLost);

    /// Files that name one claim are consolidated together or not at all.
    FilesOfOneClaimAreMergedTogether, files_of_one_claim_are_merged_together: needed(FOLDING, AuditIsRight);

    /// The new folder accounts for as many merged rows as the old one (`Replacement::check_books`).
    BooksAreCheckedBeforeExchange, books_are_checked_before_exchange: redundant([CONSOLIDATION, CONSOLIDATION_POWER_CUT],
        "under the lock no file can appear that was not gathered; it is there for mistakes in the code that gathers");

    /// The new folder is synced before the exchange.
    NextFolderIsSyncedBeforeExchange, next_folder_is_synced_before_exchange: needed(CONSOLIDATION_POWER_CUT, NothingIsLost);

    /// The folders are exchanged in one step.
    ExchangeIsOneStep, exchange_is_one_step: needed(CONSOLIDATION, ReadersLoseNothing);

    /// The exchange is synced before the old folder is retired.
    ExchangeIsSynced, exchange_is_synced: net([CONSOLIDATION_POWER_CUT],
        with [ExchangeIsSyncedBeforeDeleting, PredecessorIsSettled], CONSOLIDATION_POWER_CUT, NothingIsLost,
        "the next visit syncs before it deletes; synced at once, a power cut does not have the consolidation done again");

    /// … and once more before the old folder, or one left behind, is deleted.
    ExchangeIsSyncedBeforeDeleting, exchange_is_synced_before_deleting: net([CONSOLIDATION_POWER_CUT],
        with [ExchangeIsSynced, PredecessorIsSettled], CONSOLIDATION_POWER_CUT, NothingIsLost,
        "recovery, which begins every visit, has synced the same; the sync stands beside the deletion so that no caller can \
         leave it out");

    /// The old folder stays for readers that are in it (`reader_grace`).
    ReadersAreGranted, readers_are_granted: needed(CONSOLIDATION, ReadersLoseNothing);
}
