//! The failpoints that stand in the source, so that none is forgotten by the tests that kill at each of them.

use std::collections::BTreeSet;
use std::path::Path;

use super::oracle::every_file;

/// Names of the failpoints in the source files whose path below `src/` begins with `part`.
pub fn in_part(part: &str) -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = every_file(&source);
    files.retain(|path| {
        let below = path.strip_prefix(&source).unwrap();
        path.extension().is_some_and(|extension| extension == "rs")
            && below != Path::new("failpoint.rs")
            && below.to_string_lossy().starts_with(part)
    });
    files.into_iter().flat_map(|path| names_in(&std::fs::read_to_string(path).unwrap())).collect()
}

/// Every literal that is handed to a function called `reached`.
fn names_in(source: &str) -> Vec<String> {
    let literals = source.split("reached(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
    literals.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}
