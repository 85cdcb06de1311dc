//! `audit`, `dead-letters` and `adopt` on the embedded buffer: through the socket of a running `up`, and directly where none
//! runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use support::{Beats, Buffer, Launch, Producers, RedisServer, SOON, Systole, World, wait};

/// `systole up` on the world's dataset, and those who look at it.
struct Machine {
    world: World,
}

impl Machine {
    fn new() -> Self {
        Self { world: World::on(Buffer::Embedded) }
    }

    fn on(world: World) -> Self {
        Self { world }
    }

    fn socket(&self) -> PathBuf {
        self.world.dataset().join(".systole.sock")
    }

    fn up(&self) -> Launch {
        self.world.up()
    }

    /// A command with `--data` and nothing else that says where to look.
    fn look(&self, words: &[&str]) -> Launch {
        self.world.books(words)
    }

    fn letters(&self) -> Vec<String> {
        let listed = self.look(&["dead-letters", "list", "--json"]).run().expect_code(0).json();
        listed.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
    }

    fn await_letters(&self, count: usize) -> Vec<String> {
        wait::value(&format!("{count} dead letters"), SOON, || {
            let letters = self.letters();
            if letters.len() == count { Ok(letters) } else { Err(format!("{} letters", letters.len())) }
        })
    }

    /// Makes `count` dead letters, one heartbeat each, by an `up` that goes on running.
    fn bury(&self, count: usize) -> Systole {
        let up = self.up().failpoints("batcher.encode=panic").start();
        self.world.client(&up).must_keep(&Beats::new(count as u64, 1).take(count));
        self.await_letters(count);
        up
    }
}

fn ledger(report: &Value, column: &str) -> u64 {
    report["partitions"].as_array().unwrap().iter().map(|books| books["ledger"][column].as_u64().unwrap()).sum()
}

#[test]
fn dead_letters_of_a_running_up_are_listed_shown_retried_and_dropped() {
    let machine = Machine::new();
    let up = machine.bury(3);
    let ids = machine.letters();
    let shown = machine.look(&["dead-letters", "show", &ids[0]]).run().expect_code(0).json();
    assert_eq!(shown["decoded"].as_array().unwrap().len(), 1, "{shown}");
    machine.look(&["dead-letters", "drop", &ids[0]]).run().expect_code(0);
    machine.look(&["dead-letters", "drop", &ids[0]]).refused(2, &["no dead letter", &ids[0]]);
    // Its writer still panics, so it comes back under another id.
    machine.look(&["dead-letters", "retry", &ids[1]]).run().expect_code(0);
    wait::until("the retried letter to come back", SOON, || {
        let letters = machine.letters();
        letters.len() == 2 && !letters.contains(&ids[1])
    });
    let report = machine.world.audit();
    assert_eq!((ledger(&report, "dead"), ledger(&report, "dropped")), (2, 1), "{report}");
    up.stop();
}

#[test]
fn what_can_be_done_through_a_running_up_can_be_done_without_it() {
    let machine = Machine::new();
    machine.bury(3).stop();
    assert!(!machine.socket().exists(), "it goes with the process");
    let ids = machine.letters();
    assert_eq!(ids.len(), 3);
    machine.look(&["dead-letters", "show", &ids[0]]).run().expect_code(0);
    machine.look(&["dead-letters", "drop", &ids[0]]).run().expect_code(0);
    machine.look(&["dead-letters", "retry", "--all"]).run().expect_code(0);
    let report = machine.world.audit();
    assert_eq!((ledger(&report, "pending"), ledger(&report, "dropped")), (2, 1), "{report}");

    let up = machine.up().start();
    wait::until("the retried letters to be published", SOON, || {
        support::oracle::count_rows(machine.world.dataset()) == 2
    });
    assert_eq!(machine.world.audit()["verdict"], "balanced");
    up.stop();
}

#[test]
fn a_killed_up_leaves_a_socket_that_hinders_nobody() {
    let machine = Machine::new();
    let mut up = machine.bury(1);
    up.sigkill();
    assert!(machine.socket().exists());
    assert_eq!(machine.letters().len(), 1);
    let up = machine.up().start();
    assert_eq!(machine.letters().len(), 1);
    assert!(machine.look(&["audit"]).run().expect_code(0).stdout.contains("dead 1"));
    up.stop();
    assert!(!machine.socket().exists());
}

#[test]
fn the_books_of_a_running_up_balance_under_load() {
    let machine = Machine::new();
    let up = machine.up().start();
    let clients = (0..2).map(|_| machine.world.client(&up)).collect();
    let producers = Producers::start(clients, Arc::new(Beats::new(500, 2)), 200);
    producers.await_kept(1_000, SOON);
    let mut accepted = 0;
    for _ in 0..4 {
        let report = machine.world.audit();
        assert_eq!(report["verdict"], "balanced", "{report}");
        assert!(ledger(&report, "accepted") > accepted, "it moves");
        accepted = ledger(&report, "accepted");
        machine.look(&["verify"]).run().expect_code(0);
    }
    producers.stop();
    machine.world.await_published(4 * SOON);
    assert_eq!(machine.world.audit()["verdict"], "balanced");
    up.stop();
}

#[test]
fn a_missing_file_is_found_beside_a_running_up() {
    let machine = Machine::new();
    let up = machine.up().start();
    machine.world.client(&up).must_keep(&Beats::new(20, 2).take(100));
    machine.world.await_published(SOON);
    std::fs::remove_file(&support::oracle::published_files(machine.world.dataset())[0]).unwrap();
    let report = machine.look(&["audit", "--json"]).run().expect_code(1).json();
    assert_eq!(report["verdict"], "missing");
    up.stop();
}

#[test]
fn an_up_that_hangs_or_has_no_socket_is_said_in_one_line() {
    let machine = Machine::new();
    let up = machine.up().start();
    up.sigstop();
    let quick = ["--step-deadline=1s", "--push-deadline=1s", "--connect-timeout=500ms"];
    machine.look(&["audit"]).args(quick).refused(3, &["did not answer within 1s"]);
    machine.look(&["dead-letters", "list"]).args(quick).refused(3, &["did not answer within 1s"]);
    up.cont();
    machine.world.audit();
    std::fs::remove_file(machine.socket()).unwrap();
    machine.look(&["audit"]).refused(3, &["in use by process", &up.pid().to_string()]);
    machine.look(&["adopt"]).refused(3, &["in use by process", &up.pid().to_string()]);
    up.stop();
}

#[test]
fn a_socket_that_fails_is_bound_anew() {
    let machine = Machine::new();
    let up = machine.up().failpoints("part.socket=error*1").start();
    wait::until("the socket to be there again", SOON, || machine.look(&["audit"]).run().status.success());
    wait::until("/health to name it", SOON, || up.get("/health").unwrap().text.contains("socket failed"));
    up.stop();
}

#[test]
fn a_redis_for_a_dataset_of_the_embedded_buffer_is_refused() {
    let machine = Machine::new();
    let up = machine.up().start();
    let redis = RedisServer::start();
    let buffer = format!("--buffer={}", redis.url());
    let refused = || {
        machine.look(&["audit", &buffer]).refused(2, &["embedded", "--buffer", "systole drain"]);
        machine.look(&["adopt", &buffer]).refused(2, &["embedded", "left behind", "systole drain"]);
    };
    refused();
    machine.look(&["adopt"]).refused(2, &["systole up", "first"]);
    up.stop();
    refused();
    // A Redis that is named is where dead letters are looked for, whatever lies in the data folder.
    machine.look(&["dead-letters", "list", &buffer]).refused(2, &["not registered"]);
    machine.look(&["dead-letters", "list", "--buffer=redis://127.0.0.1:1"]).refused(3, &["out of reach"]);
}

#[test]
fn a_lost_buffer_is_an_alarm_until_it_is_adopted_anew() {
    let machine = Machine::new();
    let up = machine.up().start();
    machine.world.client(&up).must_keep(&Beats::new(20, 2).take(100));
    machine.world.await_published(SOON);
    up.stop();
    let folder = machine.world.dataset().join("buffer");
    std::fs::remove_dir_all(&folder).unwrap();
    for words in [&["audit"][..], &["dead-letters", "list"]] {
        machine.look(words).refused(2, &["is gone", "systole adopt"]);
        assert!(!folder.exists(), "looking makes nothing");
    }
    machine.up().refused(2, &["is gone", "systole adopt"]);

    let adopted = |known| {
        let report = machine.look(&["adopt", "--json"]).run().expect_code(0).json();
        assert_eq!((&report["known"], &report["registration"]["partitions"]), (&Value::Bool(known), &4.into()));
    };
    adopted(false);
    adopted(true);
    let report = machine.world.audit();
    assert_eq!((report["verdict"].as_str(), ledger(&report, "accepted")), (Some("surplus"), 0));
    machine.look(&["audit", "--accept"]).run().expect_code(0);
    let up = machine.up().start();
    machine.world.client(&up).must_keep(&Beats::new(20, 2).named("later").take(50));
    machine.world.await_published(SOON);
    assert_eq!(machine.world.audit()["verdict"], "balanced");
    up.stop();
}

#[test]
fn a_data_folder_deeper_than_a_socket_can_be_named_works() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("a-folder-of-thirty-bytes------/".repeat(5));
    std::fs::create_dir_all(&deep).unwrap();
    let machine = Machine::on(World::on(Buffer::Embedded).dataset_in(&deep));
    let up = machine.up().start();
    machine.world.client(&up).must_keep(&Beats::new(5, 1).take(5));
    assert_eq!(ledger(&machine.world.audit(), "accepted"), 5);
    up.stop();
}
