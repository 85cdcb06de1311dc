//! Which frames carry which requests. Pure: no I/O, no clock.
//!
//! Small requests of one partition share frames, up to [`SHARED_ROWS`] and [`SHARED_BYTES`]; a large one gets frames of
//! its own, cut at [`OWN_ROWS`] and [`OWN_BYTES`], so that a full partition refuses it without its neighbours. Frames of
//! a partition carry the heartbeats in the order of their arrival.

use std::collections::{BTreeMap, HashMap};

use super::super::intake::Parcel;
use crate::heartbeat::{Block, FRAME_HEADER_LEN, Frame, Partition};

/// Heartbeats at which a shared frame is closed.
pub(super) const SHARED_ROWS: usize = 1_000;
/// Bytes of opened rows at which a shared frame is closed.
pub(super) const SHARED_BYTES: usize = 256 << 10;
/// Heartbeats at which a frame of one request is cut.
pub(super) const OWN_ROWS: usize = 4_096;
/// Bytes of opened rows at which a frame of one request is cut.
pub(super) const OWN_BYTES: usize = 1 << 20;

/// What one request has for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Index of the request.
    pub(super) request: usize,
    pub(super) partition: Partition,
    pub(super) blocks: Vec<Block>,
}

impl Slice {
    fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.rows() as usize).sum()
    }

    fn raw_len(&self) -> usize {
        self.blocks.iter().map(Block::raw_len).sum()
    }

    fn stored_len(&self) -> usize {
        self.blocks.iter().map(Block::stored_len).sum()
    }
}

/// Frames to push, and for each the requests that are in it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) frames: Vec<(Partition, Frame)>,
    pub(super) owners: Vec<Vec<usize>>,
}

/// Puts together what each request has for one partition, in the order of the requests.
pub(super) fn split(requests: Vec<Vec<Parcel>>) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::with_capacity(requests.len());
    for (request, mut parcels) in requests.into_iter().enumerate() {
        // Stable: the blocks of a partition stay in their order.
        parcels.sort_by_key(|(partition, _)| *partition);
        for (partition, block) in parcels {
            match slices.last_mut().filter(|last| last.request == request && last.partition == partition) {
                Some(last) => last.blocks.push(block),
                None => slices.push(Slice { request, partition, blocks: vec![block] }),
            }
        }
    }
    slices
}

/// A request and what it asks room for: partition, heartbeats, bytes.
pub(super) type Load = (usize, (Partition, u64, u64));

/// For each slice of a request that touches several partitions: what its partition must take up to and with it.
///
/// All that comes before it counts in, so that requests of one write do not each see the same free room.
pub(super) fn loads_of_the_scattered(slices: &[Slice]) -> Vec<Load> {
    let mut before: HashMap<Partition, (u64, u64)> = HashMap::new();
    let mut loads = Vec::new();
    for (at, slice) in slices.iter().enumerate() {
        let (rows, bytes) = before.entry(slice.partition).or_default();
        *rows += slice.rows() as u64;
        // Joining blocks only makes them shorter. A header of its own and one for each cut, at most.
        let headers = slice.blocks.len();
        *bytes += (slice.stored_len() + headers * FRAME_HEADER_LEN) as u64;
        let same = |neighbour: Option<&Slice>| neighbour.is_some_and(|other| other.request == slice.request);
        // Slices of one request are neighbours.
        if same(slices.get(at + 1)) || same(at.checked_sub(1).and_then(|at| slices.get(at))) {
            loads.push((slice.request, (slice.partition, *rows, *bytes)));
        }
    }
    loads
}

/// Puts slices into frames.
pub(super) fn encode(slices: Vec<Slice>) -> Plan {
    let mut by_partition: BTreeMap<Partition, Vec<Slice>> = BTreeMap::new();
    for slice in slices {
        by_partition.entry(slice.partition).or_default().push(slice);
    }
    let mut plan = Plan::default();
    for (partition, slices) in by_partition {
        let mut shared = Shared::default();
        for slice in slices {
            let (rows, bytes) = (slice.rows(), slice.raw_len());
            if rows > SHARED_ROWS || bytes > SHARED_BYTES {
                shared.close(partition, &mut plan);
                plan.push_own(slice);
            } else {
                if shared.rows + rows > SHARED_ROWS || shared.bytes + bytes > SHARED_BYTES {
                    shared.close(partition, &mut plan);
                }
                shared.add(slice, rows, bytes);
            }
        }
        shared.close(partition, &mut plan);
    }
    plan
}

/// A frame that small requests share, while it is filled.
#[derive(Debug, Default)]
struct Shared {
    blocks: Vec<Block>,
    owners: Vec<usize>,
    rows: usize,
    bytes: usize,
}

impl Shared {
    fn add(&mut self, slice: Slice, rows: usize, bytes: usize) {
        self.blocks.extend(slice.blocks);
        self.owners.push(slice.request);
        self.rows += rows;
        self.bytes += bytes;
    }

    fn close(&mut self, partition: Partition, plan: &mut Plan) {
        let Self { blocks, owners, .. } = std::mem::take(self);
        plan.push(partition, &Block::join(blocks), owners);
    }
}

impl Plan {
    fn push(&mut self, partition: Partition, blocks: &[Block], owners: Vec<usize>) {
        if let Some(frame) = Frame::of(blocks) {
            self.frames.push((partition, frame));
            self.owners.push(owners);
        }
    }

    fn push_own(&mut self, slice: Slice) {
        let (mut begin, mut rows, mut bytes) = (0, 0, 0);
        for (at, block) in slice.blocks.iter().enumerate() {
            let (more_rows, more_bytes) = (block.rows() as usize, block.raw_len());
            if at > begin && (rows + more_rows > OWN_ROWS || bytes + more_bytes > OWN_BYTES) {
                self.push(slice.partition, &slice.blocks[begin..at], vec![slice.request]);
                (begin, rows, bytes) = (at, 0, 0);
            }
            rows += more_rows;
            bytes += more_bytes;
        }
        self.push(slice.partition, &slice.blocks[begin..], vec![slice.request]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heartbeat::{FrameHeader, Heartbeat, OpenFrame, partition_of};

    fn heartbeat(user: u32, nth: i64, padding: usize) -> Heartbeat {
        Heartbeat {
            user_id: format!("user-{user}"),
            device_id: "d".into(),
            timestamp: nth,
            id: (nth % 2 == 0).then(|| "id".into()),
            received_at: 1,
            attributes: (padding > 0).then(|| format!("{{\"k\":\"{}\"}}", "x".repeat(padding))),
        }
    }

    fn parcels(requests: &[Vec<Heartbeat>], partitions: Partition) -> Vec<Vec<Parcel>> {
        requests
            .iter()
            .map(|own| Block::encode_by_partition(own.iter().map(Heartbeat::as_ref), partitions, 0))
            .collect()
    }

    fn slices(requests: &[Vec<Heartbeat>], partitions: Partition) -> Vec<Slice> {
        split(parcels(requests, partitions))
    }

    fn requests() -> impl Strategy<Value = Vec<Vec<Heartbeat>>> {
        let request = (1..2_500_usize, 1..40_u32, 0..900_usize).prop_map(|(rows, users, padding)| {
            // Mostly small ones, and some that are cut.
            let rows = if rows > 2_300 { rows * 4 } else { 1 + rows % 60 };
            (0..rows).map(|row| heartbeat(row as u32 % users, row as i64, padding)).collect()
        });
        proptest::collection::vec(request, 1..12).prop_map(|mut requests: Vec<Vec<Heartbeat>>| {
            for (nth, request) in requests.iter_mut().enumerate() {
                request.iter_mut().for_each(|heartbeat| heartbeat.device_id = nth.to_string());
            }
            requests
        })
    }

    proptest! {
            #![proptest_config(ProptestConfig::with_cases(24))]
            #[test]
            fn every_heartbeat_is_in_exactly_one_frame_of_its_partition(requests in requests(), partitions in 1..9_u16) {
                let plan = encode(slices(&requests, partitions));
                let mut found: Vec<Vec<Heartbeat>> = vec![Vec::new(); partitions.into()];
                for ((partition, frame), owners) in plan.frames.iter().zip(&plan.owners) {
                    prop_assert!(frame.rows() as usize <= OWN_ROWS);
                    let raw = FrameHeader::peek(frame.bytes()).unwrap().raw as usize;
                    prop_assert!(raw <= OWN_BYTES);
                    prop_assert!(owners.len() == 1 || frame.rows() as usize <= SHARED_ROWS);
                    prop_assert!(owners.len() == 1 || raw <= SHARED_BYTES);
                    for row in OpenFrame::open(frame.bytes()).unwrap().all_rows().unwrap() {
                        prop_assert_eq!(partition_of(row.user_id, partitions), *partition);
    // The device names the request that it came in.
                        prop_assert!(owners.contains(&row.device_id.parse().unwrap()));
                        found[usize::from(*partition)].push(Heartbeat {
                            user_id: row.user_id.into(), device_id: row.device_id.into(), timestamp: row.timestamp,
                            id: row.id.map(Into::into), received_at: row.received_at, attributes: row.attributes.map(Into::into),
                        });
                    }
                }
                // In the order of arrival.
                for (partition, found) in found.into_iter().enumerate() {
                    let sent: Vec<_> = requests.iter().flatten()
                        .filter(|sent| usize::from(partition_of(&sent.user_id, partitions)) == partition).cloned().collect();
                    prop_assert_eq!(found, sent);
                }
            }

            #[test]
            fn room_is_asked_for_no_less_than_is_pushed(requests in requests(), partitions in 1..9_u16) {
                let slices = slices(&requests, partitions);
                let asked = loads_of_the_scattered(&slices);
                let plan = encode(slices);
                for partition in 0..partitions {
                    let pushed: u64 = plan.frames.iter().filter(|(of, _)| *of == partition).map(|(_, frame)| frame.bytes().len() as u64).sum();
                    let last_is_scattered = requests.last().is_some_and(|last| {
                        last.iter().any(|own| partition_of(&own.user_id, partitions) == partition)
                            && last.iter().any(|own| partition_of(&own.user_id, partitions) != partition)
                    });
                    if last_is_scattered {
                        let most = asked.iter().filter(|(_, load)| load.0 == partition).map(|(_, load)| load.2).max();
                        prop_assert!(most >= Some(pushed), "{most:?} {pushed}");
                    }
                }
            }
        }

    #[test]
    fn small_requests_share_a_frame_and_a_bulk_has_its_own() {
        let small = || vec![heartbeat(1, 1, 0)];
        let requests = vec![small(), small(), (0..10_000).map(|nth| heartbeat(1, nth, 0)).collect(), small()];
        let plan = encode(slices(&requests, 1));
        assert_eq!(plan.owners, [vec![0, 1], vec![2], vec![2], vec![2], vec![3]]);
        assert_eq!(plan.frames.iter().map(|(_, frame)| frame.rows()).collect::<Vec<_>>(), [2, 4_096, 4_096, 1_808, 1]);
    }

    #[test]
    fn only_requests_of_several_partitions_ask_for_room() {
        let requests = vec![vec![heartbeat(1, 1, 0)], vec![heartbeat(1, 2, 0), heartbeat(1, 3, 0)]];
        assert_eq!(loads_of_the_scattered(&slices(&requests, 16)), []);
        let in_partition = |wanted| {
            (0..).map(|user| heartbeat(user, 1, 0)).find(|found| partition_of(&found.user_id, 2) == wanted).unwrap()
        };
        let (one, other) = (in_partition(0), in_partition(1));
        let requests = vec![vec![one.clone()], vec![one, other]];
        let loads = loads_of_the_scattered(&slices(&requests, 2));
        assert_eq!(loads.iter().map(|(request, load)| (*request, load.1)).collect::<Vec<_>>(), [(1, 2), (1, 1)]);
    }
}
