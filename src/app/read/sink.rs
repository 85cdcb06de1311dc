//! Where heartbeats are written to: standard output, or what `--out` names.
//!
//! Constraint: whoever reads a pipe may stand still for as long as they like, and nothing may wait for that but the thread
//! that writes: it is left behind when the command is told to stop.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::super::Failure;
use super::draft::{self, Draft};

/// See the module.
#[derive(Debug)]
pub(super) struct Sink {
    file: Arc<File>,
    /// As errors speak of it.
    name: String,
    /// Absent where what is written stays where it is written.
    draft: Option<Draft>,
}

impl Sink {
    /// Of `out`, or of standard output. A pipe opens when it has a reader.
    pub(super) async fn open(out: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = out else {
            let name = "standard output".to_owned();
            let file = io::stdout().as_fd().try_clone_to_owned().map_err(|error| cannot_write(&name, &error))?;
            return Ok(Self { file: Arc::new(file.into()), name, draft: None });
        };
        let name = path.display().to_string();
        let path = path.to_owned();
        match aside(move || draft::open(&path)).await {
            Ok((file, draft)) => Ok(Self { file: Arc::new(file), name, draft }),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(Failure::Usage(format!("--out {name} is a folder: name a file in it")))
            }
            Err(error) => Err(cannot_write(&name, &error)),
        }
    }

    /// Whether anybody takes more.
    pub(super) async fn put(&self, bytes: Vec<u8>) -> Result<bool, Failure> {
        if bytes.is_empty() {
            return Ok(true);
        }
        let file = self.file.clone();
        match aside(move || (&*file).write_all(&bytes)).await {
            Ok(()) => Ok(true),
            // `systole read … | head` has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(cannot_write(&self.name, &error)),
        }
    }

    /// Makes it last.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        let Self { file, name, draft } = self;
        let Some(draft) = draft else { return Ok(()) };
        aside(move || draft.finish(&file)).await.map_err(|error| cannot_write(&name, &error))
    }
}

fn cannot_write(name: &str, error: &io::Error) -> Failure {
    Failure::OutOfReach(format!("cannot write {name}: {error}"))
}

/// Runs `work` on a thread that dies with the process. For its own threads the runtime waits at the end.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (done, outcome) = oneshot::channel();
    thread::Builder::new().name("write".into()).spawn(move || {
        // Nobody may be there any more: the command was told to stop.
        let _ = done.send(work());
    })?;
    outcome.await.unwrap_or_else(|_| Err(io::Error::other("the thread that writes failed")))
}
