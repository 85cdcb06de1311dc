//! Every role of a collector on Redis as a process of its own: a door, two batchers, a compactor; and what became of what it
//! was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::beats::Beats;
use super::oracle::Snapshot;
use super::producers::Producers;
use super::systole::Systole;
use super::world::World;
use super::{SOON, wait};

/// Threads that send at once.
const PRODUCERS: usize = 4;
/// Heartbeats of each request.
const BULK: usize = 20;
/// Heartbeats under way at most: answered or not, when a fault strikes.
pub const UNDER_WAY: u64 = (PRODUCERS * BULK) as u64;

/// See the module. [`World::fleet`] starts it; it is killed when it goes.
#[derive(Debug)]
pub struct Fleet {
    pub serve: Systole,
    pub batchers: Vec<Systole>,
    pub watch: Systole,
}

impl Fleet {
    /// Producers of this door.
    pub fn producers(&self, world: &World) -> Producers {
        Producers::start(vec![world.client(&self.serve); PRODUCERS], Arc::new(Beats::new(50, 2)), BULK)
    }

    /// From now on what is accepted stays in the buffer. Answers once no batcher takes a step any more.
    pub fn stop_batchers(&self) {
        self.batchers.iter().for_each(Systole::sigstop);
    }

    /// Ends [`Fleet::stop_batchers`].
    pub fn wake_batchers(&self) {
        self.batchers.iter().for_each(Systole::cont);
    }

    /// Heartbeats that the buffer forgot, by what the door's last look told.
    fn forgotten(&self) -> u64 {
        self.serve.metrics().sum("systole_buffer_gone_back_heartbeats_total").unwrap_or(0.0) as u64
    }

    /// Waits until the door says that the buffer has gone back. It may not know by then of every partition: a look that
    /// failed halfway tells what the pushes beside it have met.
    pub fn await_gone_back(&self) {
        wait::until("the door to notice that the buffer has gone back", SOON, || self.forgotten() > 0);
    }

    /// How many heartbeats the buffer forgot, by what the door says alike in health, log and metrics, once nothing is pushed
    /// any more and it has looked at all of the buffer since.
    pub fn said_forgotten(&self, world: &World) -> u64 {
        let accepted = world.held("accepted");
        wait::until("the door to look at what was pushed last", SOON, || {
            let of =
                |labels: &BTreeMap<String, String>| labels.get("column").is_some_and(|column| column == "accepted");
            self.serve.metrics().sum_where("systole_buffer_ledger_heartbeats", of) == Some(accepted as f64)
        });
        let forgotten = self.forgotten();
        let (well, detail) = self.serve.part("ledger");
        let in_log = self.serve.log().iter().any(|line| line.contains("the buffer has gone back"));
        if forgotten == 0 {
            assert_eq!((well, detail.as_str(), in_log), (true, "", false));
        } else {
            assert!(!well && detail.contains(&format!("forgot {forgotten} heartbeats")), "{forgotten}: {detail}");
            assert!(in_log, "it is not in the log");
        }
        forgotten
    }
}

/// Prints what became of it, and answers how many heartbeats that were answered 202 are lost. `judge` has shown by then that
/// none is doubled.
pub fn figures(what: &str, world: &World, snapshot: &Snapshot, said: u64) -> u64 {
    let (acknowledged, published) = (world.ledger.ever_answered().len(), snapshot.rows().count());
    let lost = snapshot.lost(&world.ledger);
    eprintln!(
        "FIGURES {what}: acknowledged {acknowledged}, published {published}, lost {lost}, said to be forgotten {said}, doubled 0"
    );
    lost
}
