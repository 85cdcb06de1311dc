//! Growth: what a batch and a publish open, read and write does not grow with the day's files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::print_stderr, reason = "what a failed test shows")]

mod support;

use std::path::PathBuf;

use support::watch::OpenedFiles;
use support::{Beats, Buffer, Client, Collector, SOON, Systole, World, on_every_buffer, oracle, wait};

/// What one round of new rows cost a process, by the kernel's count.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    read_bytes: u64,
    written_bytes: u64,
    opened: u64,
}

impl Cost {
    fn of(process: &Systole) -> Self {
        let io = process.io();
        Self { read_bytes: io["rchar"], written_bytes: io["wchar"], opened: 0 }
    }

    fn since(self, before: Self) -> Self {
        Self {
            read_bytes: self.read_bytes - before.read_bytes,
            written_bytes: self.written_bytes - before.written_bytes,
            opened: self.opened,
        }
    }
}

/// Late rows in each round.
const LATE: usize = 2;

/// A collector of one partition, so that every row of the day meets in one bucket.
struct Day<'w> {
    world: &'w World,
    collector: Collector<'w>,
    client: Client,
    beats: Beats,
    late: Beats,
}

impl<'w> Day<'w> {
    fn new(world: &'w World) -> Self {
        let keep_all = ["--max-files=100000", "--small-file-share=1"];
        let collector = world.collector().batcher_args(["--partitions=1"]).compactor_args(keep_all).start();
        let client = collector.client();
        let (beats, late) = (Beats::new(50, 2).in_order(), Beats::new(50, 2).named("late"));
        Self { world, collector, client, beats, late }
    }

    /// Brings in new rows, some late ones from all over the day among them, and waits until they are published.
    fn round(&self, rows: usize) {
        self.client.must_keep(&self.late.take(LATE));
        for bulk in self.beats.take(rows).chunks(5_000) {
            self.client.must_keep(bulk);
        }
        self.world.await_drained(SOON);
        // A fragment goes once its rows are published. Nothing is opened to find that out.
        wait::until("the rows to be published", SOON, || self.world.staged().is_empty());
    }

    /// The cheapest of some rounds of 200 new rows: of the batcher's process, and of the compactor's, which may be the same.
    /// What was opened counts for both.
    fn cost(&self) -> [Cost; 2] {
        let folders = self.folders();
        let rounds: Vec<[Cost; 2]> = (0..5)
            .map(|_| {
                let opened = OpenedFiles::watch(folders.iter().map(PathBuf::as_path));
                let now = || [Cost::of(self.collector.batcher()), Cost::of(self.collector.compactor())];
                let before = now();
                self.round(200);
                let opened = opened.take().len() as u64;
                let after = now();
                [0, 1].map(|n| Cost { opened, ..after[n].since(before[n]) })
            })
            .collect();
        [0, 1].map(|n| Cost {
            read_bytes: rounds.iter().map(|round| round[n].read_bytes).min().unwrap(),
            written_bytes: rounds.iter().map(|round| round[n].written_bytes).min().unwrap(),
            opened: rounds.iter().map(|round| round[n].opened).min().unwrap(),
        })
    }

    /// The folders of the one bucket.
    fn folders(&self) -> Vec<PathBuf> {
        let published = oracle::published_files(self.world.dataset());
        let bucket = published[0].parent().unwrap().to_owned();
        let below = bucket.strip_prefix(self.world.dataset().join("heartbeats")).unwrap();
        let staging = self.world.dataset().join("staging").join(below);
        vec![bucket, staging]
    }
}

/// Bytes that may be read on a filled day.
fn allowed(empty: Cost) -> u64 {
    empty.read_bytes * 2 + 16 * 1024
}

fn a_batch_and_a_publish_cost_the_same_on_a_filled_day_as_on_an_empty_one(buffer: Buffer) {
    let world = World::on(buffer);
    let day = Day::new(&world);
    day.round(200);
    let empty = day.cost();
    // Many rows, and many files.
    day.round(120_000);
    (0..20).for_each(|_| day.round(50));
    let filled = day.cost();

    for (who, empty, filled) in [("batch", empty[0], filled[0]), ("compact", empty[1], filled[1])] {
        eprintln!("{who}: empty day {empty:?}, filled day {filled:?}");
        assert!(filled.read_bytes < allowed(empty), "{who} reads more");
        assert!(filled.written_bytes < empty.written_bytes * 2 + 16 * 1024, "{who} writes more");
    }
    // A late row may have to be looked for in the few files that hold rows of its minute.
    assert!(filled[0].opened <= empty[0].opened + 3 * LATE as u64, "more files are opened");
    let files = oracle::published_files(day.world.dataset());
    assert!(files.len() > 30, "the day was not filled: {} files", files.len());
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes > 4 * allowed(empty[1]), "the day was not filled: {bytes} bytes");
    day.world.judge();
}

on_every_buffer! {
    a_batch_and_a_publish_cost_the_same_on_a_filled_day_as_on_an_empty_one,
}
