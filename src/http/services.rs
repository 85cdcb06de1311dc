//! What the edge answers from, beside the door.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Devices;
use crate::overview::Overview;
use crate::query::Reading;

/// The services behind the answers to questions.
#[derive(Debug, Clone)]
pub struct Services {
    /// Heartbeats of a user.
    pub reading: Reading,
    /// Devices, and when they were last seen.
    pub devices: Arc<dyn Devices>,
    /// How long devices are remembered after they were last seen.
    pub remember_devices: Duration,
    /// The flow as it is now.
    pub overview: Overview,
}
