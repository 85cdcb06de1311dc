//! Turns between the thread of tasks and the thread of blocking steps, so that the two never work side by side.
//!
//! A blocking step is handed to its thread at once, while tasks go on. Before its first change of the disk it therefore
//! wakes a task that does nothing but answer. The thread of tasks takes up what other threads woke in the order in which
//! they did, and only when nothing else is ready ([`runtime`](crate::play)): so when that task answers, all that could run
//! has run, and the tasks wait for the blocking step. No time passes meanwhile, because the step is under way.
//!
//! Answers of the buffer come at instants of their own ([`Turns::instant`]).

use std::collections::BTreeSet;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

type Answer = mpsc::Sender<()>;

#[derive(Debug, Default)]
pub struct Turns(Mutex<Vec<Runtime>>);

/// A runtime, and the blocking step of it that has the turn.
#[derive(Debug)]
struct Runtime {
    asked: UnboundedSender<Answer>,
    has_turn: Option<tokio::task::Id>,
    /// The instants that were given away and have not come.
    taken: BTreeSet<Instant>,
}

/// The clock's finest step.
const TICK: Duration = Duration::from_millis(1);

/// Ends with the runtime that it is for.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    task: AbortHandle,
}

impl Turns {
    /// Of the runtime of the caller, until the answer is dropped; then those of the runtime around it go on.
    pub fn begin(&self) -> Turn<'_> {
        let (asked, mut asks) = unbounded_channel::<Answer>();
        let task = tokio::spawn(async move {
            while let Some(answer) = asks.recv().await {
                let _ = answer.send(());
            }
        });
        self.0.lock().unwrap().push(Runtime { asked, has_turn: None, taken: BTreeSet::new() });
        Turn { turns: self, task: task.abort_handle() }
    }

    /// An instant from `at` on at which nobody else's answer comes. So one task goes on at a time: it is idle again, or in
    /// a blocking step, during which no time passes, before the next one's instant.
    pub fn instant(&self, at: Instant) -> Instant {
        let mut runtimes = self.0.lock().unwrap();
        let Some(runtime) = runtimes.last_mut() else { return at };
        runtime.taken = runtime.taken.split_off(&Instant::now());
        let mut at = at + TICK;
        while runtime.taken.range(at - TICK..at + TICK).next().is_some() {
            at += TICK;
        }
        runtime.taken.insert(at);
        at
    }

    /// Waits for the turn of the blocking step that calls.
    pub fn wait(&self) {
        let step = tokio::task::try_id();
        let asked = match self.0.lock().unwrap().last_mut() {
            Some(runtime) if runtime.has_turn != step => {
                runtime.has_turn = step;
                runtime.asked.clone()
            }
            _ => return,
        };
        let (answer, answered) = mpsc::channel();
        if asked.send(answer).is_ok() {
            // An error means that the runtime is gone, and so are its tasks.
            let _ = answered.recv();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.task.abort();
        self.turns.0.lock().unwrap().pop();
    }
}
