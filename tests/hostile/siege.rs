//! A collector under siege, and a neighbour beside it that must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Beats, Buffer, Client, Collector, Metrics, SOON, World, process, wait};
use crate::wire::{Answer, Wire};

/// What the process may take at its peak, in MiB: what is promised of the binary that people run, though one built for
/// debugging has three times the code, and deeper stacks.
pub const MOST_MIB: u64 = 256;
/// The neighbour's pause between two heartbeats.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module. It runs in the folder of `world`.
pub struct Siege<'w> {
    world: &'w World,
    collector: Collector<'w>,
    neighbour: Option<Neighbour>,
    began: Instant,
    files_before: u64,
}

struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Served>,
}

#[derive(Debug, Default)]
struct Served {
    kept: u64,
    slowest: Duration,
    refused: Vec<String>,
}

/// On the buffer that one process has in itself: what is attacked is the door, and all that stands behind it then.
pub fn world() -> World {
    World::on(Buffer::Embedded)
}

impl<'w> Siege<'w> {
    /// With these settings of the door.
    pub fn begin(world: &'w World, args: &[&str]) -> Self {
        Self::begin_as(world, args, "127.0.0.1")
    }

    /// The same with a neighbour at this address of the machine.
    pub fn begin_as(world: &'w World, args: &[&str], neighbour: &str) -> Self {
        let collector = world.collector().door_args(args.iter().copied()).start();
        let neighbour = Some(Neighbour::start(collector.client().at_address(neighbour)));
        let files_before = process::open_files(collector.door().pid());
        Self { world, collector, neighbour, began: Instant::now(), files_before }
    }

    pub fn client(&self) -> Client {
        self.collector.client()
    }

    pub fn address(&self) -> String {
        self.collector.door().url().trim_start_matches("http://").to_owned()
    }

    pub fn open(&self) -> Wire {
        Wire::open(&self.address())
    }

    /// A connection from this address of the machine.
    pub fn open_from(&self, address: &str) -> Wire {
        Wire::open_from(address, &self.address())
    }

    /// The answer to this on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Option<Answer> {
        let mut wire = self.open();
        // Who is refused early may be cut off while it still sends.
        wire.try_send(request);
        wire.answer()
    }

    /// The value of a metric, summed.
    pub fn metric(&self, name: &str) -> f64 {
        self.metrics().sum(name).unwrap_or_default()
    }

    pub fn metrics(&self) -> Metrics {
        self.collector.door().metrics()
    }

    /// Most memory that it ever had, in MiB.
    pub fn peak_mib(&self) -> u64 {
        self.status("VmHWM:") >> 10
    }

    /// Files, sockets among them, that it has open beyond those that it had when the siege began.
    pub fn open_files(&self) -> u64 {
        process::open_files(self.collector.door().pid()).saturating_sub(self.files_before)
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.collector.door().pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Who came in peace was served all the time, all of it is published, nothing is left in hand, and memory kept within
    /// its bound. Says the figures.
    pub fn end(mut self, what: &str) {
        let lasted = self.began.elapsed();
        let served = self.neighbour.take().unwrap().end();
        let peak = self.peak_mib();
        eprintln!(
            "{what}: {} heartbeats of the neighbour kept in {:.1} s, the slowest answer after {} ms, 0 refused; peak {peak} MiB",
            served.kept,
            lasted.as_secs_f64(),
            served.slowest.as_millis()
        );
        assert!(served.refused.is_empty(), "{what}: the neighbour met {:?}", served.refused);
        assert!(served.kept > 0, "{what}: the neighbour had no turn");
        assert!(peak <= MOST_MIB, "{what}: {peak} MiB of memory, {MOST_MIB} allowed");
        self.world.await_published(2 * SOON);
        let is_free = || self.metric("systole_http_byte_budget_used_bytes") == 0.0;
        wait::until(&format!("all bytes to be free after {what}"), SOON, is_free);
        self.collector.stop();
        self.world.audit();
    }
}

impl Neighbour {
    fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let beats = Beats::new(7, 3).named("neighbour");
            let mut served = Served::default();
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                match client.try_post_one(&beats.next()) {
                    Ok(answer) if answer.status == 202 => served.kept += 1,
                    Ok(answer) => served.refused.push(format!("{} {}", answer.status, answer.text)),
                    Err(error) => served.refused.push(error),
                }
                served.slowest = served.slowest.max(began.elapsed());
                std::thread::sleep(PAUSE);
            }
            served
        });
        Self { stop, thread }
    }

    fn end(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
