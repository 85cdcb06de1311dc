//! A dataset that may not have been born yet.

use std::sync::{Arc, OnceLock};

use super::Dataset;

/// The dataset that a process reads, if it reads one: there from the start, or from when the first batcher has made it. All
/// clones learn of it at once.
#[derive(Debug, Clone, Default)]
pub struct Awaited(Arc<OnceLock<Dataset>>);

impl Awaited {
    /// The dataset, if it is there by now.
    pub fn get(&self) -> Option<&Dataset> {
        self.0.get()
    }

    /// Says that it is there. The first one stays.
    pub fn arrived(&self, dataset: Dataset) {
        let _ = self.0.set(dataset);
    }
}

impl From<Option<Dataset>> for Awaited {
    fn from(dataset: Option<Dataset>) -> Self {
        Self(Arc::new(dataset.map_or_else(OnceLock::new, OnceLock::from)))
    }
}
