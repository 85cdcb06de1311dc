//! A file that appears under its name once it is whole.
//!
//! Constraints: only a regular file is replaced, and the new one may be read by no more people than the old one, from its
//! first byte on. What is something else (a pipe, a device) is written into, and stays what it is. A link stays, and leads to
//! the new file.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Links that are followed to a file that is not there yet. As many as Linux follows.
const MAX_LINKS: usize = 40;

/// A file under another name until it is whole. Dropped before, it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    draft: PathBuf,
    path: PathBuf,
    whole: bool,
}

/// Where to write so that it comes to stand at `path`. Without a draft it stands there at once.
///
/// # Errors
/// `IsADirectory` for a folder; whatever the file system says. A file that may not be written is not replaced either.
pub(super) fn open(path: &Path) -> io::Result<(File, Option<Draft>)> {
    let there = match fs::metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (file, draft) = Draft::new(end_of_links(path)?, None)?;
            return Ok((file, Some(draft)));
        }
        Err(error) => return Err(error),
    };
    if there.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let itself = OpenOptions::new().write(true).open(path)?;
    if !there.is_file() {
        return Ok((itself, None));
    }
    let (file, draft) = Draft::new(fs::canonicalize(path)?, Some(&there))?;
    Ok((file, Some(draft)))
}

/// The name that is free at the end of links, if there are any.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // No link, or nothing at all.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

impl Draft {
    /// Of a file at `path`, in place of the one that is there.
    fn new(path: PathBuf, replaced: Option<&Metadata>) -> io::Result<(File, Self)> {
        let name = path.file_name().ok_or_else(|| io::Error::other("that is no name of a file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", uuid::Uuid::now_v7()));
        let draft = path.with_file_name(hidden);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if replaced.is_some() {
            options.mode(0o600);
        }
        let file = options.open(&draft)?;
        let draft = Self { draft, path, whole: false };
        if let Some(replaced) = replaced {
            take_after(&file, replaced)?;
        }
        Ok((file, draft))
    }

    pub(super) fn finish(mut self, file: &File) -> io::Result<()> {
        file.sync_all()?;
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

/// Gives `file` the owner, as far as we may, and the mode of the one that it replaces.
fn take_after(file: &File, replaced: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    let mut mode = replaced.mode() & 0o777;
    if own.gid() != replaced.gid() && fchown(file, None, Some(replaced.gid())).is_err() {
        // What its group might do, ours may not.
        mode &= !0o070;
    }
    if own.uid() != replaced.uid() {
        // Only root may; else it becomes a file of whoever replaced it.
        let _ = fchown(file, Some(replaced.uid()), None);
    }
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn written(path: &Path, text: &str) {
        let (mut file, draft) = open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        draft.unwrap().finish(&file).unwrap();
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.csv");
        fs::write(&path, "old").unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();

        let (mut file, draft) = open(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 2));
        drop(draft);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 1));

        written(&path, "whole");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("whole", 1));
    }

    #[test]
    fn a_file_is_replaced_by_one_of_its_mode_from_the_first_byte_on() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o640, 0o664, 0o755] {
            let path = folder.path().join(format!("{mode:o}"));
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let (file, draft) = open(&path).unwrap();
            assert_eq!(file.metadata().unwrap().mode() & 0o777, mode);
            draft.unwrap().finish(&file).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
    }

    #[test]
    fn a_link_stays_and_leads_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("far")).unwrap();
        fs::write(at("far/old"), "old").unwrap();
        symlink("far/old", at("to-old")).unwrap();
        symlink("far/new", at("to-new")).unwrap();
        symlink("to-new", at("twice")).unwrap();
        symlink("round", at("round")).unwrap();
        for (link, file) in [("to-old", "far/old"), ("to-new", "far/new"), ("twice", "far/new")] {
            written(&at(link), link);
            assert_eq!(fs::read_to_string(at(file)).unwrap(), link);
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        }
        assert!(open(&at("round")).is_err());
    }

    #[test]
    fn what_is_no_file_is_written_into_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let link = folder.path().join("null");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), &link] {
            let (mut file, draft) = open(path).unwrap();
            file.write_all(b"gone").unwrap();
            assert!(draft.is_none());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
