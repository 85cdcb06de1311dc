//! Which frames carry which requests. Pure: no I/O, no clock.
//!
//! Small requests of one partition share frames, up to [`SHARED_ROWS`] and [`SHARED_BYTES`]; a large one gets frames of
//! its own, cut at [`OWN_ROWS`] and [`OWN_BYTES`], so that a full partition refuses it without its neighbours. Frames of
//! a partition carry the heartbeats in the order of their arrival.

use crate::heartbeat::{FRAME_HEADER_LEN, Frame, Heartbeat, Partition, partition_of};

/// Heartbeats at which a shared frame is closed.
pub(super) const SHARED_ROWS: usize = 1_000;
/// Encoded bytes at which a shared frame is closed.
pub(super) const SHARED_BYTES: usize = 256 << 10;
/// Heartbeats at which a frame of one request is cut.
pub(super) const OWN_ROWS: usize = 4_096;
/// Encoded bytes at which a frame of one request is cut.
pub(super) const OWN_BYTES: usize = 1 << 20;

/// The heartbeats of one request that belong to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Index of the request.
    pub(super) request: usize,
    pub(super) partition: Partition,
    /// Indexes of its heartbeats.
    pub(super) rows: Vec<usize>,
    /// What they take encoded, without a header.
    pub(super) bytes: usize,
}

/// Frames to push, and for each the requests that are in it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) frames: Vec<(Partition, Frame)>,
    pub(super) owners: Vec<Vec<usize>>,
}

/// Bytes that a heartbeat takes in a frame; see the layout in `heartbeat/frame.rs`.
pub(super) fn encoded_len(heartbeat: &Heartbeat) -> usize {
    // Flags and two length bytes, then one for an id and two for attributes.
    let id = usize::from(heartbeat.id.is_some());
    let attributes = 2 * usize::from(heartbeat.attributes.is_some());
    heartbeat.as_ref().raw_len() + 3 + id + attributes
}

/// Cuts each request by partition, in the order of the requests.
pub(super) fn split(requests: &[Vec<Heartbeat>], partitions: Partition) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::with_capacity(requests.len());
    // Where the slice of a partition stands, valid for the request that is being cut.
    let mut place: Vec<Option<usize>> = vec![None; partitions.max(1).into()];
    for (request, heartbeats) in requests.iter().enumerate() {
        let begin = slices.len();
        for (row, heartbeat) in heartbeats.iter().enumerate() {
            let partition = partition_of(&heartbeat.user_id, partitions);
            let at = *place[usize::from(partition)].get_or_insert_with(|| {
                slices.push(Slice { request, partition, rows: Vec::new(), bytes: 0 });
                slices.len() - 1
            });
            slices[at].rows.push(row);
            slices[at].bytes += encoded_len(heartbeat);
        }
        for slice in &slices[begin..] {
            place[usize::from(slice.partition)] = None;
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
    let mut before: std::collections::HashMap<Partition, (u64, u64)> = std::collections::HashMap::new();
    let mut loads = Vec::new();
    for (at, slice) in slices.iter().enumerate() {
        let (rows, bytes) = before.entry(slice.partition).or_default();
        *rows += slice.rows.len() as u64;
        // A header of its own and one for each cut, at most.
        let headers = 1 + slice.rows.len() / OWN_ROWS + slice.bytes / (OWN_BYTES / 2);
        *bytes += (slice.bytes + headers * FRAME_HEADER_LEN) as u64;
        let same = |neighbour: Option<&Slice>| neighbour.is_some_and(|other| other.request == slice.request);
        // Slices of one request are neighbours.
        if same(slices.get(at + 1)) || same(at.checked_sub(1).and_then(|at| slices.get(at))) {
            loads.push((slice.request, (slice.partition, *rows, *bytes)));
        }
    }
    loads
}

/// Encodes slices into frames.
pub(super) fn encode(requests: &[Vec<Heartbeat>], slices: Vec<Slice>) -> Plan {
    let mut by_partition: std::collections::BTreeMap<Partition, Vec<Slice>> = std::collections::BTreeMap::new();
    for slice in slices {
        by_partition.entry(slice.partition).or_default().push(slice);
    }
    let mut plan = Plan::default();
    for (partition, slices) in by_partition {
        let mut shared = Shared::default();
        for slice in slices {
            if slice.rows.len() > SHARED_ROWS || slice.bytes > SHARED_BYTES {
                shared.close(requests, partition, &mut plan);
                plan.push_own(requests, &slice);
            } else {
                if shared.rows.len() + slice.rows.len() > SHARED_ROWS || shared.bytes + slice.bytes > SHARED_BYTES {
                    shared.close(requests, partition, &mut plan);
                }
                shared.add(&slice);
            }
        }
        shared.close(requests, partition, &mut plan);
    }
    plan
}

/// A frame that small requests share, while it is filled.
#[derive(Debug, Default)]
struct Shared {
    rows: Vec<(usize, usize)>,
    owners: Vec<usize>,
    bytes: usize,
}

impl Shared {
    fn add(&mut self, slice: &Slice) {
        self.rows.extend(slice.rows.iter().map(|&row| (slice.request, row)));
        self.owners.push(slice.request);
        self.bytes += slice.bytes;
    }

    fn close(&mut self, requests: &[Vec<Heartbeat>], partition: Partition, plan: &mut Plan) {
        let Self { rows, owners, .. } = std::mem::take(self);
        plan.push(partition, Frame::encode(rows.iter().map(|&(request, row)| requests[request][row].as_ref())), owners);
    }
}

impl Plan {
    fn push(&mut self, partition: Partition, frame: Option<Frame>, owners: Vec<usize>) {
        if let Some(frame) = frame {
            self.frames.push((partition, frame));
            self.owners.push(owners);
        }
    }

    fn push_own(&mut self, requests: &[Vec<Heartbeat>], slice: &Slice) {
        let heartbeats = &requests[slice.request];
        let (mut begin, mut bytes) = (0, 0);
        for (at, &row) in slice.rows.iter().enumerate() {
            let len = encoded_len(&heartbeats[row]);
            if at > begin && (at - begin >= OWN_ROWS || bytes + len > OWN_BYTES) {
                self.push_cut(heartbeats, slice, begin..at);
                (begin, bytes) = (at, 0);
            }
            bytes += len;
        }
        self.push_cut(heartbeats, slice, begin..slice.rows.len());
    }

    fn push_cut(&mut self, heartbeats: &[Heartbeat], slice: &Slice, cut: std::ops::Range<usize>) {
        let frame = Frame::encode(slice.rows[cut].iter().map(|&row| heartbeats[row].as_ref()));
        self.push(slice.partition, frame, vec![slice.request]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heartbeat::FrameRows;

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
                let plan = encode(&requests, split(&requests, partitions));
                let mut found: Vec<Vec<Heartbeat>> = vec![Vec::new(); partitions.into()];
                for ((partition, frame), owners) in plan.frames.iter().zip(&plan.owners) {
                    prop_assert!(frame.rows() as usize <= OWN_ROWS);
                    prop_assert!(frame.bytes().len() <= OWN_BYTES + FRAME_HEADER_LEN);
                    prop_assert!(owners.len() == 1 || frame.rows() as usize <= SHARED_ROWS);
                    prop_assert!(owners.len() == 1 || frame.bytes().len() <= SHARED_BYTES + FRAME_HEADER_LEN);
                    for row in FrameRows::decode(frame.bytes()).unwrap() {
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
                let slices = split(&requests, partitions);
                let asked = loads_of_the_scattered(&slices);
                let plan = encode(&requests, slices);
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
        let plan = encode(&requests, split(&requests, 1));
        assert_eq!(plan.owners, [vec![0, 1], vec![2], vec![2], vec![2], vec![3]]);
        assert_eq!(plan.frames.iter().map(|(_, frame)| frame.rows()).collect::<Vec<_>>(), [2, 4_096, 4_096, 1_808, 1]);
    }

    #[test]
    fn only_requests_of_several_partitions_ask_for_room() {
        let requests = vec![vec![heartbeat(1, 1, 0)], vec![heartbeat(1, 2, 0), heartbeat(1, 3, 0)]];
        assert_eq!(loads_of_the_scattered(&split(&requests, 16)), []);
        let in_partition = |wanted| {
            (0..).map(|user| heartbeat(user, 1, 0)).find(|found| partition_of(&found.user_id, 2) == wanted).unwrap()
        };
        let (one, other) = (in_partition(0), in_partition(1));
        let requests = vec![vec![one.clone()], vec![one, other]];
        let loads = loads_of_the_scattered(&split(&requests, 2));
        assert_eq!(loads.iter().map(|(request, load)| (*request, load.1)).collect::<Vec<_>>(), [(1, 2), (1, 1)]);
    }
}
