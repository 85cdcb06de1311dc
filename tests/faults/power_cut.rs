//! Power cuts of the data disk under load, at random moments: what was answered 202 before is published once after.

use std::sync::Arc;

use crate::support::power::Disk;
use crate::support::{Beats, Buffer, Collector, Dice, Producers, SOON, World, on_every_buffer};

const CUTS: usize = 8;
/// Consolidates whatever can be, so that folders are exchanged when the power goes.
const CONSOLIDATE: [&str; 4] = ["--max-files=4", "--small-file-share=0", "--large-file-rows=500", "--reader-grace=0s"];

/// Cuts the power at some moment of a start, or of the work. The machine stops with its disk: nothing that a process sees
/// after the cut, such as an fsync that came home, can reach anybody.
fn cut_once(collector: &mut Collector<'_>, disk: &Disk, dice: &mut Dice) {
    if dice.roll(4) == 0 {
        collector.resume_for(dice.millis(400));
    } else {
        collector.resume();
        std::thread::sleep(dice.millis(900));
    }
    collector.freeze();
    disk.cut();
    collector.kill();
    disk.restore();
}

fn power_cuts_of_the_data_disk_lose_and_double_nothing(buffer: Buffer) {
    let mut dice = Dice::loaded_anew();
    let Some(disk) = Disk::mount() else { return };
    let world = World::on(buffer).dataset_in(&disk.path());
    let mut collector = world.collector().compactor_args(CONSOLIDATE);
    let clients = |n| vec![collector.client(); n];
    let bulks = Producers::start(clients(2), Arc::new(Beats::new(20, 2).named("bulk")), 20);
    let singles = Producers::start(clients(1), Arc::new(Beats::new(20, 2).named("single")), 1);
    for _ in 0..CUTS {
        cut_once(&mut collector, &disk, &mut dice);
    }
    collector.resume();
    bulks.await_kept(100, SOON);
    let kept = bulks.stop() + singles.stop();
    world.await_published(3 * SOON);
    world.await_drained(SOON);
    assert_eq!(world.held("dead"), 0, "nothing was to blame");
    world.verify();
    world.audit();
    collector.stop();
    world.judge();
    eprintln!("{CUTS} cuts, {kept} acknowledged, 0 lost, 0 doubled");
}

on_every_buffer! { power_cuts_of_the_data_disk_lose_and_double_nothing }
