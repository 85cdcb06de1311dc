//! After the faults: the world is healed, drained and published, and judged by those who know nothing of how it was made.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use systole::books::audit::{Verdict, audit};
use systole::books::verify::verify;
use systole::dataset::{Dataset, RealFs};
use tokio::task::{JoinSet, spawn_blocking};

use crate::oracle::Snapshot;
use crate::schedule::SLOTS;
use crate::weather::Forecast;
use crate::world::{PARTITIONS, RIVAL, World};

/// Virtual seconds within which everything is drained once the weather is fair: retries wait at most ten seconds, a
/// partition that was yielded rests for five minutes.
const DRAINED_WITHIN: u32 = 900;
/// Passes within which everything is published.
const PASSES: u32 = 4;
/// All that was under way is over by then.
const STRAGGLERS: Duration = Duration::from_secs(120);

/// Heals the world, and notes every promise that is broken.
pub async fn heal(world: &Arc<World>, mut clients: JoinSet<()>) {
    let weather = &world.ground.weather;
    weather.set(Forecast { lies: weather.forecast().lies, ..Forecast::default() });
    world.ground.cut_power_after(-1);
    let all_ended = async { while clients.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STRAGGLERS, all_ended).await;
    tokio::time::sleep(STRAGGLERS).await;
    world.see_to_the_power().await;
    for slot in 0..SLOTS {
        world.kill_batcher_after(slot, -1);
        world.start_batcher(slot).await;
    }
    if !drain(world).await {
        return world.violation("what waits is not drained, in the fairest weather".into());
    }
    for slot in 0..SLOTS {
        if let Some(running) = world.take_batcher(slot) {
            running.stop().await;
        }
    }
    let healed = world.clone();
    let dataset = spawn_blocking(move || publish(&healed)).await.unwrap();
    judge(world, dataset).await;
}

/// Whether nothing waits and no claim stands.
pub async fn is_drained(world: &World) -> bool {
    let Ok(buffer) = world.place.buffer() else { return false };
    for partition in 0..PARTITIONS {
        match buffer.status(partition).await {
            Ok(status) if status.ledger.pending == 0 && status.claim.is_none() => {}
            _ => return false,
        }
    }
    true
}

async fn drain(world: &World) -> bool {
    let buffer = world.place.buffer().unwrap();
    for _ in 0..DRAINED_WITHIN {
        for partition in 0..PARTITIONS {
            // What owners died with, too often to be chance: it was laid aside, and a person has another try at it.
            for letter in buffer.dead_letters(partition, None, 100).await.unwrap() {
                world.ground.weather.count("dead letter retried");
                buffer.retry_dead_letter(partition, letter.id).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_drained(world).await {
            let mut dead = 0;
            for partition in 0..PARTITIONS {
                dead += buffer.status(partition).await.unwrap().ledger.dead;
            }
            if dead == 0 {
                return true;
            }
        }
    }
    false
}

/// Publishes all there is, and cleans up. Blocking.
fn publish(world: &World) -> Dataset {
    let mut clean = false;
    for _ in 0..PASSES {
        clean = world.compact(RIVAL, None).is_some_and(|summary| summary.is_clean() && summary.fragments_merged == 0);
        if clean {
            break;
        }
    }
    if !clean {
        let summary = world.compact(RIVAL, None);
        world.violation(format!("what is staged is not published, in the fairest weather: {summary:?}"));
    }
    world.look();
    // Leftovers are spared for an hour, and go with the next start and pass.
    world.ground.pass(Duration::from_secs(2 * 3_600));
    let dataset = world.open(world.ground.process().1).unwrap();
    for _ in 0..2 {
        world.compact(RIVAL, None);
    }
    for left in leftovers(&world.data) {
        world.violation(format!("left behind: {left}"));
    }
    dataset
}

/// What stands in the two trees beside published files, their indexes and locks.
fn leftovers(data: &Path) -> Vec<String> {
    let files: Vec<String> = crate::oracle::every_file(data)
        .into_iter()
        .map(|path| path.strip_prefix(data).unwrap().to_string_lossy().into_owned())
        .collect();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_published = |index: &str| files.iter().any(|file| file.ends_with(&format!("heartbeats-{index}.parquet")));
    let mut left: Vec<String> = files
        .iter()
        .filter(|path| {
            let name = name(path);
            match name.strip_prefix(".index_") {
                Some(index) => !is_published(index),
                None => {
                    !(path.starts_with("heartbeats/") && name.starts_with("heartbeats-")
                        || [".lock", ".compact.lock", ".dataset.lock", "dataset.json"].contains(&name.as_str()))
                }
            }
        })
        .cloned()
        .collect();
    for folder in fs::read_dir(data.join("staging")).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("date=") || name == ".dataset.lock")
        {
            left.push(folder.display().to_string());
        }
    }
    left
}

async fn judge(world: &Arc<World>, dataset: Dataset) {
    let buffer = world.place.buffer().unwrap();
    match audit(buffer, dataset.clone()).await {
        Ok(report) if report.verdict == Verdict::Balanced => {}
        Ok(report) => world.violation(format!("the audit says {:?}: {:?}", report.verdict, report.partitions)),
        Err(error) => world.violation(format!("the audit cannot look: {error}")),
    }
    let world = world.clone();
    spawn_blocking(move || {
        match verify(&dataset) {
            Ok(report) if report.is_sound() => {}
            Ok(report) => world.violation(format!("verify says {:?}", report.faults)),
            Err(error) => world.violation(format!("verify cannot look: {error}")),
        }
        match Snapshot::read(&world.data) {
            Ok(snapshot) => {
                snapshot.faults().into_iter().for_each(|fault| world.violation(fault));
                snapshot.disagreements(&world.ledger).into_iter().for_each(|fault| world.violation(fault));
            }
            Err(error) => world.violation(format!("what is published cannot be read: {error}")),
        }
    })
    .await
    .unwrap();
}

/// Rows published and duplicates dropped, by the books.
pub fn figures(world: &World) -> (u64, u64) {
    let Ok(dataset) = world.open(Arc::new(RealFs)) else { return (0, 0) };
    let records = dataset.buckets().unwrap_or_default().into_iter().flat_map(|bucket| {
        let names = dataset.list_published(bucket).unwrap_or_default();
        names.iter().filter_map(|name| dataset.publish_record(bucket, name).ok()).collect::<Vec<_>>()
    });
    records.fold((0, 0), |(rows, dropped), record| (rows + record.published_rows, dropped + record.deduplicated_rows))
}
