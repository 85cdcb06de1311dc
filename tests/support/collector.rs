//! The collector of one world: door, batcher and compactor, in as many processes as the buffer wants.
//!
//! A test says what each role is to do; in which process that is, it does not know. Where all roles are one process, that
//! process is killed and started anew for every change: what it acknowledged must survive that in any test.

use std::time::{Duration, Instant};

use super::client::Client;
use super::systole::{Launch, Systole};
use super::world::{QUICK_LEASE, World};
use super::{Buffer, SOON, process, wait};

/// How often a process with a fixed life is asked whether it listens.
const TICK: Duration = Duration::from_millis(5);

/// See the module. Its processes are killed when it goes.
#[derive(Debug)]
pub struct Collector<'w> {
    world: &'w World,
    door: Role,
    batcher: Role,
    compactor: Role,
    processes: Processes,
}

/// What a role is to do.
#[derive(Debug, Clone)]
struct Role {
    name: &'static str,
    runs: bool,
    args: Vec<String>,
    failpoints: Vec<String>,
    /// The command that runs it, such as `setpriv …`.
    under: Vec<String>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a test")]
enum Processes {
    Apart { door: Option<Systole>, batcher: Option<Systole>, compactor: Option<Systole> },
    One(Option<Systole>),
}

impl Role {
    fn new(name: &'static str) -> Self {
        Self { name, runs: true, args: Vec::new(), failpoints: Vec::new(), under: Vec::new() }
    }

    fn add<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.args.extend(args.into_iter().map(Into::into));
    }

    /// Its own failpoints; within a process of several roles, one that does not run fails whenever it is started.
    fn failpoints_in_one(&self) -> Vec<String> {
        if self.runs { self.failpoints.clone() } else { vec![format!("part.{}=error", self.name)] }
    }
}

fn launched(launch: Launch, args: &[String], failpoints: &[String]) -> Launch {
    let launch = launch.args(args.iter().cloned());
    if failpoints.is_empty() { launch } else { launch.failpoints(&failpoints.join(";")) }
}

// What is to run: before the start.
impl<'w> Collector<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        let processes = match world.kind() {
            Buffer::Redis => Processes::Apart { door: None, batcher: None, compactor: None },
            Buffer::Embedded => Processes::One(None),
        };
        let (door, batcher, compactor) = (Role::new("http"), Role::new("batcher"), Role::new("compactor"));
        Self { world, door, batcher, compactor, processes }
    }

    /// Settings of the door.
    pub fn door_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.door.add(args);
        self
    }

    /// Settings of the batcher.
    pub fn batcher_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.batcher.add(args);
        self
    }

    /// Runs the batcher by another command, such as `setpriv …`.
    pub fn batcher_under<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.batcher.under.extend(wrapper.into_iter().map(Into::into));
        self
    }

    /// Settings of the compactor.
    pub fn compactor_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.compactor.add(args);
        self
    }

    /// Failpoints in the door, and so in all roles where they are one process.
    pub fn failpoints(mut self, list: &str) -> Self {
        self.door.failpoints.push(list.into());
        self
    }

    /// Failpoints in the batcher.
    pub fn batcher_failpoints(mut self, list: &str) -> Self {
        self.batcher.failpoints.push(list.into());
        self
    }

    /// Failpoints in the compactor.
    pub fn compactor_failpoints(mut self, list: &str) -> Self {
        self.compactor.failpoints.push(list.into());
        self
    }

    /// For tests that wait for the leases of the dead to run out. In one process they end with it.
    pub fn with_quick_leases(mut self) -> Self {
        if self.world.kind() == Buffer::Redis {
            self.batcher.add(QUICK_LEASE);
        }
        self
    }

    /// What is taken in waits in the buffer, until [`Collector::start_batcher`].
    pub fn without_batcher(mut self) -> Self {
        self.batcher.runs = false;
        self
    }

    /// What is written waits in the staging tree, until [`World::publish`] or [`Collector::start_compactor`].
    pub fn without_compactor(mut self) -> Self {
        self.compactor.runs = false;
        self
    }

    /// Starts what is to run, and waits until heartbeats are accepted.
    pub fn start(mut self) -> Self {
        if matches!(self.processes, Processes::Apart { .. }) && !self.batcher.runs {
            self.world.register();
        }
        self.resume();
        self
    }
}

// What runs.
impl Collector<'_> {
    /// A client of the door, wherever that is by now.
    pub fn client(&self) -> Client {
        Client::new(self.world.address.clone(), self.world.ledger.clone())
    }

    /// The process that has the door in it.
    pub fn door(&self) -> &Systole {
        match &self.processes {
            Processes::Apart { door, .. } => door.as_ref(),
            Processes::One(up) => up.as_ref(),
        }
        .expect("the door runs")
    }

    /// The process that has the batcher in it.
    pub fn batcher(&self) -> &Systole {
        match &self.processes {
            Processes::Apart { batcher, .. } => batcher.as_ref(),
            Processes::One(up) => up.as_ref(),
        }
        .expect("the batcher runs")
    }

    /// The process that has the compactor in it.
    pub fn compactor(&self) -> &Systole {
        match &self.processes {
            Processes::Apart { compactor, .. } => compactor.as_ref(),
            Processes::One(up) => up.as_ref(),
        }
        .expect("the compactor runs")
    }

    /// Waits until heartbeats are accepted.
    pub fn await_ready(&self) {
        self.door().await_status("/health/ready", 200, SOON);
    }

    /// From now on there is a batcher.
    pub fn start_batcher(&mut self) {
        self.start_batcher_with("");
    }

    /// From now on there is a batcher with these failpoints in it.
    pub fn start_batcher_with(&mut self, failpoints: &str) {
        self.arm_batcher(failpoints);
        self.kill_if_one();
        self.resume();
    }

    /// Ends the batcher in order; then there is none.
    pub fn stop_batcher(&mut self) {
        self.batcher.runs = false;
        self.batcher.failpoints.clear();
        match &mut self.processes {
            Processes::Apart { batcher, .. } => batcher.take().into_iter().for_each(Systole::stop),
            Processes::One(up) => up.take().into_iter().for_each(Systole::stop),
        }
        self.resume();
    }

    /// Starts a batcher that is to die at one of these failpoints, and waits until it has; then there is none.
    pub fn batcher_dies_at(&mut self, failpoints: &str) {
        self.arm_batcher(failpoints);
        self.kill_if_one();
        self.launch_unseen();
        self.await_batcher_killed();
    }

    /// The same of one that runs already and is asked to end.
    pub fn batcher_dies_while_it_stops(&mut self) {
        self.batcher().sigterm();
        self.await_batcher_killed();
    }

    /// Has a compactor with these settings do its work and die at this failpoint; then there is none. `after_each` looks at
    /// what a death left.
    pub fn compactor_dies_at(&mut self, name: &str, args: &[&str], after_each: impl Fn()) {
        let failpoint = format!("{name}=kill");
        if let Processes::Apart { .. } = self.processes {
            // The second one meets what the first has left, and may not come as far.
            let pass = self.world.compact().args(args.iter().copied()).failpoints(&failpoint);
            let killed = [0, 1].map(|_| {
                let killed = pass.clone().run().was_killed();
                after_each();
                killed
            });
            assert!(killed.contains(&true), "{name} was not reached");
            return;
        }
        let before = self.compactor.clone();
        self.compactor.runs = true;
        self.compactor.failpoints.push(failpoint);
        self.compactor.add(args.iter().copied());
        self.kill_if_one();
        self.launch_unseen();
        self.compactor = before;
        self.await_one_killed();
        after_each();
        self.resume();
    }

    /// Starts everything in one process, to die at one of these failpoints, and waits until it has.
    pub fn dies_at(&mut self, failpoints: &str) {
        self.kill_if_one();
        self.door.failpoints = vec![failpoints.to_owned()];
        self.launch_unseen();
        self.door.failpoints.clear();
        self.await_one_killed();
    }

    /// Its clients may bring it to its end meanwhile.
    fn await_one_killed(&mut self) {
        wait::until("its death", SOON, || {
            if self.door_mut().listens() {
                self.world.address.set(Some(self.door().url()));
            }
            self.door_mut().has_ended()
        });
        self.world.address.set(None);
        if let Processes::One(up) = &mut self.processes {
            up.take().into_iter().for_each(|mut up| up.await_killed(SOON));
        }
    }

    fn await_batcher_killed(&mut self) {
        let process = match &mut self.processes {
            Processes::Apart { batcher, .. } => batcher,
            Processes::One(up) => up,
        };
        process.take().expect("the batcher runs").await_killed(SOON);
        self.batcher.runs = false;
        self.batcher.failpoints.clear();
        // The door of one process has died with it.
        self.resume();
    }

    fn arm_batcher(&mut self, failpoints: &str) {
        self.batcher.runs = true;
        self.batcher.failpoints = if failpoints.is_empty() { Vec::new() } else { vec![failpoints.to_owned()] };
    }

    /// From now on there is a compactor that publishes by itself.
    pub fn start_compactor(&mut self) {
        self.compactor.runs = true;
        self.kill_if_one();
        self.resume();
    }

    /// Kills everything at once; [`Collector::resume`] starts it again.
    pub fn kill(&mut self) {
        self.world.address.set(None);
        match &mut self.processes {
            Processes::Apart { door, batcher, compactor } => {
                [door, batcher, compactor].into_iter().for_each(|process| drop(process.take()));
            }
            Processes::One(up) => drop(up.take()),
        }
    }

    /// Starts what is to run and does not, and waits until heartbeats are accepted.
    pub fn resume(&mut self) {
        self.launch();
        self.await_ready();
    }

    /// Starts everything, and kills it after so long, wherever it is by then. Answers whether it had come to listen.
    pub fn flare_up(&mut self, life: Duration) -> bool {
        let listened = self.resume_for(life);
        self.kill();
        listened
    }

    /// Starts everything, and leaves it so long, wherever it is by then. Answers whether it has come to listen.
    pub fn resume_for(&mut self, life: Duration) -> bool {
        let end = Instant::now() + life;
        self.launch_unseen();
        let mut listened = false;
        while Instant::now() < end {
            if !listened && self.door_mut().listens() {
                listened = true;
                self.world.address.set(Some(self.door().url()));
            }
            std::thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
        }
        listened
    }

    /// Stops the world: whatever runs does not take another step until [`Collector::kill`].
    pub fn freeze(&self) {
        let all: Vec<&Systole> = match &self.processes {
            Processes::Apart { door, batcher, compactor } => [door, batcher, compactor].into_iter().flatten().collect(),
            Processes::One(up) => up.iter().collect(),
        };
        for process in all {
            process.sigstop();
            wait::until("it to stop", SOON, || process::state(process.pid()) == 'T');
        }
    }

    fn door_mut(&mut self) -> &mut Systole {
        match &mut self.processes {
            Processes::Apart { door, .. } => door.as_mut(),
            Processes::One(up) => up.as_mut(),
        }
        .expect("the door runs")
    }

    /// Ends everything in order; [`Collector::resume`] starts it again.
    pub fn stop(&mut self) {
        self.world.address.set(None);
        match &mut self.processes {
            Processes::Apart { door, batcher, compactor } => {
                [batcher, compactor, door].into_iter().filter_map(Option::take).for_each(Systole::stop);
            }
            Processes::One(up) => up.take().into_iter().for_each(Systole::stop),
        }
    }

    fn kill_if_one(&mut self) {
        if let Processes::One(up) = &mut self.processes {
            self.world.address.set(None);
            drop(up.take());
        }
    }

    /// Starts what is to run and does not, and waits until it listens.
    fn launch(&mut self) {
        self.launch_unseen();
        match &mut self.processes {
            Processes::Apart { door, batcher, compactor } => {
                [door, batcher, compactor].into_iter().flatten().for_each(Systole::await_listening);
            }
            Processes::One(up) => up.iter_mut().for_each(Systole::await_listening),
        }
        self.world.address.set(Some(self.door().url()));
    }

    fn launch_unseen(&mut self) {
        let Self { world, door, batcher, compactor, processes } = self;
        match processes {
            Processes::Apart { door: serve, batcher: batch, compactor: watch } => {
                let start = |launch: Launch, role: &Role, process: &mut Option<Systole>| {
                    if role.runs && process.is_none() {
                        *process = Some(launched(launch, &role.args, &role.failpoints).spawn());
                    }
                };
                start(world.batch().under(batcher.under.clone()), batcher, batch);
                start(world.watch(), compactor, watch);
                start(world.serve(), door, serve);
            }
            Processes::One(up) => {
                let roles = [&*door, &*batcher, &*compactor];
                let args: Vec<String> = roles.iter().flat_map(|role| role.args.clone()).collect();
                let failpoints: Vec<String> = roles.iter().flat_map(|role| role.failpoints_in_one()).collect();
                if up.is_none() {
                    *up = Some(launched(world.up().under(batcher.under.clone()), &args, &failpoints).spawn());
                }
            }
        }
    }
}

impl Drop for Collector<'_> {
    fn drop(&mut self) {
        self.world.address.set(None);
    }
}
