//! The files under `deploy/`, read by others than Systole.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::support::python::script;

/// A path in the repository.
pub fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// The text of a file in the repository.
pub fn text(of: &str) -> String {
    std::fs::read_to_string(path(of)).unwrap_or_else(|error| panic!("{of}: {error}"))
}

/// `manifests.py`, run on these files.
fn by_python(what: &str, files: &[PathBuf]) -> Result<Value, String> {
    let output = script("manifests.py").arg(what).args(files).output();
    let output = output.expect("python3 is installed (scripts/test.sh sees to it)");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// Every document of these YAML files, in their order.
pub fn yaml(files: &[PathBuf]) -> Vec<Value> {
    let read = by_python("read", files);
    let read = read.unwrap_or_else(|error| panic!("{files:?} (scripts/test.sh installs PyYAML): {error}"));
    files.iter().flat_map(|file| read[file.to_str().unwrap()].as_array().unwrap().clone()).collect()
}

/// What is wrong with manifests by the schemas of Kubernetes; and the kinds that these do not know. `None` where there are
/// no schemas.
pub fn judge(files: &[PathBuf]) -> Option<(Vec<String>, Vec<String>)> {
    let strings = |value: &Value| value.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
    match by_python("judge", files) {
        Ok(found) => Some((strings(&found["faults"]), strings(&found["unknown"]))),
        Err(error) if error.contains("No module named 'kubernetes_validate'") => None,
        Err(error) => panic!("{error}"),
    }
}

/// `promtool` with these words: whether all is well, and what it said. `None` where there is none.
pub fn promtool(words: &[&str]) -> Option<(bool, String)> {
    // Where scripts/test.sh puts it.
    let unpacked = path("target/test-tools/usr/bin/promtool");
    let command = if unpacked.exists() { unpacked } else { "promtool".into() };
    let output = Command::new(command).args(words).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
