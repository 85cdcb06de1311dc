//! Running the checker: to its end, or to a counterexample.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::guards::{Guard, Verdict};
use crate::promises::{Promise, audit};
use crate::scenario::Scenario;
use crate::situations::{Note, Situation};
use crate::world::{Action, World};

/// A scenario as the checker sees it.
#[derive(Debug)]
struct Protocol {
    scenario: Scenario,
    /// States whose successors were made: all, once the checker has come to its end.
    expanded: AtomicU64,
    situations: AtomicU64,
    /// Looks at this promise only; else at all.
    only: Option<Promise>,
    /// The first broken promise, with its state's hash. The checker goes level by level, so the path to it is a shortest
    /// one; later ones are passed over, since the checker would keep the last.
    broken: OnceLock<(Promise, u64)>,
    /// How worlds end in which all processes have just died: many differ only in what those had in hand.
    endings: Mutex<HashMap<u64, bool>>,
}

impl Protocol {
    fn keeps(&self, promise: Promise, world: &World) -> bool {
        if self.only.is_some_and(|only| only != promise) || self.holds(promise, world) {
            return true;
        }
        let this = (promise, hash_of(world));
        *self.broken.get_or_init(|| this) != this
    }

    fn holds(&self, promise: Promise, world: &World) -> bool {
        if promise != Promise::ItEndsWell {
            return promise.holds(&self.scenario, world);
        }
        let mut world = world.clone();
        world.kill_all();
        world.saved = None;
        world.late.clear();
        let hash = hash_of(&world);
        let known = self.endings.lock().unwrap().get(&hash).copied();
        known.unwrap_or_else(|| {
            let well = promise.holds(&self.scenario, &world);
            self.endings.lock().unwrap().insert(hash, well);
            well
        })
    }
}

fn hash_of(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.scenario)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.expanded.fetch_add(1, Ordering::Relaxed);
        world.actions(&self.scenario, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut note = Note::default();
        let next = world.after(&self.scenario, action, &mut note)?;
        if audit(&next).surplus > 0 {
            note.reached(Situation::SurplusSeen);
        }
        self.situations.fetch_or(note.0, Ordering::Relaxed);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($promise:ident),+) => {
                vec![$(Property::always(Promise::$promise.name(), |model: &Self, world| {
                    model.keeps(Promise::$promise, world)
                })),+]
            };
        }
        // The last is the dearest, and what breaks another mostly breaks it, too.
        always![NothingIsLost, NothingIsDoubled, LedgerBalances, AuditIsRight, ReadersLoseNothing, ItEndsWell]
    }
}

/// What a search found.
#[derive(Debug)]
struct Found {
    pub states: u64,
    pub depth: usize,
    pub seconds: f64,
    pub ended: bool,
    pub situations: Note,
    pub broken: Option<(Promise, String)>,
}

/// Searches all that can happen in a scenario, or until a promise breaks: any, or only this one.
fn search(scenario: &Scenario, only: Option<Promise>) -> Found {
    let began = Instant::now();
    let model = Protocol {
        scenario: scenario.clone(),
        expanded: AtomicU64::new(0),
        situations: AtomicU64::new(0),
        only,
        broken: OnceLock::new(),
        endings: Mutex::default(),
    };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let model = checker.model();
    let states = checker.unique_state_count() as u64;
    let broken = model.broken.get().map(|(promise, _)| {
        let path = checker.discovery(promise.name());
        (*promise, path.map_or_else(String::new, |path| tell(scenario, path)))
    });
    Found {
        states,
        depth: checker.max_depth(),
        seconds: began.elapsed().as_secs_f64(),
        ended: checker.is_done() && model.expanded.load(Ordering::Relaxed) == states,
        situations: Note(model.situations.load(Ordering::Relaxed)),
        broken,
    }
}

/// A counterexample as people read it: the steps, then the state that they lead to.
fn tell(scenario: &Scenario, path: Path<World, Action>) -> String {
    let mut text = String::new();
    let last = path.last_state().clone();
    for (number, action) in path.into_actions().iter().enumerate() {
        let _ = writeln!(text, "  {:>2}. {action:?}", number + 1);
    }
    let _ = write!(text, "  {last:#?}\n  in {scenario:?}");
    text
}

/// Fails unless the scenario keeps every promise, to its end, and all that it must reach is reached.
pub fn holds(scenario: &Scenario) {
    let found = search(scenario, None);
    report(scenario, "keeps every promise", &found);
    if let Some((promise, path)) = &found.broken {
        panic!("{}: it does not hold that {}:\n{path}", scenario.name, promise.name());
    }
    assert!(found.ended, "the search of {} was not exhaustive", scenario.name);
    for situation in scenario.reaches {
        assert!(found.situations.has(*situation), "{} never reaches {situation:?}", scenario.name);
    }
}

/// Fails unless the scenario breaks this promise. The shortest way there is printed.
pub fn breaks(scenario: &Scenario, promise: Promise) {
    let found = search(scenario, Some(promise));
    report(scenario, &format!("looking for a way to break that {}", promise.name()), &found);
    let Some((_, path)) = &found.broken else {
        panic!("{}: without the guard it holds all the same that {}", scenario.name, promise.name());
    };
    eprintln!("{}", path.lines().take_while(|line| !line.starts_with("  World")).collect::<Vec<_>>().join("\n"));
}

/// Fails unless the model says of a guard what is said of it.
pub fn verdict(guard: Guard, verdict: Verdict) {
    let without = |scenario: &Scenario, also: &[Guard]| Scenario {
        guards: scenario.guards.without(&[guard]).without(also),
        reaches: &[],
        ..scenario.clone()
    };
    match verdict {
        Verdict::Needed { scenario, breaks: promise } => breaks(&without(scenario, &[]), promise),
        Verdict::Redundant { holds: scenarios, why } => {
            scenarios.iter().for_each(|scenario| holds(&without(scenario, &[])));
            eprintln!("kept though redundant: {why}");
        }
        Verdict::Net { holds: scenarios, with, scenario, breaks: promise, why } => {
            scenarios.iter().for_each(|scenario| holds(&without(scenario, &[])));
            breaks(&without(scenario, with), promise);
            eprintln!("kept though redundant: {why}");
        }
    }
}

fn report(scenario: &Scenario, what: &str, found: &Found) {
    let Found { states, depth, seconds, .. } = found;
    eprintln!("{}: {what}; {states} states, depth {depth}, {seconds:.2} s", scenario.name);
}
