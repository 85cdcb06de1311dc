//! Several of each role, started and stopped in any order, lose and double nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::producers::bring_home;
use support::{Beats, Buffer, Dice, SOON, Systole, World, on_every_buffer};

/// The processes of one role.
struct Role<'a> {
    start: Box<dyn Fn() -> Systole + 'a>,
    running: Vec<Systole>,
}

impl<'a> Role<'a> {
    fn new(start: impl Fn() -> Systole + 'a) -> Self {
        Self { start: Box::new(start), running: Vec::new() }
    }

    /// Starts one more, or ends one: in order, or by SIGKILL.
    fn shuffle(&mut self, dice: &mut Dice) {
        let starts = self.running.is_empty() || (self.running.len() < 3 && dice.roll(2) == 0);
        if starts {
            self.running.push((self.start)());
            return;
        }
        let mut leaver = self.running.swap_remove(dice.roll(self.running.len()));
        if dice.roll(2) == 0 { leaver.stop() } else { leaver.sigkill() }
    }
}

// Roles are processes on Redis only.
#[test]
fn roles_started_and_stopped_in_any_order_lose_and_double_nothing() {
    let world = World::on(Buffer::Redis);
    let beats = Beats::new(50, 2);
    let mut dice = Dice::of(20_261_122);
    let mut roles =
        [Role::new(|| world.watch().start()), Role::new(|| world.serve().start()), Role::new(|| world.batch().start())];
    // Everybody is the first once in a while: the compactor waits for a dataset, the door for a buffer.
    roles.iter_mut().for_each(|role| role.shuffle(&mut dice));
    roles[1].running[0].await_status("/health/ready", 200, SOON);

    for _ in 0..36 {
        let which = dice.roll(3);
        roles[which].shuffle(&mut dice);
        // Nobody may wait for anything here: what comes between two changes meets whatever is there.
        for serve in &roles[1].running {
            let _ = world.client(serve).try_post_all(&beats.take(40));
        }
    }
    for role in &mut roles {
        if role.running.is_empty() {
            role.shuffle(&mut dice);
        }
    }
    let serve = &roles[1].running[0];
    bring_home(&world.client(serve), &beats.take(40));

    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
    world.verify();
    assert!(world.ledger.kept() > 400, "hardly anything was accepted: {}", world.ledger.kept());
}

fn everyone_stops_in_order_when_asked_however_much_is_under_way(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().start();
    collector.client().must_keep(&Beats::new(50, 2).take(5_000));
    collector.stop();
    collector.resume();
    world.await_published(SOON);
    world.await_drained(SOON);
    world.audit();
}

on_every_buffer! {
    everyone_stops_in_order_when_asked_however_much_is_under_way,
}
