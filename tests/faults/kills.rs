//! kill -9 of any role at any moment. Of `up`, which is one process: tests/up.rs.

use std::sync::Arc;

use crate::support::address::Address;
use crate::support::{Beats, Buffer, Client, Dice, Launch, Producers, SOON, Systole, World};

const KILLS: usize = 30;

/// A process that is started again after each death; the door of its clients, if it has one.
struct Member<'w> {
    launch: Box<dyn Fn() -> Launch + 'w>,
    process: Systole,
    door: Option<Address>,
}

impl<'w> Member<'w> {
    fn start(launch: impl Fn() -> Launch + 'w, has_door: bool) -> Self {
        let process = launch().start();
        let door = has_door.then(|| Address::from(process.url()));
        Self { launch: Box::new(launch), process, door }
    }

    fn die_and_come_back(&mut self, dice: &mut Dice) {
        if let Some(door) = &self.door {
            door.set(None);
        }
        self.process.sigkill();
        std::thread::sleep(dice.millis(200));
        self.process = (self.launch)().start();
        if let Some(door) = &self.door {
            door.set(Some(self.process.url()));
        }
    }
}

#[test]
fn kills_of_every_role_at_random_lose_and_double_nothing() {
    let mut dice = Dice::loaded_anew();
    let world = World::on(Buffer::Redis);
    world.register();
    let consolidating = ["--max-files=4", "--small-file-share=0", "--large-file-rows=500", "--reader-grace=0s"];
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Member::start(|| world.serve(), true));
        members.push(Member::start(|| world.batch(), false));
        members.push(Member::start(|| world.watch().args(consolidating), false));
    }
    let doors: Vec<Address> = members.iter().filter_map(|member| member.door.clone()).collect();
    let clients = doors.iter().map(|door| Client::new(door.clone(), world.ledger.clone())).collect();
    let producers = Producers::start(clients, Arc::new(Beats::new(20, 2)), 10);
    for _ in 0..KILLS {
        let victim = dice.roll(members.len());
        members[victim].die_and_come_back(&mut dice);
        std::thread::sleep(dice.millis(150));
    }
    producers.await_kept(100, SOON);
    producers.stop();
    world.await_drained(2 * SOON);
    world.await_published(2 * SOON);
    assert_eq!(world.held("dead"), 0, "nothing was to blame");
    world.verify();
    world.audit();
    eprintln!("{KILLS} kills, {} acknowledged, 0 lost, 0 doubled", world.ledger.kept());
    assert!(world.ledger.kept() > 500, "hardly anything was sent: {}", world.ledger.kept());
}
