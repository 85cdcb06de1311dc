//! Where heartbeats are written to: standard output, or a file that appears once it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::Failure;

/// See the module.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout,
    File(Box<Draft>),
}

impl Sink {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, Failure> {
        Ok(match file {
            None => Self::Stdout,
            Some(path) => Self::File(Box::new(Draft::new(path).map_err(|error| cannot_write(path, &error))?)),
        })
    }

    /// Whether anybody takes more.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::File(draft) => match draft.file.write_all(bytes) {
                Ok(()) => Ok(true),
                Err(error) => Err(cannot_write(&draft.path, &error)),
            },
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
                    Ok(()) => Ok(true),
                    // `systole read … | head` has read enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                    Err(error) => Err(Failure::OutOfReach(format!("cannot write to standard output: {error}"))),
                }
            }
        }
    }

    /// Makes it last.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if let Self::File(draft) = self {
            let path = draft.path.clone();
            draft.finish().map_err(|error| cannot_write(&path, &error))?;
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::OutOfReach(format!("cannot write {}: {error}", path.display()))
}

/// A file under another name until it is whole. Dropped before, it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    file: BufWriter<File>,
    draft: PathBuf,
    path: PathBuf,
    whole: bool,
}

impl Draft {
    fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("that is no name of a file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", uuid::Uuid::now_v7()));
        let draft = path.with_file_name(hidden);
        let file = BufWriter::new(File::create_new(&draft)?);
        Ok(Self { file, draft, path: path.to_owned(), whole: false })
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        self.whole = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.whole {
            // It was never more than a draft; were it to stay, its name says so.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.csv");
        fs::write(&path, "old").unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();

        let mut sink = Sink::open(Some(&path)).unwrap();
        assert!(sink.put(b"half").unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 2));
        drop(sink);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 1));

        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.put(b"whole").unwrap();
        sink.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("whole", 1));
    }
}
