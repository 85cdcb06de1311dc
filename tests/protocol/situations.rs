//! Situations that make the model worth anything: a scenario says which of them it must reach, so that a model in which
//! nothing happens cannot pass.

/// Something worth seeing, on the way from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    Published,
    /// A claim that stood was handed to another lease.
    StandingClaimHandedOn,
    /// A batcher found the fragment there that it was about to write.
    FragmentFoundStanding,
    /// A fragment came back after its claim was closed and it was merged.
    ZombieStoresWhatIsMerged,
    /// The same, of other bytes than those merged.
    ZombieStoresOtherBytesOfWhatIsMerged,
    /// An acknowledgement came from a lease that is another's by now.
    FencedAckRefused,
    /// An acknowledgement of an older claim met a younger one.
    OlderAckRefused,
    /// A condemnation for an older claim met a younger one.
    OlderCondemnationRefused,
    Condemned,
    /// A heartbeat was acknowledged in two copies.
    CopiesHeld,
    DuplicateDropped,
    FileOfNoRows,
    /// Two published files name one claim.
    ClaimMergedTwice,
    LatePushArrived,
    /// The buffer came back older than the files.
    RolledBackBehindPublish,
    /// Heartbeats that were acknowledged are gone with a rollback.
    RollbackTookHeartbeats,
    /// The audit sees a surplus.
    SurplusSeen,
    /// A power cut took names that processes had seen.
    PowerCutTookNames,
    /// A power cut took an exchange back.
    PowerCutUndidExchange,
    DiedBeforeSyncOfPublished,
    DiedBeforeDeleting,
    DiedBehindExchange,
    Quarantined,
    DamagedFragmentWrittenAnew,
    Exchanged,
    ExchangeRefused,
    FileLinked,
    ClaimFolded,
    OldFolderDeleted,
    LeftoverFolderDeleted,
    /// A reader read on in a folder that was replaced meanwhile.
    ReaderInReplacedFolder,
}

/// A set of situations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Note(pub u64);

impl Note {
    pub fn reached(&mut self, situation: Situation) {
        self.0 |= 1 << situation as u64;
    }

    pub fn has(self, situation: Situation) -> bool {
        self.0 & 1 << situation as u64 != 0
    }
}
