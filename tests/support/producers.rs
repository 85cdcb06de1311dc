//! Threads that send heartbeats until told to stop, and send again what was not answered 202.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::beats::{Beat, Beats};
use super::client::{Answer, Client};
use super::wait;

/// How long a producer goes on trying to bring home its last bulk after the others were told to stop.
const LAST_BULK: Duration = Duration::from_secs(30);

/// Running producers. They stop when dropped, too.
#[derive(Debug)]
pub struct Producers {
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicU64>,
    /// Requests that have ended, well or not, by thread.
    ended: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Producers {
    /// Starts one thread for each client; each sends bulks of `bulk` and sends a bulk again until it is answered 202.
    pub fn start(clients: Vec<Client>, beats: Arc<Beats>, bulk: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kept = Arc::new(AtomicU64::new(0));
        let ended: Vec<Arc<AtomicU64>> = clients.iter().map(|_| Arc::default()).collect();
        let start = |(client, ended): (Client, &Arc<AtomicU64>)| {
            let (stop, kept, ended, beats) = (stop.clone(), kept.clone(), ended.clone(), beats.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    bring_home_counted(&client, &beats.take(bulk), &ended);
                    kept.fetch_add(bulk as u64, Ordering::Relaxed);
                }
            })
        };
        let threads = clients.into_iter().zip(&ended).map(start).collect();
        Self { stop, kept, ended, threads }
    }

    /// Heartbeats answered 202 so far.
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Waits until `more` further heartbeats were answered 202.
    pub fn await_kept(&self, more: u64, deadline: Duration) {
        let goal = self.kept() + more;
        wait::until(&format!("{more} more heartbeats answered 202"), deadline, || self.kept() >= goal);
    }

    /// Waits until every request that was under way has ended. What a buffer answered before it was killed may be on its
    /// way to the ledger until then.
    pub fn await_ended(&self, deadline: Duration) {
        let count = |ended: &Arc<AtomicU64>| ended.load(Ordering::Acquire);
        let before: Vec<u64> = self.ended.iter().map(count).collect();
        wait::until("an end of each request under way", deadline, || {
            self.ended.iter().map(count).zip(&before).all(|(now, before)| now > *before)
        });
    }

    /// Stops after every bulk under way was answered 202, and answers how many heartbeats were.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a producer failed");
        }
        self.kept()
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A single one goes as an object, as most clients send it.
fn post(client: &Client, bulk: &[Beat]) -> Result<Answer, String> {
    if let [single] = bulk { client.try_post_one(single) } else { client.try_post_all(bulk) }
}

/// Sends a bulk again and again until all of it was answered 202.
pub fn bring_home(client: &Client, bulk: &[Beat]) {
    bring_home_counted(client, bulk, &AtomicU64::default());
}

/// [`bring_home`], which counts the requests that have `ended`, each after the ledger has it.
fn bring_home_counted(client: &Client, bulk: &[Beat], ended: &AtomicU64) {
    wait::value("a 202 for a bulk", LAST_BULK, || {
        let answered = post(client, bulk);
        ended.fetch_add(1, Ordering::Release);
        match answered {
            Ok(answer) if answer.status == 202 && answer.body["accepted"] == bulk.len() => Ok(()),
            Ok(answer) if answer.status == 400 => panic!("{}", answer.text),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.text)),
            Err(why) => Err(why),
        }
    });
}
