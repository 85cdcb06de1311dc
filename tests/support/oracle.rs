//! The oracle: reads what is published with the `parquet` crate's row API, and judges it against the ledger.
//!
//! Independent of Systole and of polars. The order, the partition of a user and the date of a time are worked out anew
//! here from the words of the design.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::beats::Identity;
use super::figures;
use super::ledger::Ledger;

/// The columns, in this order.
const COLUMNS: [&str; 6] = ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"];
/// Faults shown of one kind before the rest is only counted.
const SHOWN: usize = 8;

/// One published row.
#[derive(Debug, Clone)]
pub struct Row {
    pub identity: Identity,
    pub received_at: i64,
    pub attributes: Option<String>,
}

/// One published file.
#[derive(Debug, Clone)]
pub struct PublishedFile {
    /// Below `heartbeats/`.
    pub path: PathBuf,
    pub rows: Vec<Row>,
}

/// All that a reader of `heartbeats/**/*.parquet` sees.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub files: Vec<PublishedFile>,
    pub partitions: u64,
}

impl Snapshot {
    /// Reads a dataset. Fails when a file cannot be read: it may have been replaced meanwhile, or be damaged.
    pub fn read(dataset: &Path) -> Result<Self, String> {
        let tree = dataset.join("heartbeats");
        let read = |path: PathBuf| -> Result<PublishedFile, String> {
            let rows = rows(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(PublishedFile { path: path.strip_prefix(&tree).unwrap().into(), rows })
        };
        let files = published_files(dataset).into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { files, partitions: partitions(dataset)? })
    }

    /// All rows of all files.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.files.iter().flat_map(|file| &file.rows)
    }

    /// How often each identity stands there.
    pub fn counts(&self) -> BTreeMap<&Identity, usize> {
        let mut counts = BTreeMap::new();
        self.rows().for_each(|row| *counts.entry(&row.identity).or_default() += 1);
        counts
    }

    /// What is wrong with the files in themselves: doubled identities, disorder, rows in a wrong folder.
    pub fn faults(&self) -> Vec<String> {
        let doubled = self.counts().into_iter().filter(|(_, count)| *count > 1);
        let mut faults: Vec<String> = doubled.map(|(id, count)| format!("doubled: {count} times {id:?}")).collect();
        for file in &self.files {
            let disorder = file.rows.windows(2).filter(|pair| sort_key(&pair[0]) >= sort_key(&pair[1]));
            faults.extend(disorder.map(|pair| format!("disorder in {}: {pair:?}", file.path.display())));
            let strays = file.rows.iter().filter(|row| folder(row, self.partitions) != file.path.parent().unwrap());
            faults.extend(strays.map(|row| format!("wrong folder {}: {row:?}", file.path.display())));
        }
        faults
    }

    /// What does not agree with the ledger: lost, invented, changed.
    pub fn disagreements(&self, ledger: &Ledger) -> Vec<String> {
        let entries = ledger.entries();
        let counts = self.counts();
        let lost = entries.kept.keys().filter(|identity| !counts.contains_key(identity));
        let mut faults: Vec<String> = lost.map(|identity| format!("lost: {identity:?}")).collect();
        for row in self.rows() {
            match entries.kept.get(&row.identity) {
                None if entries.maybe.contains(&row.identity) => {}
                None => faults.push(format!("invented: {row:?}")),
                Some(sent) if sent.contains(&row.attributes.as_deref().map(json)) => {}
                // Another bulk with this identity may have been pushed without its answer coming home.
                Some(_) if entries.maybe.contains(&row.identity) => {}
                Some(sent) => faults.push(format!("changed: {row:?}, sent with {sent:?}")),
            }
        }
        faults
    }

    /// How many heartbeats were ever answered 202 and stand nowhere, be that excused or not.
    pub fn lost(&self, ledger: &Ledger) -> u64 {
        let counts = self.counts();
        ledger.ever_answered().iter().filter(|identity| !counts.contains_key(identity)).count() as u64
    }

    /// Fails unless the files are sound, and agree with the ledger.
    pub fn judge(&self, ledger: &Ledger) {
        fail_on("the published files", self.faults());
        fail_on("the published files against the ledger", self.disagreements(ledger));
        let lost = if ledger.excused() > 0 { self.lost(ledger) } else { 0 };
        figures::note(ledger, lost);
    }
}

/// Fails with the first of the faults, if there are any.
pub fn fail_on(what: &str, faults: Vec<String>) {
    if faults.is_empty() {
        return;
    }
    let mut text = format!("{what}: {} faults", faults.len());
    for fault in faults.iter().take(SHOWN) {
        let _ = write!(text, "\n  {fault}");
    }
    panic!("{text}");
}

/// The paths that the glob `heartbeats/**/*.parquet` meets, dot-files and all.
pub fn published_files(dataset: &Path) -> Vec<PathBuf> {
    let mut files = every_file(&dataset.join("heartbeats"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    files
}

/// Rows by the footers alone: cheap. A file that goes away meanwhile is left out.
pub fn count_rows(dataset: &Path) -> usize {
    let count = |path: PathBuf| -> Option<usize> {
        let reader = SerializedFileReader::new(File::open(path).ok()?).ok()?;
        Some(reader.metadata().file_metadata().num_rows() as usize)
    };
    published_files(dataset).into_iter().filter_map(count).sum()
}

/// Everything below a folder, sorted; nothing when there is none.
pub fn every_file(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(every_file(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The number of partitions, from `dataset.json`.
pub fn partitions(dataset: &Path) -> Result<u64, String> {
    let path = dataset.join("dataset.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    json(&text)["partitions"].as_u64().ok_or_else(|| format!("{}: no partitions", path.display()))
}

fn rows(path: &Path) -> Result<Vec<Row>, String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let file = File::open(path).map_err(|error| say(&error))?;
    let reader = SerializedFileReader::new(file).map_err(|error| say(&error))?;
    let rows = reader.get_row_iter(None).map_err(|error| say(&error))?;
    rows.map(|row| row_of(row.map_err(|error| say(&error))?.into_columns())).collect()
}

fn row_of(columns: Vec<(String, Field)>) -> Result<Row, String> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    if names != COLUMNS {
        return Err(format!("columns {names:?}"));
    }
    let fields: Vec<Field> = columns.into_iter().map(|(_, field)| field).collect();
    let fields: [Field; 6] = fields.try_into().map_err(|_| "columns".to_owned())?;
    match fields {
        [
            Field::Str(user_id),
            Field::Str(device_id),
            Field::TimestampMillis(timestamp),
            Field::TimestampMillis(received_at),
            id,
            attributes,
        ] => {
            let identity = Identity { user_id, device_id, timestamp, id: optional(id)? };
            Ok(Row { identity, received_at, attributes: optional(attributes)? })
        }
        other => Err(format!("types {other:?}")),
    }
}

fn optional(field: Field) -> Result<Option<String>, String> {
    match field {
        Field::Null => Ok(None),
        Field::Str(text) => Ok(Some(text)),
        other => Err(format!("type {other:?}")),
    }
}

/// The partition of a user.
pub fn partition_of(user: &str, partitions: u64) -> u64 {
    xxh3_64(user.as_bytes()) % partitions
}

type SortKey<'a> = (&'a [u8], i64, &'a [u8], Option<&'a [u8]>, i64, Option<&'a [u8]>);

fn sort_key(row: &Row) -> SortKey<'_> {
    let Identity { user_id, device_id, timestamp, id } = &row.identity;
    let id = id.as_deref().map(str::as_bytes);
    let attributes = row.attributes.as_deref().map(str::as_bytes);
    (user_id.as_bytes(), *timestamp, device_id.as_bytes(), id, row.received_at, attributes)
}

fn folder(row: &Row, partitions: u64) -> PathBuf {
    let date = jiff::Timestamp::from_millisecond(row.identity.timestamp).unwrap().strftime("%Y-%m-%d").to_string();
    let partition = partition_of(&row.identity.user_id, partitions);
    Path::new(&format!("date={date}")).join(format!("partition={partition}"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
