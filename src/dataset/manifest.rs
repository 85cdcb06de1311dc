//! `dataset.json`: which dataset this is.
//!
//! Format: one JSON object: `id`, `format_version`, `partitions`, `buffer` (`null` until a buffer was registered, then
//! `{"kind": "redis"}`), `accepted_surplus` (rows by
//! partition). Fields that this version does not know are kept when it is rewritten. `checksum` is the xxh3_64, in
//! hexadecimal, of all other fields in the order of their names, each as `"name":value` of compact JSON, commas between:
//! another number of partitions, by one flipped bit, would lead every user to other files. It may be missing: it was not
//! written from the beginning, and whoever mends the file by hand takes it out.
//!
//! Birth is a hard link of a synced temp file: of two at once one wins whole, and the loser reads the winner's. Rewriting
//! is a rename of a synced temp file over it, under the lock `staging/.dataset.lock`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use fs2::FileExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{At, Error, Result, tolerate_gone};
use super::fs::FileSystem;
use super::lock;
use super::paths::Layout;
use super::{Dataset, FORMAT_VERSION};
use crate::heartbeat::{DatasetId, Partition};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) id: DatasetId,
    pub(super) format_version: u64,
    pub(super) partitions: Partition,
    #[serde(default)]
    buffer: Option<Owner>,
    #[serde(default)]
    accepted_surplus: BTreeMap<Partition, u64>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The name of the field.
const CHECKSUM: &str = "checksum";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Owner {
    kind: String,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// Reads `dataset.json`; `None` where there is none.
pub(super) fn read(layout: &Layout) -> Result<Option<Manifest>> {
    let path = layout.manifest();
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => parse(&path, &other.at("read", &path)?).map(Some),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let damaged = |error: serde_json::Error| Error::damaged(path, error.to_string());
    // The version alone first: the rest may mean something else in a newer one.
    let Version { format_version: found } = serde_json::from_slice(bytes).map_err(damaged)?;
    if found > FORMAT_VERSION {
        return Err(Error::NewerFormat { path: path.to_owned(), found, known: FORMAT_VERSION });
    }
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(bytes).map_err(damaged)?;
    if fields.remove(CHECKSUM).is_some_and(|found| found != checksum(&fields)) {
        let reason = "it does not match its checksum: put it back from a backup, or mend it and take out the checksum";
        return Err(Error::damaged(path, reason));
    }
    let manifest = fields.into_iter().collect::<Value>();
    let manifest: Manifest = serde_json::from_value(manifest).map_err(damaged)?;
    if manifest.partitions == 0 {
        return Err(Error::damaged(path, "`partitions` is 0"));
    }
    Ok(manifest)
}

/// Of all fields but itself.
fn checksum(fields: &BTreeMap<String, Value>) -> Value {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    Value::from(format!("{:016x}", xxh3_64(fields.join(",").as_bytes())))
}

/// Makes a new dataset, or reads the one that another process has just made.
pub(super) fn bear(layout: &Layout, fs: &dyn FileSystem, partitions: Partition) -> Result<Manifest> {
    let manifest = Manifest {
        id: DatasetId::new(),
        format_version: FORMAT_VERSION,
        partitions,
        buffer: None,
        accepted_surplus: BTreeMap::new(),
        unknown: Map::new(),
    };
    let (temp, path) = (layout.manifest_temp(), layout.manifest());
    let linked = write_synced(fs, &temp, &manifest).and_then(|()| match fs.hard_link(&temp, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at("create", &path),
    });
    tolerate_gone(fs.remove_file(&temp)).at("remove", &temp)?;
    linked?;
    fs.sync_dir(layout.root()).at("sync the folder", layout.root())?;
    read(layout)?.ok_or(Error::NotFound { path })
}

fn encode(manifest: &Manifest) -> serde_json::Result<Vec<u8>> {
    let mut fields: BTreeMap<String, Value> = serde_json::from_value(serde_json::to_value(manifest)?)?;
    let checksum = checksum(&fields);
    fields.insert(CHECKSUM.to_owned(), checksum);
    let mut bytes = serde_json::to_vec_pretty(&fields)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write_synced(fs: &dyn FileSystem, path: &Path, manifest: &Manifest) -> Result<()> {
    let bytes = encode(manifest).map_err(io::Error::other).at("encode", path)?;
    let mut file = fs.create_new(path).at("create", path)?;
    file.write_all(&bytes).at("write", path)?;
    fs.sync_file(&file, path).at("sync", path)
}

impl Dataset {
    /// The kind of buffer that the dataset belongs to, such as `redis`; `None` before the first was registered. Read anew
    /// each time.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`], [`Error::NewerFormat`], [`Error::NotFound`].
    pub fn owning_buffer(&self) -> Result<Option<String>> {
        Ok(self.manifest()?.buffer.map(|owner| owner.kind))
    }

    /// Records the kind of buffer that the dataset belongs to from now on.
    ///
    /// # Errors
    /// [`Error::LockTimeout`], and those of [`owning_buffer`](Self::owning_buffer).
    pub fn record_owning_buffer(&self, kind: &str) -> Result<()> {
        self.rewrite_manifest(|manifest| manifest.buffer = Some(Owner { kind: kind.to_owned(), unknown: Map::new() }))
    }

    /// Rows of each partition that the files may hold beyond what the buffer remembers, because a person accepted it.
    ///
    /// # Errors
    /// Those of [`owning_buffer`](Self::owning_buffer).
    pub fn accepted_surplus(&self) -> Result<BTreeMap<Partition, u64>> {
        Ok(self.manifest()?.accepted_surplus)
    }

    /// Records the surplus that a person accepts, replacing what was recorded before.
    ///
    /// # Errors
    /// Those of [`record_owning_buffer`](Self::record_owning_buffer).
    pub fn record_accepted_surplus(&self, rows: &BTreeMap<Partition, u64>) -> Result<()> {
        self.rewrite_manifest(|manifest| manifest.accepted_surplus.clone_from(rows))
    }

    fn manifest(&self) -> Result<Manifest> {
        let path = self.paths().manifest();
        let manifest = read(self.paths())?.ok_or_else(|| Error::NotFound { path: path.clone() })?;
        if manifest.id != self.id() {
            return Err(Error::Conflict {
                advice: format!("{} now names dataset {}, not {}: restart", path.display(), manifest.id, self.id()),
            });
        }
        Ok(manifest)
    }

    fn rewrite_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let path = self.paths().dataset_lock();
        let _lock = lock::acquire(self.fs(), &path, self.inner.lock_deadline, FileExt::try_lock_exclusive)?;
        let mut manifest = self.manifest()?;
        change(&mut manifest);
        let (temp, path) = (self.paths().manifest_temp(), self.paths().manifest());
        let renamed = write_synced(self.fs(), &temp, &manifest)
            .and_then(|()| self.fs().rename(&temp, &path).at("replace", &path));
        if renamed.is_err() {
            // What counts is why it failed; a temp file left behind is cleaned at a later start.
            let _ = self.fs().remove_file(&temp);
        }
        renamed?;
        self.fs().sync_dir(self.root()).at("sync the folder", self.root())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::test_support::Scratch;
    use super::super::{Options, RealFs};
    use super::*;

    #[test]
    fn of_two_births_at_once_both_read_the_same_dataset() {
        let dir = tempfile::tempdir().unwrap();
        let options = |partitions| Options {
            data: dir.path().join("deep/data"),
            partitions: Some(partitions),
            ..Options::default()
        };
        let births: Vec<_> = std::thread::scope(|scope| {
            let births: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Dataset::open_or_create(&options(3), Arc::new(RealFs)).unwrap()))
                .collect();
            births.into_iter().map(|birth| birth.join().unwrap().id()).collect()
        });
        assert!(births.iter().all(|id| *id == births[0]), "{births:?}");
        let left: Vec<_> =
            fs::read_dir(dir.path().join("deep/data")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "dataset.json and two trees, no temp file: {left:?}");
        let conflict = Dataset::open(&options(4), Arc::new(RealFs)).unwrap_err();
        assert!(conflict.to_string().contains("was born with 3"), "{conflict}");
    }

    #[test]
    fn a_missing_dataset_is_not_made_by_those_who_only_look() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { data: dir.path().join("data"), ..Options::default() };
        assert!(matches!(Dataset::open(&options, Arc::new(RealFs)), Err(Error::NoDataset { .. })));
        assert!(!options.data.exists());
    }

    #[test]
    fn what_is_recorded_is_read_back_and_unknown_fields_stay() {
        let scratch = Scratch::new();
        let path = scratch.dataset.root().join("dataset.json");
        let mut fields: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fields.insert("later".to_owned(), serde_json::json!([1]));
        fs::write(&path, serde_json::to_vec(&fields).unwrap()).unwrap();
        let changed = scratch.dataset.owning_buffer().unwrap_err();
        assert!(changed.to_string().contains("checksum"), "{changed}");
        // Mended by hand, or written before there was one.
        fields.remove(CHECKSUM);
        fs::write(&path, serde_json::to_vec(&fields).unwrap()).unwrap();
        assert_eq!(scratch.dataset.owning_buffer().unwrap(), None);
        scratch.dataset.record_owning_buffer("redis").unwrap();
        let surplus = BTreeMap::from([(3, 7)]);
        scratch.dataset.record_accepted_surplus(&surplus).unwrap();
        assert_eq!(scratch.dataset.owning_buffer().unwrap().as_deref(), Some("redis"));
        assert_eq!(scratch.dataset.accepted_surplus().unwrap(), surplus);
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(value["later"], serde_json::json!([1]));
        assert_eq!(value["buffer"], serde_json::json!({"kind": "redis"}));
    }

    #[test]
    fn a_newer_or_damaged_manifest_is_told_apart() {
        let scratch = Scratch::new();
        let path = scratch.dataset.root().join("dataset.json");
        for (text, newer) in [(r#"{"format_version": 2}"#, true), ("", false), (r#"{"format_version": 1}"#, false)] {
            fs::write(&path, text).unwrap();
            let error = scratch.dataset.owning_buffer().unwrap_err();
            assert_eq!(matches!(error, Error::NewerFormat { .. }), newer, "{error}");
            assert_eq!(matches!(error, Error::Damaged { .. }), !newer, "{error}");
            assert!(!error.is_fault_of_data());
        }
    }

    #[test]
    fn a_flipped_bit_changes_nothing_or_is_noticed() {
        let scratch = Scratch::new();
        scratch.dataset.record_owning_buffer("redis").unwrap();
        scratch.dataset.record_accepted_surplus(&BTreeMap::from([(3, 7)])).unwrap();
        let path = scratch.dataset.root().join("dataset.json");
        let (whole, manifest) = (fs::read(&path).unwrap(), scratch.dataset.manifest().unwrap());
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match parse(&path, &bytes) {
                // Another space, or another name for the checksum: then that is one more field that is not known.
                Ok(read) => assert_eq!(Manifest { unknown: Map::new(), ..read }, manifest, "bit {bit}"),
                Err(error) => assert!(matches!(error, Error::Damaged { .. } | Error::NewerFormat { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn a_rewrite_is_synced_before_and_after_its_rename() {
        let scratch = Scratch::recorded();
        scratch.steps();
        scratch.dataset.record_owning_buffer("redis").unwrap();
        assert_eq!(
            scratch.steps(),
            [
                "open_lock staging/.dataset.lock",
                "create_new .dataset.json.<id>",
                "sync_file .dataset.json.<id>",
                "rename .dataset.json.<id> dataset.json",
                "sync_dir .",
            ]
        );
    }
}
