//! What is run by Python: other people's readers, DuckDB and PyArrow, and readers of YAML.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// `readers.py`, looping over a dataset until it is told to stop.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    engine: &'static str,
}

impl Reader {
    /// Starts reading `dataset` with `engine`: `duckdb` or `pyarrow`.
    pub fn start(engine: &'static str, dataset: &Path) -> Self {
        let mut command = script("readers.py");
        command.arg(engine).arg(dataset);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self { child: child.expect("python3 is installed (scripts/test.sh sees to it)"), engine }
    }

    /// Tells it to stop after one more read, and answers what it saw.
    pub fn finish(mut self) -> Value {
        let mut stdin = self.child.stdin.take().unwrap();
        let _ = stdin.write_all(b"stop\n");
        drop(stdin);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut text).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the reader in {} failed; scripts/test.sh installs it", self.engine);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What DuckDB counts in a dataset: rows and files by date, oldest first.
pub fn duckdb_days(dataset: &Path) -> Vec<(String, u64, u64)> {
    let output =
        script("count_days.py").arg(dataset).output().expect("python3 is installed (scripts/test.sh sees to it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What another program reads in `file`: `csv`, `json` and `ndjson` by Python, Parquet by `duckdb` or `pyarrow`. Each row as
/// user, device, timestamp, time of arrival (both in ms), id and attributes.
pub fn read_back(format: &str, file: &Path) -> Vec<Value> {
    let mut command = script("read_back.py");
    let output = command.arg(format).arg(file).output().expect("python3 is installed (scripts/test.sh sees to it)");
    assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A script beside this file, run by Python with the packages that the tests need.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    if std::env::var_os("PYTHONPATH").is_none() {
        // Where scripts/test.sh puts what it has to install itself.
        command.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-python"));
    }
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name));
    command
}

fn python() -> PathBuf {
    std::env::var_os("SYSTOLE_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}
