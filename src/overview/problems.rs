//! What is wrong with the files and no part of the board reports everywhere: a process that only reads has no batcher in it
//! which would watch them. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::advice::{self, Situation};
use super::inventory::{Looked, NotSeen};
use super::report::{Files, UnwellPart};

/// Of files that were looked at, or could not be.
pub(super) fn of_files(
    files: &Result<Arc<Looked>, NotSeen>,
    publish_lag: Duration,
    situation: &Situation<'_>,
) -> Vec<UnwellPart> {
    let problem = |(part, detail): (&str, String)| {
        let advice = advice::of(part, situation);
        UnwellPart { part: part.to_owned(), detail, advice }
    };
    let wrong = match files {
        Ok(looked) => [overdue(&looked.files, publish_lag), short_of_room(&looked.files)],
        Err(NotSeen::Unreadable(why)) => [Some(("dataset", why.clone())), None],
        // There are none, or the board says what is awaited.
        Err(NotSeen::NotGiven | NotSeen::NotThere | NotSeen::Counting) => [None, None],
    };
    wrong.into_iter().flatten().map(problem).collect()
}

/// A part, and what is wrong with it.
type Wrong = (&'static str, String);

fn overdue(files: &Files, publish_lag: Duration) -> Option<Wrong> {
    let age = files.oldest_fragment_s.filter(|age| *age > publish_lag.as_secs())?;
    Some(("publish lag", format!("a fragment has waited for {age} s to be published: is the compactor running?")))
}

fn short_of_room(files: &Files) -> Option<Wrong> {
    let disk = files.disk;
    (disk.free_bytes < disk.min_free_bytes).then(|| {
        let [free, least] = [disk.free_bytes, disk.min_free_bytes].map(|bytes| ByteSize(bytes).display().iec());
        ("disk", format!("{free} are left where the files stand, and below {least} nothing more is written"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::{Disk, Role, Verdict};
    use super::*;

    const LAG: Duration = Duration::from_secs(300);
    const SITUATION: Situation<'static> = Situation { role: Role::Serve, fault: None, refuses: None, known: true };

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
            of_files(&files, LAG, &SITUATION).into_iter().map(|problem| (problem.part, problem.detail)).collect()
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
        let itself = UnwellPart { part: "publish lag".into(), detail: "by itself".into(), advice: "Do so." };
        let told = well().and(vec![itself]);
        let told = told.and(of_files(&looked(Some(999), 0), LAG, &SITUATION));
        let parts: Vec<&str> = told.problems.iter().map(|problem| problem.part.as_str()).collect();
        assert_eq!((parts.as_slice(), told.well), (["publish lag", "disk"].as_slice(), false));
        assert_eq!(told.problems[0].detail, "by itself");
    }
}
