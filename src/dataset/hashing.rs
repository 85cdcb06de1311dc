//! Hashes of whole files: while they are written, and when they are checked.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::ContentHash;
use super::error::{At, Error, Result, or_not_found};

/// Memory that checking a file takes.
const READ_BYTES: usize = 256 * 1024;
/// Gathers the small writes between column chunks.
const WRITE_BYTES: usize = 64 * 1024;

/// Writes a file and hashes what it writes.
#[derive(Debug)]
pub(super) struct HashingWriter {
    // Around the file alone: the hash is of what was handed over, and `finish` checks that all of it arrived.
    file: BufWriter<File>,
    hash: HashState,
    len: u64,
}

/// `Xxh3` has no `Debug`.
struct HashState(Xxh3);

impl std::fmt::Debug for HashState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashState")
    }
}

impl HashingWriter {
    pub(super) fn new(file: File) -> Self {
        Self { file: BufWriter::with_capacity(WRITE_BYTES, file), hash: HashState(Xxh3::new()), len: 0 }
    }

    /// Hands the file back with everything written to it, and the hash and length of that.
    pub(super) fn finish(self) -> io::Result<(File, ContentHash, u64)> {
        // Not a drop of the BufWriter, which would swallow the last error.
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, ContentHash(self.hash.0.digest()), self.len))
    }
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.0.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The hash of these bytes as a file's content.
pub(super) fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash(xxh3_64(bytes))
}

/// Checks a file against the hash in its name, in constant memory.
pub(super) fn verify(path: &Path, expected: ContentHash) -> Result<()> {
    let mut file = or_not_found(File::open(path), "open", path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut len = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                len += read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).at("read", path),
        }
    }
    compare(path, expected, ContentHash(hash.digest()), len)
}

/// Checks bytes read from `path` against the hash in its name.
pub(super) fn verify_bytes(path: &Path, bytes: &[u8], expected: ContentHash) -> Result<()> {
    compare(path, expected, hash_of(bytes), bytes.len())
}

fn compare(path: &Path, expected: ContentHash, found: ContentHash, len: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let reason = match len {
        0 => "it is empty".to_owned(),
        _ => format!("the hash of its {len} bytes is {found}, not {expected} as in its name"),
    };
    Err(Error::damaged(path, reason))
}
