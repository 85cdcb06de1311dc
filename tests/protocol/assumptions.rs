//! What the protocol takes for granted, shown by what happens where it does not hold.

use crate::check::breaks;
use crate::promises::Promise;
use crate::scenario::Scenario;

/// A journal that cannot be written stops ext4 and XFS for good: every later sync fails as well. A file system that went on,
/// and took the name for written since, would have the batcher's next attempt find its fragment there, sync the folder, and
/// acknowledge a name that a power cut takes.
#[test]
fn a_failed_sync_of_a_folder_must_not_be_forgotten() {
    breaks(&Scenario::FORGETFUL, Promise::NothingIsLost);
}
