//! The store's journals, before the store is opened: a new one for a new life, and a torn tail cut off.
//!
//! Constraints:
//! - After a failed fsync nothing may be appended to that file: what did not reach the disk can look clean afterwards, and
//!   what is synced behind the gap would be lost with it at a power cut. So each opening begins a new journal; the store
//!   replays the older ones and deletes them once their content is in tables.
//! - Each commit is synced before the next begins, so a power cut can tear the last batch only. The store refuses to open
//!   on a batch whose checksum does not match (its pages may reach the disk in any order); where nothing whole follows,
//!   that batch was never acknowledged, and it is cut off. Where something whole follows, the disk damaged what was
//!   acknowledged: that is for a person to see.
//!
//! The format is that of fjall's disk format 3: a batch is a start (tag 1, items u32, sequence u64), its items (tag 2, type
//! u8, compression u8, keyspace u64, key length u16, value length u32 twice, key, value) or clears (tag 4, keyspace u64)
//! and an end (tag 3, xxh3 of the items u64, `FJL\x03`), little-endian; zeros follow the last one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const TRAILER: &[u8] = b"FJL\x03";

/// Begins a new journal if the newest holds anything. Nothing is done in a folder without journals.
pub(super) fn begin_anew(store: &Path) -> io::Result<()> {
    let Some((newest, path)) = journals(store)?.pop() else { return Ok(()) };
    if is_empty(&path)? {
        return Ok(());
    }
    let next = store.join(format!("{}.jnl", newest + 1));
    File::create_new(next)?.sync_all()?;
    File::open(store)?.sync_all()
}

/// Cuts a batch that a power cut tore off the newest journal that holds anything. Answers the bytes cut off; `None` when
/// there is no torn tail.
pub(super) fn cut_torn_tail(store: &Path) -> io::Result<Option<u64>> {
    for (_, path) in journals(store)?.into_iter().rev() {
        if is_empty(&path)? {
            continue;
        }
        // 64 MB, and one batch: that is how far a journal grows.
        let content = fs::read(&path)?;
        let Some(whole) = torn_at(&content) else { return Ok(None) };
        let file = File::options().write(true).open(&path)?;
        file.set_len(whole as u64)?;
        file.sync_all()?;
        return Ok(Some((content.len() - whole) as u64));
    }
    Ok(None)
}

/// All journals, oldest first.
fn journals(store: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (true, Some(number)) = (is_journal, number) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether it holds no batch. A journal is laid out as zeros, and no batch begins with one.
fn is_empty(path: &Path) -> io::Result<bool> {
    use io::Read;
    let mut first = [0];
    let read = File::open(path)?.read(&mut first)?;
    Ok(read == 0 || first == [0])
}

/// Where the last whole batch ends, if something broken and nothing whole follows it.
fn torn_at(content: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(length) = whole_batch(&content[at..]) {
        at += length;
    }
    let rest = &content[at..];
    let nothing_whole = || {
        let ends = rest.windows(TRAILER.len()).enumerate().filter(|(_, window)| *window == TRAILER);
        ends.map(|(end, _)| &rest[end + TRAILER.len()..]).all(|behind| whole_batch(behind).is_none())
    };
    (rest.iter().any(|&byte| byte != 0) && nothing_whole()).then_some(at)
}

/// The length of the batch that this begins with, if it is whole.
fn whole_batch(content: &[u8]) -> Option<usize> {
    let mut rest = Reader(content);
    if rest.take(1)? != [1] {
        return None;
    }
    let items = u32::from_le_bytes(rest.array()?);
    rest.take(8)?;
    let mut hash = Xxh3::new();
    for _ in 0..items {
        let item = rest.0;
        match rest.take(1)? {
            [2] => {
                rest.take(10)?;
                let key = u16::from_le_bytes(rest.array()?);
                rest.take(4)?;
                let value = u32::from_le_bytes(rest.array()?);
                rest.take(key.into())?;
                rest.take(value as usize)?;
            }
            [4] => drop(rest.take(8)?),
            _ => return None,
        }
        hash.update(&item[..item.len() - rest.0.len()]);
    }
    let end = rest.take(1)? == [3] && u64::from_le_bytes(rest.array()?) == hash.digest() && rest.take(4)? == TRAILER;
    end.then_some(content.len() - rest.0.len())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fjall itself wrote: three batches, the last of several pages.
    fn written(dir: &Path) -> PathBuf {
        let store = fjall::Database::builder(dir).worker_threads(1).open().unwrap();
        let keyspace = store.keyspace("k", fjall::KeyspaceCreateOptions::default).unwrap();
        for size in [10, 5_000, 20_000] {
            let mut batch = store.batch().durability(Some(fjall::PersistMode::SyncAll));
            batch.insert(&keyspace, format!("a{size}"), vec![7_u8; size]);
            batch.remove(&keyspace, "b");
            batch.commit().unwrap();
        }
        drop((keyspace, store));
        journals(dir).unwrap().pop().unwrap().1
    }

    fn values(dir: &Path) -> fjall::Result<Vec<usize>> {
        let store = fjall::Database::builder(dir).worker_threads(1).open()?;
        let keyspace = store.keyspace("k", fjall::KeyspaceCreateOptions::default)?;
        let mut sizes: Vec<_> = keyspace.iter().map(|guard| guard.value().unwrap().len()).collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    #[test]
    fn what_is_whole_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        assert_eq!(cut_torn_tail(dir.path()).unwrap(), None);
        begin_anew(dir.path()).unwrap();
        begin_anew(dir.path()).unwrap();
        assert_eq!(journals(dir.path()).unwrap().len(), 2, "an empty one is used");
        assert_eq!(cut_torn_tail(dir.path()).unwrap(), None);
        assert_eq!(values(dir.path()).unwrap(), [10, 5_000, 20_000]);
    }

    #[test]
    fn a_last_batch_whose_middle_never_reached_the_disk_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let mut content = fs::read(&path).unwrap();
        content[12_288..16_384].fill(0);
        fs::write(&path, &content).unwrap();
        assert!(values(dir.path()).is_err(), "else all this is needless by now");
        assert!(cut_torn_tail(dir.path()).unwrap().is_some());
        begin_anew(dir.path()).unwrap();
        assert_eq!(values(dir.path()).unwrap(), [10, 5_000]);
    }

    #[test]
    fn damage_before_what_is_whole_is_never_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let mut content = fs::read(&path).unwrap();
        content[1_000] ^= 1;
        fs::write(&path, &content).unwrap();
        assert_eq!(cut_torn_tail(dir.path()).unwrap(), None);
        assert!(values(dir.path()).is_err());
    }
}
