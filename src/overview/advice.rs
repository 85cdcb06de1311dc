//! Where to look and what to do when a part is not well: one sentence for each part that reports to the health board, and for
//! the buffer one for each way of not being well. Pure.

use super::report::Role;
use crate::buffer::Error;
use crate::buffer::monitor::Snapshot;

/// What advice depends on, beside the part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    /// `up` has its batcher and compactor in it: nobody is to start others beside it.
    pub(super) role: Role,
    /// Why the buffer could not be looked at the last time.
    pub(super) fault: Option<&'a Error>,
    /// Why it takes no push, although it can be looked at.
    pub(super) refuses: Option<&'a Error>,
    /// Whether this process has ever seen it registered.
    pub(super) known: bool,
}

impl<'a> Situation<'a> {
    pub(super) fn of(role: Role, fault: Option<&'a Error>, last: Option<&'a Snapshot>) -> Self {
        let refuses = last.filter(|_| fault.is_none()).and_then(|last| last.refuses.as_ref());
        Self { role, fault, refuses, known: last.is_some() }
    }
}

/// By the names of the parts.
const ADVICE: [(&str, &str); 18] = [
    (
        "batcher",
        "Look at the log of the batcher: it cannot announce itself to the buffer; mend the way to the buffer, or start it again.",
    ),
    (
        "batchers",
        "Start `systole batch` with this buffer, or look at the log of the one that ended; nothing accepted is lost meanwhile.",
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
        "Look at /health of the batchers that are alive: most often a disk is full; start more `systole batch` only where they write \
         and cannot keep up, and look at the dead letters of a partition that is full.",
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

/// What differs in `up`, which has every part in it.
const IN_UP: [(&str, &str); 5] = [
    (
        "batcher",
        "Look at the log: the batcher of this process cannot announce itself to the buffer; it goes on trying.",
    ),
    (
        "batchers",
        "Look at the log for why the batcher of this process ended: it is started again by itself, and nothing accepted is lost \
         meanwhile.",
    ),
    (
        "drain",
        "Look at the log for what keeps the batcher of this process back: a full or failing disk, most likely; and look at the dead \
         letters of a partition that is full.",
    ),
    ("ledger", "Run `systole audit`: the buffer came back older than it was, and what stands in no file is lost."),
    (
        "publish lag",
        "Look at the log for what keeps the compactor of this process back; rows are safe, only not to be read yet.",
    ),
];

/// For a part that nobody thought of.
const UNKNOWN: &str = "Look at the log of this process.";

/// What to do about a part that is not well.
pub(super) fn of(part: &str, situation: &Situation<'_>) -> &'static str {
    if part == "buffer" {
        return of_buffer(situation);
    }
    let own: &[(&str, &str)] = match situation.role {
        Role::Up => &IN_UP,
        Role::Serve => &[],
    };
    own.iter().chain(&ADVICE).find(|(name, _)| *name == part).map_or(UNKNOWN, |(_, advice)| advice)
}

fn of_buffer(situation: &Situation<'_>) -> &'static str {
    let Situation { role, fault, refuses, known } = *situation;
    match (fault.or(refuses), role) {
        (Some(Error::Refused { .. }), Role::Up) => {
            "Make room on the disk of the buffer, or set `--buffer-min-free` lower; what waits is still drained, and clients send \
             again what is refused meanwhile."
        }
        (Some(Error::Refused { .. }), Role::Serve) => {
            "Raise `maxmemory` of Redis where that is reached (what waits is still drained, which makes room), else mend what Redis \
             says; clients send again what is refused meanwhile."
        }
        (Some(Error::TooFewReplicas { .. }), _) => {
            "Bring the missing replicas of Redis back (see INFO replication there), or start `systole serve` with a smaller \
             `--wait-replicas`; clients send again what is refused meanwhile."
        }
        (Some(Error::NotRegistered), Role::Serve) if !known => {
            "Start `systole batch` with this buffer if the installation is new, which registers it; if the buffer was in use before, \
             it was erased: run `systole audit`, then `systole adopt`."
        }
        (Some(Error::NotRegistered), Role::Serve) => {
            "The buffer was erased: run `systole audit`, which says what is missing, then `systole adopt`, which gives the dataset \
             this buffer anew."
        }
        (Some(Error::NotRegistered), Role::Up) => {
            "The folder of the buffer was erased: stop this process, run `systole audit`, which says what is missing, then `systole \
             adopt`, and start it again."
        }
        (Some(Error::ForeignDataset { .. }), _) => {
            "Give this process the buffer of its own dataset: the address in `--buffer` leads to that of another."
        }
        (Some(Error::BeingMoved), _) => {
            "Finish the move with `systole drain`, and go on with `systole serve` and `systole batch` in place of this process."
        }
        (_, Role::Up) => {
            "See that the disk of the buffer is there and works, and do what the message says; clients send again what is refused \
             meanwhile."
        }
        (_, Role::Serve) => {
            "See that Redis runs and can be reached from here, and do what the message says; clients send again what is refused \
             meanwhile."
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::heartbeat::DatasetId;

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

    const ROLES: [Role; 2] = [Role::Up, Role::Serve];

    /// All is well with the buffer.
    fn in_role(role: Role) -> Situation<'static> {
        Situation { role, fault: None, refuses: None, known: true }
    }

    /// Everything that can be said of the buffer.
    fn of_every_buffer(role: Role) -> Vec<&'static str> {
        let reason = String::new;
        let errors = [
            Error::Refused { reason: reason() },
            Error::TooFewReplicas { have: 0, want: 1 },
            Error::NotRegistered,
            Error::ForeignDataset { expected: DatasetId::from_u128(1), found: reason() },
            Error::BeingMoved,
            Error::Unreachable { reason: reason() },
        ];
        let said = |error, known| of("buffer", &Situation { fault: Some(error), known, ..in_role(role) });
        errors.iter().flat_map(|error| [said(error, true), said(error, false)]).collect()
    }

    #[test]
    fn every_part_that_reports_has_advice() {
        let reported = reported();
        assert!(reported.len() > 12 && reported.contains("drain"), "{reported:?}");
        for (part, role) in reported.iter().flat_map(|part| ROLES.map(|role| (part, role))) {
            assert_ne!(of(part, &in_role(role)), UNKNOWN, "what is to be done about `{part}`?");
        }
    }

    #[test]
    fn advice_is_one_sentence_a_part() {
        for (table, in_order) in [(ADVICE.as_slice(), ADVICE.is_sorted()), (&IN_UP, IN_UP.is_sorted())] {
            assert!(in_order, "out of order, or there twice: {table:?}");
            assert!(table.windows(2).all(|pair| pair[0].0 != pair[1].0), "{table:?}");
        }
        let buffers = ROLES.into_iter().flat_map(of_every_buffer);
        for advice in ADVICE.into_iter().chain(IN_UP).map(|(_, advice)| advice).chain(buffers) {
            assert!(advice.ends_with('.') && advice.matches(". ").count() == 0, "{advice}");
        }
    }

    #[test]
    fn up_is_not_told_to_start_what_is_in_it() {
        // The parts that no `up` has.
        let apart = ["dataset", "intake", "registration", "spill"];
        let parts: Vec<String> = reported().into_iter().filter(|part| !apart.contains(&part.as_str())).collect();
        for part in &parts {
            let advice = of(part, &in_role(Role::Up));
            for other in ["`systole batch`", "`systole compact", "Redis"] {
                assert!(!advice.contains(other), "{part}: {advice}");
            }
        }
    }

    #[test]
    fn the_buffer_is_advised_by_what_is_wrong_with_it() {
        let refused = Error::Refused { reason: "full".into() };
        for role in ROLES {
            let advice = of("buffer", &Situation { refuses: Some(&refused), ..in_role(role) });
            assert!(advice.contains("still drained") && !advice.contains("See that"), "{advice}");
        }
        let replicas = Error::TooFewReplicas { have: 0, want: 1 };
        let advice = of("buffer", &Situation { refuses: Some(&replicas), ..in_role(Role::Serve) });
        assert!(advice.contains("--wait-replicas"), "{advice}");
        let gone = |known| Situation { fault: Some(&Error::NotRegistered), known, ..in_role(Role::Serve) };
        assert!(of("buffer", &gone(false)).contains("Start `systole batch`"));
        let erased = of("buffer", &gone(true));
        assert!(erased.contains("audit") && erased.contains("adopt") && !erased.contains("batch"), "{erased}");
    }
}
