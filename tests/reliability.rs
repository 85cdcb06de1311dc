//! `docs/reliability.md` names tests that are there, with the figures of their last run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
/// The tables whose last column is written here: by `UPDATE_RELIABILITY=1 cargo test --test reliability`, after a run of
/// the tests.
const HEAD: &str = "| fault or attack | promise | test | last figures |";

/// What a run found, of one test on whatever buffer.
#[derive(Debug, Default)]
struct Figures {
    /// How often everything was judged.
    judged: u64,
    /// Of each ledger what was acknowledged at most, and what of it was lost in the end.
    ledgers: BTreeMap<String, [u64; 2]>,
}

/// By test crate and name, as `tests/support/figures.rs` noted them.
fn noted() -> BTreeMap<(String, String), Figures> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_TARGET_TMPDIR")).join("figures.tsv")).unwrap_or_default();
    let mut found: BTreeMap<_, Figures> = BTreeMap::new();
    for line in text.lines() {
        let [file, test, ledger, acknowledged, lost] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let name = test.rsplit("::").next().unwrap();
        let figures = found.entry((file.to_owned(), name.to_owned())).or_default();
        figures.judged += 1;
        let [most, lost_of_it] = figures.ledgers.entry(ledger.to_owned()).or_default();
        *most = acknowledged.parse::<u64>().unwrap().max(*most);
        // What was missing for the moment may have been published since.
        *lost_of_it = lost.parse().unwrap();
    }
    found
}

/// The `file::test` of a cell.
fn tests_in(cell: &str) -> Vec<(String, String)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::")).map(|(file, test)| (file.to_owned(), test.to_owned())).collect()
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// The last cell of a line anew; `None` where the run has judged none of its tests.
fn figures_of(tests: &[(String, String)], noted: &BTreeMap<(String, String), Figures>) -> Option<String> {
    let of_these: Vec<&Figures> = tests.iter().filter_map(|test| noted.get(test)).collect();
    let judged: u64 = of_these.iter().map(|figures| figures.judged).sum();
    let sum = |at: usize| of_these.iter().flat_map(|figures| figures.ledgers.values()).map(|counts| counts[at]).sum();
    let (acknowledged, lost): (u64, u64) = (sum(0), sum(1));
    (judged > 0).then(|| {
        let [judged, acknowledged, lost] = [judged, acknowledged, lost].map(with_commas);
        format!("{judged} judged, {acknowledged} acknowledged, {lost} lost, 0 doubled")
    })
}

/// The lines of the document, each with the tests that it names if it is one of the tables'.
fn lines(text: &str) -> Vec<(&str, Vec<(String, String)>)> {
    let mut within = false;
    let tests_of = |line| {
        within = line == HEAD || within && str::starts_with(line, "|");
        let cells: Vec<&str> = if within { str::split(line, " | ").collect() } else { Vec::new() };
        (line, cells.get(2).map(|cell| tests_in(cell)).unwrap_or_default())
    };
    text.lines().map(tests_of).collect()
}

/// The sources of a test crate.
fn sources(file: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut paths: Vec<PathBuf> = vec![tests.join(file).with_extension("rs")];
    paths.extend(std::fs::read_dir(tests.join(file)).into_iter().flatten().map(|entry| entry.unwrap().path()));
    paths.into_iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let noted = noted();
    let mut anew = String::new();
    let mut named = 0;
    for (line, tests) in lines(&text) {
        for (file, test) in &tests {
            assert!(sources(file).contains(&format!("fn {test}(")), "there is no `{file}::{test}`");
            named += 1;
        }
        match (line.rsplitn(3, '|').nth(2), figures_of(&tests, &noted)) {
            (Some(before), Some(figures)) => anew += &format!("{before}| {figures} |\n"),
            _ => anew += &format!("{line}\n"),
        }
    }
    assert!(named > 50, "only {named} tests: is the head of the tables another?");
    if std::env::var_os("UPDATE_RELIABILITY").is_some() {
        std::fs::write(DOCUMENT, anew).unwrap();
    }
}
