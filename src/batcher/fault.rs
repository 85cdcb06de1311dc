//! What can keep a claim from being finished, sorted by what is done about it.
//!
//! Faults of the data are not among them: those become dead letters (see `condemn`) and the claim goes on without them.

use bytesize::ByteSize;

use crate::{buffer, dataset};

/// A fault of the world: the claim stands, and the step is tried again for ever.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The dataset or the disk under it.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    /// The dataset refuses more before the disk is quite full.
    #[error("{free} free on the disk, less than min-free ({least}): nothing is claimed; make room")]
    LowDisk { free: ByteSize, least: ByteSize },
    /// A step that a test made fail.
    #[error("cannot go on: {0}")]
    Step(#[from] std::io::Error),
    /// The buffer, whatever it says: only a person knows whether it will ever mend.
    #[error(transparent)]
    Buffer(buffer::Error),
    /// A frame that a newer Systole pushed.
    #[error("a frame has format version {0}, newer than this binary knows; upgrade this batcher")]
    UnknownFrame(u8),
    /// Somebody else than Systole took them out of the buffer.
    #[error(
        "frames of the claim are missing in the buffer: {gone} of {rows} heartbeats; nothing is written until they are \
         back or given up: see \"Frames that vanish from Redis\" in docs/reliability.md"
    )]
    FramesGone { gone: u64, rows: u64 },
    /// A step panicked outside the part where a panic is known to be a fault of the data.
    #[error("a step panicked: a mistake in Systole or a library; see the log")]
    Panicked,
}

impl Fault {
    /// The label of metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Dataset(dataset::Error::NewerFormat { .. }) | Self::UnknownFrame(_) => "format",
            Self::Dataset(_) | Self::LowDisk { .. } | Self::Step(_) => "disk",
            Self::Buffer(_) | Self::FramesGone { .. } => "buffer",
            Self::Panicked => "panic",
        }
    }
}

/// Why a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was told to: the process stops, or the partition is another's by rank.
    Stopped,
    /// The lease is, or may be by now, another's.
    Lost,
    /// It did not finish in time: another batcher may have more luck.
    Yielded,
}

/// Why a turn did not come to its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// To be tried again.
    Fault(Fault),
    /// The claim does not stand any more: closed before (an answer was lost), or fenced. To be claimed anew, no alarm.
    Gone,
    /// The worker ends.
    Ended(Ending),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<dataset::Error> for Halt {
    fn from(error: dataset::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<buffer::Error> for Halt {
    fn from(error: buffer::Error) -> Self {
        match error {
            buffer::Error::Fenced { .. } => Self::Ended(Ending::Lost),
            buffer::Error::NotStanding => Self::Gone,
            other => Self::Fault(Fault::Buffer(other)),
        }
    }
}

impl From<Ending> for Halt {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}
