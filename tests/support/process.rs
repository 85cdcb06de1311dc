//! What the kernel says of a process, and how much it grants it.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// The letter of its state, as in `ps`: `T` is stopped.
pub fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything.
    let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    rest.chars().next().unwrap_or('-')
}

/// How many files it has open.
pub fn open_files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

/// How many files it may have open from now on (those it has stay open). Answers how many it might before.
pub fn limit_open_files(pid: u32, most: u64) -> u64 {
    let pid = Pid::from_raw(pid as i32);
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum: hard_limit(pid) }).unwrap();
    before.current.unwrap_or(u64::MAX)
}

fn hard_limit(pid: Option<Pid>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", pid.unwrap().as_raw_nonzero())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(4).and_then(|hard| hard.parse().ok())
}
