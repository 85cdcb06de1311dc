//! No client's text is ever part of a path: whatever names come in, nothing but the documented shapes stands in the data
//! folder, and nothing beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::siege::{Siege, world};
use crate::support::{Beat, World, oracle};
use crate::wire::post;

/// Names that mean something to a file system, a reader of Hive paths, or a shell.
fn names() -> Vec<String> {
    let fixed = [
        "..",
        ".",
        "../../../../tmp/systole-escaped",
        "/tmp/systole-escaped",
        "/etc/passwd",
        "a/../../b",
        "..\\..\\escaped",
        "C:\\escaped",
        "\\\\server\\share",
        "%2e%2e%2fescaped",
        "..%00/escaped",
        "date=1999-01-01",
        "date=1999-01-01/partition=0",
        "partition=999",
        "__HIVE_DEFAULT_PARTITION__",
        "heartbeats-escaped.parquet",
        ".part_escaped.parquet",
        ".lock",
        ".compact.lock",
        "dataset.json",
        "~root",
        "$(touch escaped)",
        "`touch escaped`",
        "escaped; rm -rf .",
        "*",
        "?",
        "CON",
        "nul.txt",
        "\u{202e}gnp.escaped",
        "\u{ff0e}\u{ff0e}\u{ff0f}escaped",
    ];
    fixed.into_iter().map(str::to_owned).chain(["../".repeat(42), "a/".repeat(64), ".".repeat(128)]).collect()
}

/// Whether a path below the data folder is of one of the documented shapes.
fn is_documented(path: &Path) -> bool {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap_or("no text")).collect();
    match parts.as_slice() {
        // What is inside belongs to the store, which is given numbers alone.
        ["buffer", rest @ ..] => {
            rest.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)))
        }
        ["dataset.json" | ".systole.sock"] | ["staging", ".dataset.lock"] => true,
        ["heartbeats", date, partition, file] => is_bucket(date, partition) && is_published(file),
        ["staging", date, partition, file] => is_bucket(date, partition) && is_staged(file),
        _ => false,
    }
}

fn is_bucket(date: &str, partition: &str) -> bool {
    let number = partition.strip_prefix("partition=").and_then(|number| number.parse::<u8>().ok());
    let date = date.strip_prefix("date=").unwrap_or_default();
    let shape = date.len() == 10
        && date.bytes().enumerate().all(
            |(at, byte)| {
                if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() }
            },
        );
    shape && !date.starts_with("19") && number.is_some_and(|number| number < 4)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn is_published(file: &str) -> bool {
    file.strip_prefix("heartbeats-").and_then(|rest| rest.strip_suffix(".parquet")).is_some_and(is_hex)
}

fn is_staged(file: &str) -> bool {
    let of = |prefix: &str, suffix: &str| {
        file.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).is_some_and(is_hex)
    };
    matches!(file, ".lock" | ".compact.lock") || of(".part_", ".parquet") || of(".index_", "") || of(".tmp-", "")
}

fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut paths = oracle::every_file(folder);
    paths.iter_mut().for_each(|path| *path = path.strip_prefix(folder).unwrap().to_path_buf());
    paths
}

#[test]
fn no_name_that_a_client_chooses_leaves_a_trace_in_a_path() {
    let world = world();
    let siege = Siege::begin(&world, &[]);
    let mut beats = Vec::new();
    for name in names() {
        let short: String = name.chars().take(16).collect();
        beats.push(Beat::of(&name, "d"));
        beats.push(Beat::of("u", &name).id(&short));
        beats.push(Beat::of(&name, &name).attributes(serde_json::json!({ "path": name, "date": name })));
    }
    siege.client().must_keep(&beats);
    // Those that are refused leave no trace either.
    for bad in ["a\0b", "../\0", "line\nbreak", "/etc/\u{7}"] {
        let body = Beat::of(bad, bad).json().to_string();
        let answer = siege.ask(post("", body)).unwrap();
        assert_eq!(answer.json["rejected"][0]["code"], "control_character", "{bad:?}");
    }
    // While it is staged and published, and once it is.
    for _ in 0..20 {
        look(&world);
        std::thread::sleep(Duration::from_millis(50));
    }
    siege.end(&format!("{} heartbeats with names like paths", beats.len()));
    look(&world);
    let published = world.judge();
    assert!(published.rows().any(|row| row.identity.user_id == "/etc/passwd"), "the names are in the rows");
}

/// Nothing but the documented shapes is in the data folder, and nothing beside it.
fn look(world: &World) {
    let home = world.dataset().parent().unwrap();
    let data = Path::new(world.dataset().file_name().unwrap());
    for path in everything(home) {
        let below = path.strip_prefix(data).unwrap_or_else(|_| panic!("beside the data folder: {}", path.display()));
        assert!(is_documented(below), "of no documented shape: {}", below.display());
    }
    assert!(!Path::new("/tmp/systole-escaped").exists());
}
