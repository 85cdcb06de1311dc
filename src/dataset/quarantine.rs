//! Quarantine: damaged fragments, kept for people.
//!
//! Constraints: nothing here is ever deleted by Systole; and a fragment never stands in quarantine without the note that
//! says why, because the note is on the disk before the fragment is moved.
//!
//! Format: `quarantine/<fragment's name>` and, beside it, `<fragment's name>.json` with `reason`, `claim`, `rows` and
//! `since` (ms since the Unix epoch).

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{At, Result};
use super::temp::TempFile;
use super::{Bucket, Dataset, FragmentName, tree};
use crate::failpoint;
use crate::heartbeat::ClaimId;

/// A fragment laid aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name, which tells its claim and its rows.
    pub name: FragmentName,
    /// Why it was laid aside.
    pub reason: String,
    /// When: ms since the Unix epoch.
    pub since: i64,
}

#[derive(Serialize, Deserialize)]
struct Note {
    reason: String,
    claim: ClaimId,
    rows: u64,
    since: i64,
}

impl Dataset {
    /// Moves a damaged fragment into the bucket's quarantine, with its reason beside it.
    ///
    /// Tolerates that it is there already.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io).
    pub fn quarantine_fragment(&self, bucket: Bucket, name: &FragmentName, reason: &str) -> Result<()> {
        let (staging, folder) = (self.paths().staging_folder(bucket), self.paths().quarantine(bucket));
        self.ensure_folder(&folder)?;
        let note = Note {
            reason: reason.to_owned(),
            claim: name.claim,
            rows: name.rows,
            since: jiff::Timestamp::now().as_millisecond(),
        };
        let note_path = self.note_path(bucket, name);
        let bytes = serde_json::to_vec_pretty(&note).map_err(io::Error::other).at("encode", &note_path)?;
        let (temp, mut file) = TempFile::create(self, bucket)?;
        file.write_all(&bytes).at("write", temp.path())?;
        self.fs().sync_file(&file, temp.path()).at("sync", temp.path())?;
        temp.rename_to(&note_path)?;
        self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
        failpoint::reached("quarantine.noted").at("move", &folder)?;
        let (from, to) = (self.paths().fragment(bucket, name), folder.join(name.to_string()));
        match self.fs().rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => {}
            other => other.at("move into quarantine", &from)?,
        }
        failpoint::reached("quarantine.moved").at("move", &folder)?;
        self.fs().sync_dir(&folder).at("sync the folder", &folder)?;
        self.fs().sync_dir(&staging).at("sync the folder", &staging)
    }

    /// The fragments in the bucket's quarantine, sorted by name.
    ///
    /// # Errors
    /// [`Error::Io`](super::Error::Io).
    pub fn quarantined(&self, bucket: Bucket) -> Result<Vec<Quarantined>> {
        let names = tree::names::<FragmentName>(&self.paths().quarantine(bucket))?;
        Ok(names.into_iter().map(|name| self.read_note(bucket, name)).collect())
    }

    /// A note that a person has edited or removed takes nothing from the books: they need the name only.
    fn read_note(&self, bucket: Bucket, name: FragmentName) -> Quarantined {
        let note = fs::read(self.note_path(bucket, &name)).ok();
        let note: Option<Note> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (reason, since) = note.map_or(("its note is gone".into(), 0), |note| (note.reason, note.since));
        Quarantined { name, reason, since }
    }

    fn note_path(&self, bucket: Bucket, name: &FragmentName) -> PathBuf {
        self.paths().quarantine(bucket).join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ContentHash;
    use super::super::test_support::{BUCKET, Scratch};
    use super::*;

    #[test]
    fn a_damaged_fragment_is_kept_with_its_reason_and_noted_first() {
        let scratch = Scratch::recorded();
        let dataset = &scratch.dataset;
        let name = FragmentName { claim: ClaimId::from_u128(1), hash: ContentHash(2), rows: 3 };
        dataset.ensure_folder(&dataset.paths().quarantine(BUCKET)).unwrap();
        fs::write(dataset.paths().fragment(BUCKET, &name), "damaged").unwrap();
        scratch.steps();
        dataset.quarantine_fragment(BUCKET, &name, "torn").unwrap();
        let (staging, part) = (format!("staging/{BUCKET}"), ".part_<id>-0000000000000002-3.parquet");
        assert_eq!(
            scratch.steps(),
            [
                format!("create_new {staging}/.tmp-<id>"),
                format!("sync_file {staging}/.tmp-<id>"),
                format!("rename {staging}/.tmp-<id> {staging}/quarantine/{part}.json"),
                format!("sync_dir {staging}/quarantine"),
                format!("rename {staging}/{part} {staging}/quarantine/{part}"),
                format!("sync_dir {staging}/quarantine"),
                format!("sync_dir {staging}"),
            ]
        );
        assert_eq!(dataset.list_fragments(BUCKET).unwrap(), []);
        let kept = dataset.quarantined(BUCKET).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].name, kept[0].reason.as_str()), (name, "torn"));
        assert!(kept[0].since > 0);
        assert_eq!(fs::read(dataset.paths().quarantine(BUCKET).join(name.to_string())).unwrap(), b"damaged");
        dataset.quarantine_fragment(BUCKET, &name, "torn, told again").unwrap();
        assert_eq!(dataset.quarantined(BUCKET).unwrap()[0].reason, "torn, told again");
    }
}
