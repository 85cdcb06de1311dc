//! The real batcher, compactor, embedded buffer and dataset under simulated faults, by random schedules.
//!
//! A seed makes a schedule (`schedule.rs`): clients push and push again, one of two batchers starts, stops, is killed at a
//! change of the disk; compactors pass and die; the power goes; the disk is full or fails; answers of the buffer are lost or
//! late; a process stands still while another takes over; hours pass. Then the world is healed (`heal.rs`), drained and
//! published, and judged: by a reader that shares no code with Systole (`support/oracle.rs`) against the ledger of what was
//! acknowledged, by the audit, by verify, and by what is left in the folders. Readers look in between, too.
//!
//! What is real: `batcher::Batcher` with all its tasks, `compactor::Compactor`, `EmbeddedBuffer`, `dataset` and its files.
//! What is simulated: time (`tokio::time` paused, and the clock of the files), the file system under the dataset
//! (`ground.rs`, over a folder in memory; `disk.rs` says what a power cut leaves), and the way to the buffer (`line.rs`).
//! The embedded buffer's own files are not under it: `tests/buffer_contract` and the process tests have those.
//!
//! # Replaying
//!
//! `SYSTOLE_SIM_SEED=7` plays the schedule of that seed alone, `SYSTOLE_SIM_ROUNDS=1000` that many seeds (new ones, from a
//! random first one on, or from that of `SYSTOLE_SIM_SEED`), `SYSTOLE_SIM_EVENTS=0,1,5` only those events of a schedule. A
//! failure prints the seed, and the schedule cut down to the events that it needs.
//!
//! The same seed goes the same way each time, fault by fault: one thread runs what waits, one what blocks, in the order in
//! which it was asked for, and virtual time passes only when both are idle. What differs from run to run are the random
//! bits of ids, hence names of files (not their order), dates (relative to today), and how long things take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![allow(clippy::print_stderr, reason = "figures, and what a failed test shows")]

#[allow(dead_code, reason = "each test crate uses its own part of the harness")]
#[path = "../support/beats.rs"]
mod beats;
#[allow(dead_code, reason = "each test crate uses its own part of the harness")]
#[path = "../support/dice.rs"]
mod dice;
mod disk;
#[allow(dead_code, reason = "each test crate uses its own part of the harness")]
#[path = "../support/figures.rs"]
mod figures;
mod ground;
mod heal;
#[allow(dead_code, reason = "each test crate uses its own part of the harness")]
#[path = "../support/ledger.rs"]
mod ledger;
mod life;
mod line;
#[allow(dead_code, reason = "each test crate uses its own part of the harness")]
#[path = "../support/oracle.rs"]
mod oracle;
mod place;
mod play;
mod rounds;
mod schedule;
mod turns;
mod weather;
mod world;

use self::rounds::{first_violation, hold};
use self::schedule::Family;

#[test]
fn whatever_step_batchers_and_compactors_die_at_nothing_is_lost_or_doubled() {
    hold(Family::Deaths, 12);
}

#[test]
fn whatever_a_power_cut_takes_from_the_disk_what_was_acknowledged_stands() {
    hold(Family::PowerCuts, 12);
}

#[test]
fn writes_syncs_and_renames_that_fail_lose_and_double_nothing() {
    hold(Family::DiskErrors, 12);
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_and_doubles_nothing() {
    hold(Family::DiskFull, 12);
}

#[test]
fn lost_late_and_belated_answers_of_the_buffer_lose_and_double_nothing() {
    hold(Family::Buffer, 12);
}

#[test]
fn whoever_goes_ahead_while_another_stands_still_nothing_is_lost_or_doubled() {
    hold(Family::Zombies, 12);
}

#[test]
fn all_faults_together_lose_and_double_nothing() {
    hold(Family::Mixed, 20);
}

#[test]
fn a_file_system_that_lies_about_syncs_is_found_out() {
    let (seed, violation) =
        first_violation(Family::Liar, 1..=20).expect("no power cut on a disk that lies was noticed");
    eprintln!("a lying file system is found out by seed {seed}: {violation}");
}

#[test]
fn the_same_seed_goes_the_same_way_twice() {
    rounds::replays(Family::Mixed);
}
