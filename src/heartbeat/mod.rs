//! The vocabulary: what a heartbeat is, when two of them are the same one, in which order they stand, and how some of
//! them travel together in a frame.
//!
//! Constraints: nothing in here does I/O, reads a clock or knows of HTTP, Redis or Parquet. Every other module may import
//! this one; this one imports none of ours.

mod block;
mod field;
mod frame;
mod ids;
mod parse;
mod record;
mod reject;
mod sighting;
mod sort;
mod text;

pub use block::Block;
pub use frame::{FRAME_HEADER_LEN, FRAME_VERSION, Frame, FrameError, FrameHeader, FrameRows, OpenFrame};
pub(crate) use ids::uuid_id;
pub use ids::{BatcherId, ClaimId, DatasetId, Partition, partition_of};
pub use parse::{Limits, Parsed, ParsedHeartbeat, parse_array, parse_one, parse_text};
pub use record::{Heartbeat, HeartbeatRef};
pub use reject::{RejectCode, Rejection};
pub use sighting::{Sighting, Sightings};
pub use sort::sort;
pub use text::{
    MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTE_LEVELS, MAX_ID_BYTES, MAX_NAME_BYTES, MIN_TIMESTAMP_NOT_SECONDS,
    check_device_id, check_user_id, time_ms,
};
