//! What is wrong with the files and no part of the board reports everywhere: a process that only reads has no batcher in it
//! which would watch them. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::advice;
use super::inventory::{Looked, NotSeen};
use super::report::{Files, UnwellPart};

/// Of files that were looked at, or could not be.
pub(super) fn of_files(files: &Result<Arc<Looked>, NotSeen>, publish_lag: Duration) -> Vec<UnwellPart> {
    match files {
        Ok(looked) => {
            [overdue(&looked.files, publish_lag), short_of_room(&looked.files)].into_iter().flatten().collect()
        }
        Err(NotSeen::Unreadable(why)) => vec![problem("dataset", why.clone())],
        // There are none, or the board says what is awaited.
        Err(NotSeen::NotGiven | NotSeen::NotThere | NotSeen::Counting) => Vec::new(),
    }
}

fn overdue(files: &Files, publish_lag: Duration) -> Option<UnwellPart> {
    let age = files.oldest_fragment_s.filter(|age| *age > publish_lag.as_secs())?;
    Some(problem(
        "publish lag",
        format!("a fragment has waited for {age} s to be published: is `systole compact` running?"),
    ))
}

fn short_of_room(files: &Files) -> Option<UnwellPart> {
    let disk = files.disk;
    (disk.free_bytes < disk.min_free_bytes).then(|| {
        let [free, least] = [disk.free_bytes, disk.min_free_bytes].map(|bytes| ByteSize(bytes).display().iec());
        problem("disk", format!("{free} are left where the files stand, and below {least} nothing more is written"))
    })
}

fn problem(part: &str, detail: String) -> UnwellPart {
    UnwellPart { part: part.to_owned(), detail, advice: advice::of(part) }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Disk, Verdict};
    use super::*;

    const LAG: Duration = Duration::from_secs(300);

    fn looked(oldest_fragment_s: Option<u64>, free_bytes: u64) -> Result<Arc<Looked>, NotSeen> {
        let files = Files {
            complete: true,
            fragments: 1,
            fragment_rows: 1,
            fragment_bytes: 1,
            oldest_fragment_s,
            published_files: 0,
            published_rows: 0,
            published_bytes: 0,
            quarantined: 0,
            last_publishes: Vec::new(),
            days: Vec::new(),
            disk: Disk { free_bytes, total_bytes: 1 << 40, min_free_bytes: 256 << 20 },
        };
        Ok(Arc::new(Looked { files, published_a_second: 0.0 }))
    }

    #[test]
    fn files_that_wait_a_disk_that_is_full_and_files_out_of_reach_are_problems() {
        let parts = |files| -> Vec<(String, String)> {
            of_files(&files, LAG).into_iter().map(|problem| (problem.part, problem.detail)).collect()
        };
        for fine in
            [looked(None, 1 << 30), looked(Some(300), 256 << 20), Err(NotSeen::NotGiven), Err(NotSeen::NotThere)]
        {
            assert_eq!(parts(fine), []);
        }
        let told = parts(looked(Some(361), 100 << 20));
        assert_eq!((told[0].0.as_str(), told[1].0.as_str(), told.len()), ("publish lag", "disk", 2));
        assert!(told[0].1.contains("361 s"), "{told:?}");
        assert_eq!(told[1].1, "100.0 MiB are left where the files stand, and below 256.0 MiB nothing more is written");
        let told = parts(Err(NotSeen::Unreadable("it is elsewhere".into())));
        assert_eq!(told, [("dataset".to_owned(), "it is elsewhere".to_owned())]);
    }

    #[test]
    fn what_a_part_tells_itself_is_not_told_twice() {
        let well = || Verdict { well: true, problems: Vec::new() };
        assert!(well().and(Vec::new()).well);
        let told = well().and(vec![problem("publish lag", "by itself".into())]);
        let told = told.and(of_files(&looked(Some(999), 0), LAG));
        let parts: Vec<&str> = told.problems.iter().map(|problem| problem.part.as_str()).collect();
        assert_eq!((parts.as_slice(), told.well), (["publish lag", "disk"].as_slice(), false));
        assert_eq!(told.problems[0].detail, "by itself");
    }
}
