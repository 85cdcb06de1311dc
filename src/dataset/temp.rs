//! Files being written.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{At, Result};
use super::{Bucket, Dataset};

/// A temp file in the staging folder of a bucket. Removed when dropped; if the process dies, the compactor cleans it.
#[derive(Debug)]
pub(super) struct TempFile {
    dataset: Dataset,
    path: PathBuf,
    renamed: bool,
}

impl TempFile {
    /// Creates an empty one. The bucket's staging folder is made where it is missing.
    pub(super) fn create(dataset: &Dataset, bucket: Bucket) -> Result<(Self, File)> {
        dataset.ensure_folder(&dataset.paths().staging_folder(bucket))?;
        let path = dataset.paths().temp(bucket);
        let file = dataset.fs().create_new(&path).at("create", &path)?;
        Ok((Self { dataset: dataset.clone(), path, renamed: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name for good, replacing what stands there.
    pub(super) fn rename_to(mut self, to: &Path) -> Result<()> {
        self.dataset.fs().rename(&self.path, to).at("rename into place", to)?;
        self.renamed = true;
        Ok(())
    }

    /// The same, refusing where something stands.
    pub(super) fn rename_to_new(mut self, to: &Path) -> Result<()> {
        self.dataset.fs().rename_noreplace(&self.path, to).at("rename into place", to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.renamed {
            // Whoever drops it has a reason to report already; what is left behind is cleaned later.
            let _ = self.dataset.fs().remove_file(&self.path);
        }
    }
}
