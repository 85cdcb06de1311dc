//! A partition on its way from one backend to another: the words that the giving and the taking side share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Ledger, Registration};
use crate::heartbeat::ClaimId;

/// All that is kept of a standing claim besides its frames and what it condemned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) id: ClaimId,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// When it was made, ms since the Unix epoch.
    pub(super) since: i64,
    /// The epoch that it was last handed to.
    pub(super) epoch: u64,
    /// Whether that one released it.
    pub(super) left: bool,
    pub(super) deaths: u32,
    /// The frame that is being worked on.
    pub(super) hand: Option<u32>,
    /// The frame that was in hand at the last death.
    pub(super) last_hand: Option<u32>,
    /// Deaths by frame.
    pub(super) hand_deaths: Vec<(u32, u32)>,
}

/// The record of a partition, and how many frames belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handover {
    pub(super) registration: Registration,
    pub(super) ledger: Ledger,
    /// The lease's last epoch: the next one must be higher.
    pub(super) epoch: u64,
    pub(super) claim: Option<Standing>,
    pub(super) claimed_frames: u64,
    pub(super) pending_frames: u64,
}

/// One of the two lists of frames that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameList {
    /// The frames of the standing claim.
    Claimed,
    /// Those that wait.
    Pending,
}

/// The place of a condemned entry: the frame in its claim, and the row in it unless the whole frame is condemned.
pub(super) type Place = (u32, Option<u32>);

/// What a buffer that is being moved remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The move, over all its tries.
    pub(super) drain: Uuid,
    /// The one target that may take things in by itself already; before that any new one will do.
    pub(super) sealed: Option<Uuid>,
}

/// A move into one certain target, as the target remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    /// The move, over all its tries.
    pub(super) drain: Uuid,
    /// The target, told apart from every other that a try was begun with.
    pub(super) target: Uuid,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.drain, self.target)
    }
}

impl FromStr for Move {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (drain, target) = text.split_once('/').ok_or(())?;
        Ok(Self { drain: drain.parse().map_err(|_| ())?, target: target.parse().map_err(|_| ())? })
    }
}
