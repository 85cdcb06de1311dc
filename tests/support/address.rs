//! Where the door is: known to all clients, through any number of its deaths.

use std::sync::{Arc, Mutex};

/// The URL of a door, or nothing while there is none. Nobody may post to where it was: its port may be another test's by
/// now.
#[derive(Debug, Clone, Default)]
pub struct Address(Arc<Mutex<Option<String>>>);

impl Address {
    /// The URL at this moment.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap().clone()
    }

    /// The door has come up there, or gone.
    pub fn set(&self, url: Option<String>) {
        *self.0.lock().unwrap() = url;
    }
}

impl From<String> for Address {
    fn from(url: String) -> Self {
        let address = Self::default();
        address.set(Some(url));
        address
    }
}
