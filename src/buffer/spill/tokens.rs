//! The tokens as they were last seen, beside the spill: while Redis is away a `serve` that is started knows whom to let in.
//!
//! Constraint: what cannot be written whole is taken away, since an old copy could let somebody in who was revoked, and one
//! without tokens anybody. It holds hashes, no secrets, and only its owner may read it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::token::{MAX_TOKENS, MAX_TOTAL_BYTES, TokenList};

const NAME: &str = "tokens.json";
/// A list as JSON in JSON is at most twice as long, and some 100 bytes more for each token.
const MAX_BYTES: u64 = (2 * MAX_TOTAL_BYTES + 100 * MAX_TOKENS) as u64;

/// See the module. A cheap handle.
#[derive(Debug, Clone)]
pub struct TokenCopy {
    path: PathBuf,
}

impl TokenCopy {
    /// The copy in the folder of a spill.
    pub fn beside(spill_dir: &Path) -> Self {
        Self { path: spill_dir.join(NAME) }
    }

    /// What was last written, if it is there and whole.
    pub async fn read(&self) -> Option<TokenList> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or(Ok(None));
        read.unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "the copy of the tokens cannot be read");
            None
        })
    }

    /// Keeps this list in the place of any other, or none where that fails.
    pub async fn write(&self, list: TokenList) {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            write(&path, &list).inspect_err(|_| {
                let _ = fs::remove_file(&path);
            })
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(path = %self.path.display(), %error, "the copy of the tokens cannot be written");
        }
    }
}

fn read(path: &Path) -> io::Result<Option<TokenList>> {
    use io::Read;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map(Some).map_err(io::Error::from)
}

fn write(path: &Path, list: &TokenList) -> io::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(&serde_json::to_vec(list)?)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::token::{StoredToken, TokenId, TokenVersion};

    #[tokio::test]
    async fn what_was_written_whole_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let copy = TokenCopy::beside(folder.path());
        assert_eq!(copy.read().await, None);
        let token = StoredToken { id: TokenId::from_bytes([1; 6]), text: "{\"a\":\"b\"}".into() };
        let list = TokenList { version: Some(TokenVersion::new()), tokens: vec![token] };
        copy.write(TokenList::default()).await;
        copy.write(list.clone()).await;
        assert_eq!(copy.read().await, Some(list.clone()));
        let path = folder.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert_eq!(copy.read().await, None, "a torn one is none");
        fs::write(&path, &text).unwrap();
        fs::create_dir(folder.path().join("tokens.new")).unwrap();
        copy.write(TokenList::default()).await;
        assert_eq!(copy.read().await, None, "an old one must not outlive a failed write");
    }
}
