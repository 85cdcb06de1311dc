//! No more files may be opened (EMFILE): at the accepting of connections, at writing, at compacting. What cannot be done is
//! put off or refused with 503, and goes on by itself once there are descriptors again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Beats, Buffer, Collector, Producers, SOON, Systole, World, on_every_buffer, process, wait};

/// How a process names the fault.
const NAME: &str = "Too many open files";
/// How long a newcomer waits for an answer that cannot come.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether somebody whom the process has not met yet is answered.
fn answers_a_newcomer(process: &Systole) -> bool {
    let address = process.url().trim_start_matches("http://").to_owned();
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect(&address)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// Takes all further descriptors from the process until `seen`, and gives them back.
fn starve(process: &Systole, seen: impl FnMut() -> bool) {
    let granted = process::limit_open_files(process.pid(), 1);
    wait::until("the want of descriptors to be felt", SOON, seen);
    process::limit_open_files(process.pid(), granted);
    process.await_status("/health/live", 200, SOON);
}

fn says_so(process: &Systole) -> impl FnMut() -> bool + '_ {
    move || process.log().iter().any(|line| line.contains(NAME))
}

/// The processes of the collector, each once.
fn workers<'c>(collector: &'c Collector<'_>) -> Vec<&'c Systole> {
    let mut all = vec![collector.batcher(), collector.compactor()];
    all.dedup_by_key(|process| process.pid());
    all
}

fn a_process_that_can_open_no_more_files_loses_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    let collector = world.collector().start();
    let load = Producers::start(vec![collector.client(); 2], Arc::new(Beats::new(30, 2)), 10);
    load.await_kept(200, SOON);
    starve(collector.door(), || !answers_a_newcomer(collector.door()));
    for worker in workers(&collector) {
        load.await_kept(100, 2 * SOON);
        starve(worker, says_so(worker));
        worker.await_status("/health", 200, 2 * SOON);
    }
    load.await_kept(100, 2 * SOON);
    let kept = load.stop();
    world.await_drained(2 * SOON);
    world.await_published(2 * SOON);
    assert_eq!(world.held("dead"), 0, "a fault of the world makes no dead letters");
    world.verify();
    world.audit();
    eprintln!("{kept} acknowledged, 0 lost, 0 doubled");
}

fn more_connections_than_descriptors_end_with_the_connections(buffer: Buffer) {
    const DESCRIPTORS: usize = 128;
    let world = World::on(buffer);
    let limit = format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}");
    let under = ["prlimit", &limit, "--"];
    let (door, others) = match buffer {
        Buffer::Embedded => (world.up().under(under).start(), Vec::new()),
        Buffer::Redis => {
            let others = vec![world.batch().start(), world.watch().start()];
            (world.serve().under(under).start(), others)
        }
    };
    door.await_status("/health/ready", 200, SOON);
    world.address_is(&door);
    let client = world.client(&door);
    let beats = Beats::new(30, 2);
    client.must_keep(&beats.take(100));
    for _ in 0..2 {
        let idle: Vec<TcpStream> = (0..2 * DESCRIPTORS)
            .map(|_| TcpStream::connect(door.url().trim_start_matches("http://")).unwrap())
            .collect();
        wait::until("newcomers to wait", SOON, || !answers_a_newcomer(&door));
        // Who has a connection is served, or told to come again; nobody hears that his heartbeat was wrong.
        let answer = client.try_post_all(&beats.take(10));
        assert!(answer.as_ref().map_or(true, |answer| [202, 503].contains(&answer.status)), "{answer:?}");
        drop(idle);
        wait::until("newcomers to be served", SOON, || answers_a_newcomer(&door));
        door.await_status("/health/ready", 200, SOON);
        client.must_keep(&beats.take(100));
    }
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
    drop(others);
}

on_every_buffer! {
    a_process_that_can_open_no_more_files_loses_nothing,
    more_connections_than_descriptors_end_with_the_connections,
}
