//! Users whom one thread each writes and reads: what was answered 202 must be in the very next answer to a question.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use super::beats::{Beat, Beats, Identity};
use super::client::{self, Answer, Client};
use super::{SOON, wait};

/// Most heartbeats of one answer, so that long ones come in several.
const LIMIT: usize = 700;

/// What an author found out by reading.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// Heartbeats that had to be there, and were.
    pub checks: Arc<AtomicU64>,
    /// Whole readings.
    pub reads: Arc<AtomicU64>,
    /// Readings that were refused.
    pub refused: Arc<AtomicU64>,
}

/// What may be answered 503 for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayFail {
    Nothing,
    Readings,
    WritesToo,
}

/// Threads that write and read until they are stopped, and fail at the first heartbeat that is missed or doubled.
#[derive(Debug)]
pub struct Authors {
    stop: Arc<AtomicBool>,
    pub read: Read,
    threads: Vec<JoinHandle<()>>,
}

impl Authors {
    /// So many, each a user of its own, at this door.
    pub fn start(client: &Client, door: &str, many: u64, may_fail: MayFail) -> Self {
        let (stop, read) = (Arc::new(AtomicBool::new(false)), Read::default());
        let start = |number| {
            let author = Author {
                user: format!("author-{number}-0"),
                beats: Beats::new(1, 4).named(format!("author-{number}")),
                client: client.clone(),
                door: door.to_owned(),
                kept: BTreeSet::new(),
                last: Vec::new(),
                read: read.clone(),
                may_fail,
            };
            let stop = stop.clone();
            std::thread::spawn(move || author.run(&stop, number as usize))
        };
        Self { threads: (0..many).map(start).collect(), stop, read }
    }

    /// Waits until so many heartbeats more were looked for and found.
    pub fn await_checks(&self, more: u64) {
        self.await_count(&self.read.checks, more, "heartbeats found");
    }

    /// Waits until so many readings more were whole.
    pub fn await_reads(&self, more: u64) {
        self.await_count(&self.read.reads, more, "readings");
    }

    fn await_count(&self, count: &AtomicU64, more: u64, what: &str) {
        let goal = count.load(Ordering::Relaxed) + more;
        wait::until(&format!("{more} more {what}"), 4 * SOON, || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "an author has failed");
            count.load(Ordering::Relaxed) >= goal
        });
    }

    /// Stops them. Answers how many heartbeats were looked for.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (checks, reads) = (self.read.checks.load(Ordering::Relaxed), self.read.reads.load(Ordering::Relaxed));
        let refused = self.read.refused.load(Ordering::Relaxed);
        eprintln!(
            "FIGURES live reads: {checks} heartbeats looked for and found in {reads} readings; {refused} refused"
        );
        checks
    }
}

struct Author {
    user: String,
    beats: Beats,
    client: Client,
    door: String,
    kept: BTreeSet<Identity>,
    /// What was sent last, to be sent again.
    last: Vec<Beat>,
    read: Read,
    may_fail: MayFail,
}

impl Author {
    fn run(mut self, stop: &AtomicBool, number: usize) {
        let mut round = number;
        while !stop.load(Ordering::Relaxed) {
            round += 1;
            for _ in 0..round % 3 + 1 {
                self.write(1 + round % 7);
            }
            if round.is_multiple_of(4) {
                self.send_last();
            }
            let began = Instant::now();
            while !self.found_all() {
                assert!(began.elapsed() < 2 * SOON, "refused for too long");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        wait::until("a last reading", SOON, || self.found_all());
    }

    fn write(&mut self, many: usize) {
        self.last = self.beats.take(many);
        self.send_last();
        self.kept.extend(self.last.iter().map(|beat| beat.identity.clone()));
    }

    fn send_last(&self) {
        if self.may_fail != MayFail::WritesToo {
            return self.client.must_keep(&self.last);
        }
        wait::value("an author to be answered 202", 2 * SOON, || {
            let answer = self.client.post_all(&self.last);
            assert!(matches!(answer.status, 202 | 503), "{} {}", answer.status, answer.text);
            if answer.status == 202 { Ok(()) } else { Err(answer.text) }
        });
    }

    /// Reads all of it, and judges. `false` for a refusal, where there may be one.
    fn found_all(&self) -> bool {
        let Some(found) = self.all() else {
            assert!(self.may_fail != MayFail::Nothing, "a reading was refused");
            self.read.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let at = |identity: &Identity| (identity.timestamp, identity.device_id.clone(), identity.id.clone());
        assert!(found.is_sorted_by(|a, b| at(a) < at(b)), "{}: out of order, or twice", self.user);
        let found: BTreeSet<Identity> = found.into_iter().collect();
        if found != self.kept {
            let missed: Vec<_> = self.kept.difference(&found).collect();
            let invented: Vec<_> = found.difference(&self.kept).collect();
            panic!(
                "{}: of {} that were answered 202 {} are missed, such as {:?}; {} were never sent",
                self.user,
                self.kept.len(),
                missed.len(),
                missed.first(),
                invented.len()
            );
        }
        self.read.checks.fetch_add(self.kept.len() as u64, Ordering::Relaxed);
        self.read.reads.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Page by page. `None` when one is answered 503.
    fn all(&self) -> Option<Vec<Identity>> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/v1/users/{}/heartbeats?limit={LIMIT}{cursor}", self.door, self.user);
            let Answer { status, body, text, .. } = client::get(&url)?;
            if status == 503 {
                return None;
            }
            assert_eq!(status, 200, "{text}");
            assert_eq!(body["covers"], "all", "{text}");
            found.extend(body["heartbeats"].as_array().unwrap().iter().map(identity));
            match body["next"].as_str() {
                None => return Some(found),
                Some(next) => cursor = format!("&cursor={next}"),
            }
        }
    }
}

fn identity(heartbeat: &Value) -> Identity {
    let text = |name: &str| heartbeat[name].as_str().map(str::to_owned);
    let timestamp: jiff::Timestamp = text("timestamp").unwrap().parse().unwrap();
    Identity {
        user_id: text("user_id").unwrap(),
        device_id: text("device_id").unwrap(),
        timestamp: timestamp.as_millisecond(),
        id: text("id"),
    }
}
