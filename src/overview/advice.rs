//! Where to look and what to do when a part is not well: one sentence for each part that reports to the health board.

/// By the names of the parts.
const ADVICE: [(&str, &str); 19] = [
    (
        "batcher",
        "Look at the log of the batcher: it cannot announce itself to the buffer; mend the way to the buffer, or start it again.",
    ),
    (
        "batchers",
        "Start `systole batch` with this buffer, or look at the log of the one that ended; nothing accepted is lost meanwhile.",
    ),
    (
        "buffer",
        "See that the buffer runs and can be reached from here, and do what the message says; clients send again what is refused \
         meanwhile.",
    ),
    (
        "certificate",
        "Put a good certificate and its key in the files of `--tls-cert` and `--tls-key`: they are read again by themselves.",
    ),
    (
        "consolidating",
        "Look at the bucket that is named, and at the compactor's log; files stay right meanwhile, only more of them.",
    ),
    (
        "dataset",
        "See that the folder of `--data` is there and is a dataset, or start the first `systole batch`, which makes it.",
    ),
    (
        "disk",
        "Make room on the disk of the data folder, or give it a larger one; heartbeats wait in the buffer meanwhile, until that is \
         full.",
    ),
    (
        "drain",
        "Look at the partitions that are named: start more `systole batch` if all lag, see the batcher's log if one does, and look at \
         its dead letters if it is full.",
    ),
    (
        "intake",
        "Bring Redis back: the spill takes no more either, so clients are told to come again; make room on its disk if it is full.",
    ),
    (
        "ledger",
        "Run `systole audit`: the buffer came back older than it was, and what stands in no file is lost; then start this process again.",
    ),
    (
        "partitions",
        "Look at what keeps the partition back, as the message says: a full or failing disk, most likely; nothing is dropped.",
    ),
    ("parts", "Look at the log for why the part failed; it is started again by itself, so act where it keeps failing."),
    (
        "publish lag",
        "Start `systole compact --watch` with this data folder, or look at the log of the one that runs; rows are safe, only not to be \
         read yet.",
    ),
    (
        "publishing",
        "Look at the bucket that is named, run `systole verify`, and move damaged files away or restore them; the other buckets go on.",
    ),
    (
        "registration",
        "Do what the message says: most likely this is another Redis, or an erased one; see `systole adopt --help`.",
    ),
    (
        "silence",
        "Look at the log for why rules of silence are not kept or webhooks not delivered; events wait until they are.",
    ),
    (
        "spill",
        "Bring Redis back: heartbeats are kept on the disk of this server meanwhile, and go in by themselves once it answers.",
    ),
    ("tokens", "See that the buffer can be reached, and make a token with `systole token create` if they were erased."),
    ("webhooks", "See that the address of the webhook answers; events are kept and sent again."),
];

/// For a part that nobody thought of.
const UNKNOWN: &str = "Look at the log of this process.";

/// What to do about a part that is not well.
pub(super) fn of(part: &str) -> &'static str {
    ADVICE.iter().find(|(name, _)| *name == part).map_or(UNKNOWN, |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Parts whose names are made at run time: the compactor's jobs.
    const MADE: [&str; 2] = ["publishing", "consolidating"];

    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    /// The names in calls of `Health::part`, by the sources of all of Systole but their tests.
    fn reported() -> BTreeSet<String> {
        let mut texts = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
        let mut found = BTreeSet::new();
        for text in texts {
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for call in code.split("health.part(").skip(1) {
                match call.trim_start().strip_prefix('"') {
                    Some(name) => drop(found.insert(name.split('"').next().unwrap().to_owned())),
                    None => found.extend(MADE.map(str::to_owned)),
                }
            }
        }
        found
    }

    #[test]
    fn every_part_that_reports_has_advice() {
        let reported = reported();
        assert!(reported.len() > 12 && reported.contains("drain"), "{reported:?}");
        for part in &reported {
            assert_ne!(of(part), UNKNOWN, "what is to be done about `{part}`?");
        }
    }

    #[test]
    fn advice_is_one_sentence_a_part() {
        for (at, (name, advice)) in ADVICE.iter().enumerate() {
            assert!(advice.ends_with('.') && advice.matches(". ").count() == 0, "{name}");
            assert!(at == 0 || ADVICE[at - 1].0 < *name, "{name} is out of order, or there twice");
        }
    }
}
