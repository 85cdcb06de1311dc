//! Pushing frames: as many of them in one call of the script as its bounds and the kind of server allow.

use std::collections::BTreeMap;

use redis::Value;

use super::super::devices::Memory;
use super::super::{Error, Result};
use super::buffer::RedisBuffer;
use super::connection::{Call, Outcome};
use super::marks::Known;
use super::reply::{Asked, Reply};
use super::script::{self, Script};
use crate::heartbeat::{Frame, Partition, Sighting, Sightings};

/// Frames of one call at most,
const MAX_FRAMES: usize = 128;
/// bytes with which it is full: Redis serves nobody else meanwhile, for a millisecond or two,
const MAX_BYTES: usize = 1 << 20;
/// and devices in them, unless one frame alone has more: some milliseconds more for so many.
const MAX_DEVICES: usize = 4_096;

/// The frames of one call, by their place in what is pushed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    partitions: Vec<Partition>,
    /// The frame, and the number of its partition in `partitions`, from 1.
    frames: Vec<(usize, usize)>,
    bytes: usize,
    devices: usize,
}

impl Batch {
    fn add(&mut self, place: usize, partition: Partition, frame: &Frame) {
        let known = self.partitions.iter().position(|known| *known == partition);
        let number = known.unwrap_or_else(|| {
            self.partitions.push(partition);
            self.partitions.len() - 1
        });
        self.frames.push((place, number + 1));
        self.bytes += frame.bytes().len();
        self.devices += frame.sightings().count();
    }

    fn has_room(&self, partition: Partition, frame: &Frame, one_partition: bool) -> bool {
        let foreign = one_partition && self.partitions.first().is_some_and(|own| *own != partition);
        let few = self.devices + frame.sightings().count() <= MAX_DEVICES;
        !foreign && few && self.frames.len() < MAX_FRAMES && self.bytes < MAX_BYTES
    }
}

/// Cuts what is pushed into calls. On a Cluster partitions lie on different nodes, so a call is of one partition.
fn batches(frames: &[(Partition, Frame)], one_partition: bool) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (place, (partition, frame)) in frames.iter().enumerate() {
        match batches.last_mut().filter(|last| last.has_room(*partition, frame, one_partition)) {
            Some(last) => last.add(place, *partition, frame),
            None => {
                let mut next = Batch::default();
                next.add(place, *partition, frame);
                batches.push(next);
            }
        }
    }
    batches
}

impl RedisBuffer {
    pub(super) async fn push_all(&self, frames: &[(Partition, Frame)]) -> Result<Vec<Result<()>>> {
        let registration = self.registered().await?;
        let (cap_rows, cap_bytes) = self.caps(registration);
        let memory = Memory::of(&self.common, registration);
        let dataset = registration.dataset.to_string();
        let batches = batches(frames, self.connections.to_cluster());
        let script: &'static Script = &script::PUSH;
        let call = |batch: &Batch| {
            let mut command = script.call_on(&batch.partitions);
            command.arg(&dataset).arg(cap_rows).arg(cap_bytes).arg(memory.for_ms).arg(memory.devices);
            for (place, number) in &batch.frames {
                let frame = &frames[*place].1;
                command.arg(number).arg(&frame.bytes()[..]);
                let seen = (memory.devices > 0).then(|| frame.sightings());
                command.arg(seen.map_or(0, Sightings::count));
                for Sighting { name, last_seen } in seen.into_iter().flat_map(Sightings::iter) {
                    command.arg(last_seen).arg(name);
                }
            }
            let key = batch.partitions.first().map(|first| script.first_key(*first)).unwrap_or_default();
            Call { script, command, key }
        };
        let asked: BTreeMap<Partition, Known> =
            frames.iter().map(|(partition, _)| (*partition, self.marks.known(*partition))).collect();
        let outcomes = self.connections.run(batches.iter().map(call).collect(), self.replicas()).await?;
        let mut seen: BTreeMap<Partition, (u64, Option<u64>)> = BTreeMap::new();
        let unanswered = || Err(Error::Corrupt { detail: "push answered for too few frames".into() });
        let mut held: Vec<Result<()>> = frames.iter().map(|_| unanswered()).collect();
        for (batch, outcome) in batches.iter().zip(outcomes) {
            match answers(outcome) {
                Err(error) => batch.frames.iter().for_each(|(place, _)| held[*place] = Err(error.clone())),
                Ok((answers, replicas)) => {
                    for ((place, _), answer) in batch.frames.iter().zip(answers) {
                        let (partition, frame) = &frames[*place];
                        let asked = Asked { dataset: registration.dataset, partition: *partition };
                        let accepted = Reply::read(script.name, answer, asked).and_then(read_held);
                        held[*place] = accepted.and_then(|after| {
                            let before = after.saturating_sub(frame.rows().into());
                            let confirmed = self.check_replicas(replicas);
                            seen.entry(*partition).or_insert((before, None)).1 = confirmed.is_ok().then_some(after);
                            confirmed
                        });
                    }
                }
            }
        }
        self.compare(&asked, &seen);
        Ok(held)
    }

    /// Looks whether a partition had accepted less before the first of these frames than was known when they were sent.
    fn compare(&self, asked: &BTreeMap<Partition, Known>, seen: &BTreeMap<Partition, (u64, Option<u64>)>) {
        let mut gone_back = false;
        for (partition, (before, sure)) in seen {
            gone_back |= asked.get(partition).is_some_and(|asked| self.marks.see(*partition, *asked, *before, *sure));
        }
        if gone_back {
            self.connections.forget();
        }
    }
}

/// What the partition has accepted up to and with the frame that is held.
fn read_held(mut reply: Reply) -> Result<u64> {
    reply.expect("held")?;
    reply.count()
}

fn answers(outcome: Outcome) -> Result<(Vec<Value>, Option<u32>)> {
    match outcome.answer? {
        Value::Array(answers) => Ok((answers, outcome.replicas)),
        _ => Err(Error::Corrupt { detail: "push answered no list".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::HeartbeatRef;

    fn frame() -> Frame {
        let row =
            HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 1, attributes: None };
        Frame::encode([row]).unwrap()
    }

    fn of(partitions: &[Partition]) -> Vec<(Partition, Frame)> {
        partitions.iter().map(|partition| (*partition, frame())).collect()
    }

    #[test]
    fn one_call_takes_frames_of_all_partitions_and_on_a_cluster_of_one() {
        let frames = of(&[3, 3, 5, 3]);
        let together = batches(&frames, false);
        assert_eq!(together.len(), 1);
        assert_eq!(together[0].partitions, [3, 5]);
        assert_eq!(together[0].frames, [(0, 1), (1, 1), (2, 2), (3, 1)]);
        let apart: Vec<_> =
            batches(&frames, true).into_iter().map(|batch| (batch.partitions, batch.frames.len())).collect();
        assert_eq!(apart, [(vec![3], 2), (vec![5], 1), (vec![3], 1)]);
    }

    #[test]
    fn a_call_is_bounded_and_every_frame_is_in_one() {
        let frames = of(&[7; 2 * MAX_FRAMES + 1]);
        let sizes: Vec<_> = batches(&frames, false).iter().map(|batch| batch.frames.len()).collect();
        assert_eq!(sizes, [MAX_FRAMES, MAX_FRAMES, 1]);
        assert_eq!(batches(&[], false), []);
    }

    #[test]
    fn a_call_carries_the_devices_of_many_frames_or_of_one_that_has_more() {
        let frame = |devices: usize| {
            let names: Vec<String> = (0..devices).map(|nth| nth.to_string()).collect();
            let row =
                HeartbeatRef { user_id: "u", timestamp: 1, device_id: "d", id: None, received_at: 1, attributes: None };
            (7, Frame::encode(names.iter().map(|device_id| HeartbeatRef { device_id, ..row })).unwrap())
        };
        let frames = [frame(4_000), frame(96), frame(1), frame(5_000), frame(1)];
        let sizes: Vec<_> = batches(&frames, false).iter().map(|batch| batch.devices).collect();
        assert_eq!(sizes, [4_096, 1, 5_000, 1]);
    }
}
