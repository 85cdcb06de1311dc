//! Imports go down only: each module may use what stands below it, and no module closes a cycle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::path::Path;

/// Each module with what it may import of ours.
const LAYERS: [(&str, &[&str]); 20] = [
    ("backoff", &[]),
    ("failpoint", &[]),
    ("settings", &[]),
    ("percent", &[]),
    ("telemetry", &[]),
    ("heartbeat", &[]),
    ("token", &["heartbeat"]),
    ("buffer", &["heartbeat", "token", "telemetry", "failpoint", "settings", "backoff"]),
    ("dataset", &["heartbeat", "telemetry", "failpoint", "settings"]),
    ("batcher", &["buffer", "dataset", "heartbeat", "telemetry", "failpoint", "settings", "backoff"]),
    ("compactor", &["dataset", "heartbeat", "telemetry", "failpoint", "settings"]),
    ("books", &["buffer", "dataset", "heartbeat"]),
    ("query", &["buffer", "dataset", "heartbeat", "telemetry", "settings", "failpoint"]),
    ("silence", &["buffer", "heartbeat", "telemetry", "failpoint", "settings", "backoff", "percent"]),
    ("overview", &["books", "buffer", "dataset", "heartbeat", "telemetry"]),
    ("http", &["overview", "query", "buffer", "heartbeat", "token", "telemetry", "failpoint", "settings", "percent"]),
    ("config", &["buffer", "batcher", "compactor", "dataset", "http", "query", "silence", "telemetry"]),
    (
        "cli",
        &[
            "config",
            "heartbeat",
            "buffer",
            "batcher",
            "compactor",
            "dataset",
            "http",
            "query",
            "silence",
            "telemetry",
            "token",
        ],
    ),
    (
        "app",
        &[
            "cli",
            "config",
            "books",
            "buffer",
            "batcher",
            "compactor",
            "dataset",
            "http",
            "query",
            "overview",
            "silence",
            "heartbeat",
            "telemetry",
            "token",
            "failpoint",
            "backoff",
        ],
    ),
    // For tests and fuzz targets alone.
    ("fuzzing", &["cli", "config", "buffer", "dataset", "http", "heartbeat"]),
];

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The top-level modules that a source file names after `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for rest in code.split("crate::").skip(1) {
        // `crate::{a::b, c}` names several.
        let names = rest.strip_prefix('{').map_or(vec![rest], |group| {
            let mut depth = 0;
            let end = group.find(|c| match c {
                '{' => {
                    depth += 1;
                    false
                }
                '}' => {
                    depth -= 1;
                    depth < 0
                }
                _ => false,
            });
            group[..end.unwrap_or(group.len())].split(',').map(str::trim).collect()
        });
        for name in names {
            found.insert(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: BTreeSet<&str> = LAYERS.iter().map(|(module, _)| *module).collect();
    for path in sources(&src) {
        let place = path.strip_prefix(&src).unwrap().to_string_lossy().replace(".rs", "");
        let module = place.split('/').next().unwrap();
        if matches!(module, "main" | "lib") {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| {
            panic!("src/{module} is in no layer: give it a place in this test and in ARCHITECTURE.md")
        });
        for import in imports(&std::fs::read_to_string(&path).unwrap()) {
            if known.contains(import.as_str()) && import != module {
                assert!(allowed.contains(&import.as_str()), "src/{place}.rs imports {import}, which stands above it");
            }
        }
    }
}

#[test]
fn the_layers_have_no_cycle() {
    for (at, (module, allowed)) in LAYERS.iter().enumerate() {
        for below in *allowed {
            assert!(
                LAYERS[..at].iter().any(|(name, _)| name == below),
                "{module} may import {below}, which is not below it"
            );
        }
    }
}
