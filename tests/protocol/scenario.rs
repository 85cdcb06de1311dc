//! Scenarios: which small world is searched to its end.

use crate::buffer::{Identity, Row};
use crate::guards::Guards;
use crate::situations::Situation;

/// Whether all batchers find the same frames unwritable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judges {
    Agree,
    /// Another version of the binary, or a frame in hand when its owner died for the third time: each attempt may condemn
    /// what another writes.
    Differ,
}

/// The bounds of a world. What is zero or false does not happen.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub guards: Guards,
    /// Heartbeats with an identity of their own.
    pub identities: u8,
    /// Dates among which they are spread in turn.
    pub dates: u8,
    /// How often a client sends each of them, at most.
    pub sends: u8,
    /// Requests that their senders give up and that arrive later, or never.
    pub late: u8,
    pub batchers: u8,
    /// Whether steps fail and are tried again by the same worker.
    pub fails: bool,
    /// How often the lease changes hands, or is taken anew.
    pub leases: u8,
    /// Frames that one claim takes.
    pub claim_frames: u8,
    /// Whether each batcher is of another version, so that equal rows make other bytes.
    pub writers_differ: bool,
    /// A heartbeat that cannot be written.
    pub unwritable: Option<Identity>,
    pub judges: Judges,
    /// Dead letters that a person puts back.
    pub retries: u8,
    pub compactors: u8,
    /// Fragments that one publish takes.
    pub slice: u8,
    pub consolidations: u8,
    /// Whether a consolidation may link one of the files instead of merging it.
    pub keeps: bool,
    /// Whether a consolidation may fold claims into totals.
    pub folds: bool,
    pub reader: bool,
    pub power_cuts: u8,
    /// Whether a failed sync of a folder is forgotten by the file system.
    pub forgetful_folders: bool,
    /// Fragments of a standing claim that the disk damages.
    pub damages: u8,
    /// Whether the buffer comes back once as it was at any time before.
    pub rollback: bool,
    /// What must be reached with all guards in place.
    pub reaches: &'static [Situation],
}

impl Scenario {
    const SMALLEST: Self = Self {
        name: "",
        guards: Guards::ALL,
        identities: 1,
        dates: 1,
        sends: 1,
        late: 0,
        batchers: 1,
        fails: false,
        leases: 1,
        claim_frames: 2,
        writers_differ: false,
        unwritable: None,
        judges: Judges::Agree,
        retries: 0,
        compactors: 1,
        slice: 2,
        consolidations: 0,
        keeps: false,
        folds: false,
        reader: false,
        power_cuts: 0,
        forgetful_folders: false,
        damages: 0,
        rollback: false,
        reaches: &[],
    };

    /// Two batchers, the lease going to and fro: every zombie there can be, across two claims.
    pub const ZOMBIES: Self = Self {
        name: "zombies",
        identities: 2,
        claim_frames: 1,
        batchers: 2,
        leases: 3,
        reaches: &[
            Situation::Published,
            Situation::StandingClaimHandedOn,
            Situation::FragmentFoundStanding,
            Situation::ZombieStoresWhatIsMerged,
            Situation::FencedAckRefused,
        ],
        ..Self::SMALLEST
    };

    /// The same with batchers of two versions: one claim makes fragments of other bytes.
    pub const VERSIONS: Self = Self {
        name: "versions",
        identities: 1,
        batchers: 2,
        leases: 3,
        writers_differ: true,
        reaches: &[
            Situation::ZombieStoresOtherBytesOfWhatIsMerged,
            Situation::ClaimMergedTwice,
            Situation::DuplicateDropped,
            Situation::FileOfNoRows,
        ],
        ..Self::SMALLEST
    };

    /// A claim of two dates: two fragments before one acknowledgement.
    pub const DATES: Self = Self {
        name: "dates",
        identities: 2,
        dates: 2,
        batchers: 2,
        leases: 2,
        reaches: &[Situation::Published, Situation::StandingClaimHandedOn, Situation::FragmentFoundStanding],
        ..Self::SMALLEST
    };

    /// Requests that arrive after their senders gave them up, each into whatever stands by then.
    pub const LATE_REQUESTS: Self = Self {
        name: "late requests",
        identities: 2,
        claim_frames: 1,
        late: 1,
        leases: 2,
        batchers: 2,
        reaches: &[Situation::LatePushArrived, Situation::OlderAckRefused, Situation::FencedAckRefused],
        ..Self::SMALLEST
    };

    /// A client that sends again, whatever it was answered; one publish takes one fragment.
    pub const RETRIES: Self = Self {
        name: "retries",
        sends: 3,
        late: 1,
        claim_frames: 2,
        slice: 1,
        reaches: &[
            Situation::CopiesHeld,
            Situation::DuplicateDropped,
            Situation::FileOfNoRows,
            Situation::LatePushArrived,
        ],
        ..Self::SMALLEST
    };

    /// A heartbeat that no writer takes, beside one that all take.
    pub const CONDEMNED: Self = Self {
        name: "condemned",
        identities: 2,
        batchers: 2,
        leases: 2,
        unwritable: Some(0),
        retries: 1,
        reaches: &[Situation::Condemned, Situation::Published],
        ..Self::SMALLEST
    };

    /// The same with claims of one frame each, so that a late condemnation meets another claim.
    pub const CONDEMNED_LATE: Self = Self {
        name: "condemned late",
        claim_frames: 1,
        late: 1,
        retries: 0,
        reaches: &[Situation::Condemned, Situation::OlderCondemnationRefused],
        ..Self::CONDEMNED
    };

    /// A heartbeat that one attempt condemns and the next one writes.
    pub const JUDGES_DIFFER: Self = Self {
        name: "judges differ",
        judges: Judges::Differ,
        retries: 0,
        reaches: &[Situation::Condemned, Situation::ZombieStoresOtherBytesOfWhatIsMerged, Situation::DuplicateDropped],
        ..Self::CONDEMNED
    };

    /// The buffer comes back as it was before.
    pub const ROLLBACK: Self = Self {
        name: "rollback",
        identities: 2,
        late: 1,
        rollback: true,
        reaches: &[
            Situation::RolledBackBehindPublish,
            Situation::RollbackTookHeartbeats,
            Situation::SurplusSeen,
            Situation::DuplicateDropped,
        ],
        ..Self::SMALLEST
    };

    /// The same with a zombie, whose lease may come to stand again.
    pub const ROLLBACK_ZOMBIES: Self = Self {
        name: "rollback, zombies",
        identities: 1,
        late: 0,
        batchers: 2,
        leases: 2,
        reaches: &[Situation::RolledBackBehindPublish, Situation::FencedAckRefused, Situation::SurplusSeen],
        ..Self::ROLLBACK
    };

    /// The same, and what was condemned before is written after, or the reverse.
    pub const ROLLBACK_JUDGES_DIFFER: Self = Self {
        name: "rollback, judges differ",
        unwritable: Some(0),
        judges: Judges::Differ,
        late: 0,
        leases: 1,
        reaches: &[Situation::RolledBackBehindPublish, Situation::Condemned, Situation::SurplusSeen],
        ..Self::ROLLBACK
    };

    /// Power cuts of the data disk, on the way to a published file.
    pub const POWER_CUTS: Self = Self {
        name: "power cuts",
        identities: 1,
        batchers: 2,
        leases: 3,
        power_cuts: 2,
        reaches: &[Situation::PowerCutTookNames, Situation::DiedBeforeSyncOfPublished, Situation::DiedBeforeDeleting],
        ..Self::SMALLEST
    };

    /// A file system that takes the names of a folder for written though their sync failed.
    pub const FORGETFUL: Self = Self {
        name: "forgetful folders",
        forgetful_folders: true,
        power_cuts: 1,
        leases: 2,
        reaches: &[Situation::PowerCutTookNames],
        ..Self::SMALLEST
    };

    /// A disk that damages a fragment whose claim still stands.
    pub const DAMAGE: Self = Self {
        name: "damage",
        identities: 1,
        batchers: 2,
        leases: 2,
        damages: 1,
        reaches: &[Situation::Quarantined, Situation::DamagedFragmentWrittenAnew],
        ..Self::SMALLEST
    };

    /// Two compactors on one bucket.
    pub const COMPACTORS: Self = Self {
        name: "compactors",
        sends: 3,
        claim_frames: 1,
        compactors: 2,
        slice: 2,
        reaches: &[Situation::Published, Situation::DuplicateDropped, Situation::DiedBeforeDeleting],
        ..Self::SMALLEST
    };

    /// Two compactors that publish and consolidate, and a reader.
    pub const CONSOLIDATION: Self = Self {
        name: "consolidation",
        identities: 3,
        claim_frames: 1,
        slice: 1,
        compactors: 2,
        consolidations: 1,
        keeps: true,
        reader: true,
        reaches: &[
            Situation::Exchanged,
            Situation::FileLinked,
            Situation::OldFolderDeleted,
            Situation::LeftoverFolderDeleted,
            Situation::DiedBehindExchange,
            Situation::ReaderInReplacedFolder,
        ],
        ..Self::SMALLEST
    };

    /// Two compactors that publish and consolidate, nobody reading.
    pub const CONSOLIDATORS: Self = Self {
        name: "consolidators",
        identities: 2,
        keeps: false,
        reader: false,
        reaches: &[Situation::Exchanged, Situation::DiedBehindExchange, Situation::DiedBeforeDeleting],
        ..Self::CONSOLIDATION
    };

    /// A consolidation, and a power cut anywhere.
    pub const CONSOLIDATION_POWER_CUT: Self = Self {
        name: "consolidation, power cut",
        identities: 2,
        claim_frames: 1,
        slice: 1,
        consolidations: 1,
        power_cuts: 1,
        reaches: &[
            Situation::Exchanged,
            Situation::PowerCutUndidExchange,
            Situation::OldFolderDeleted,
            Situation::LeftoverFolderDeleted,
        ],
        ..Self::SMALLEST
    };

    /// Claims are folded into totals, and some come back.
    pub const FOLDING: Self = Self {
        name: "folding",
        identities: 2,
        claim_frames: 1,
        batchers: 2,
        leases: 2,
        writers_differ: true,
        slice: 1,
        consolidations: 1,
        keeps: true,
        folds: true,
        reaches: &[Situation::ClaimFolded, Situation::ClaimMergedTwice, Situation::SurplusSeen],
        ..Self::SMALLEST
    };

    pub fn date_of(&self, row: Row) -> u8 {
        row.identity % self.dates
    }

    /// Whether what was not synced can be lost. Where it cannot, a sync is no step of its own.
    pub fn syncs_matter(&self) -> bool {
        self.power_cuts > 0
    }

    /// Whether one heartbeat is like another, but for its name.
    pub fn identities_are_alike(&self) -> bool {
        self.dates == 1 && self.unwritable.is_none()
    }
}
