//! Parquet, as the dataset's own files.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::dataset::{Export, ExportError};
use crate::heartbeat::HeartbeatRef;

/// A file that is taken away while it is written.
#[derive(Debug)]
pub(super) struct File {
    export: Export<Pipe>,
    pipe: Pipe,
}

impl File {
    pub(super) fn new() -> Result<Self, ExportError> {
        let pipe = Pipe::default();
        Ok(Self { export: Export::new(pipe.clone())?, pipe })
    }

    pub(super) fn push(&mut self, row: HeartbeatRef<'_>) -> Result<(), ExportError> {
        self.export.push(row)
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.pipe.take()
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, ExportError> {
        Ok(self.export.finish()?.take())
    }
}

/// What was written and not taken yet.
#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Pipe {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
