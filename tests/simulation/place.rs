//! Where the buffer is: the real embedded one, which can be closed and opened again like that of a process that ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytesize::ByteSize;
use systole::buffer::embedded::{self, EmbeddedBuffer};
use systole::buffer::{self, Buffer, Error};

#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    open: Mutex<Option<Arc<dyn Buffer>>>,
}

impl Place {
    pub fn new(folder: &Path) -> Arc<Self> {
        let place = Self { folder: folder.to_owned(), open: Mutex::default() };
        place.open().unwrap();
        Arc::new(place)
    }

    fn open(&self) -> Result<(), Error> {
        let own = embedded::Options { buffer_min_free: ByteSize(0) };
        let opened = EmbeddedBuffer::open(&self.folder, &buffer::options::Options::default(), &own)?;
        *self.open.lock().unwrap() = Some(Arc::new(opened));
        Ok(())
    }

    /// The buffer, while it is open.
    pub fn buffer(&self) -> Result<Arc<dyn Buffer>, Error> {
        let closed = || Error::Unreachable { reason: "it is closed".into() };
        self.open.lock().unwrap().clone().ok_or_else(closed)
    }

    /// Closes it and opens it anew, on what it had made durable. Fails while a call is under way.
    pub fn reopen(&self) -> Result<(), Error> {
        *self.open.lock().unwrap() = None;
        self.open()
    }
}
