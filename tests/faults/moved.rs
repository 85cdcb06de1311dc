//! The folder of the dataset put away below running processes, as a disk that is unmounted is: nothing is acknowledged into
//! what stands in its place, no answer says that nothing is there, and all goes on by itself once the folder is back.

use std::fs;
use std::sync::Arc;

use crate::support::producers::Producers;
use crate::support::{Beats, Buffer, SOON, World, client, on_every_buffer, wait};

fn a_dataset_that_is_put_away_for_a_while_loses_and_doubles_nothing(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector();
    if buffer == Buffer::Redis {
        world.register();
        collector = collector.door_args([format!("--data={}", world.dataset().display())]);
    }
    let collector = collector.start();
    let producers = Producers::start(vec![collector.client(); 2], Arc::new(Beats::new(8, 2)), 20);
    let reading = format!("{}/v1/users/user-0/heartbeats?limit=10", collector.door().url());
    let read = || client::get(&reading).unwrap();
    let (data, away) = (world.dataset(), world.dataset().with_file_name("away"));
    let folders = [data.to_owned(), data.join("heartbeats"), data.join("staging")];
    // What is below a mount point is an empty folder.
    for (folder, instead) in folders.iter().flat_map(|folder| [(folder, false), (folder, true)]) {
        producers.await_kept(400, SOON);
        wait::until("a reading", SOON, || read().body["heartbeats"].as_array().is_some_and(|found| !found.is_empty()));
        fs::rename(folder, &away).unwrap();
        if instead {
            fs::create_dir(folder).unwrap();
        }
        wait::value("the batcher to say that the folder is another", SOON, || {
            let health = client::get(&format!("{}/health", collector.batcher().url())).ok_or("no answer")?;
            let told = health.status == 503 && health.text.contains("is not the folder that this process opened");
            if told { Ok(()) } else { Err(health.text) }
        });
        for _ in 0..20 {
            let answer = read();
            assert_eq!(answer.status, 503, "{}", answer.text);
        }
        if instead {
            fs::remove_dir_all(folder).unwrap();
        }
        fs::rename(&away, folder).unwrap();
        collector.batcher().await_status("/health", 200, SOON);
    }
    producers.await_kept(400, SOON);
    producers.stop();
    world.await_published(2 * SOON);
    world.await_drained(SOON);
    world.audit();
}

on_every_buffer! {
    a_dataset_that_is_put_away_for_a_while_loses_and_doubles_nothing,
}
