//! What every heartbeat costs between buffer and fragment: opening frames, sorting by date and user, encoding.
//!
//! `cargo bench --bench fragment`

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use systole::dataset::{Bucket, encode_fragment};
use systole::heartbeat::{self, Frame, Heartbeat, HeartbeatRef, OpenFrame};

const ROWS: u64 = 20_000;
const FRAME_ROWS: usize = 200;
const PARTITION: u16 = 3;
const USERS: u64 = 60;
const DEVICES: u64 = 300;
/// 2026-11-22, an hour before midnight UTC.
const FROM: i64 = 1_795_388_400_000;

/// The heartbeat of this number, as `scripts/load` makes them, of the users of one partition.
fn beat(number: u64) -> Heartbeat {
    let device = number % DEVICES;
    let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let language = ["rust", "python", "typescript", "go"][dice as usize % 4];
    let timestamp = FROM + (number / DEVICES * 10_000) as i64;
    Heartbeat {
        user_id: format!("user-{:05}", device % USERS * 16),
        device_id: format!("laptop-{device:06}"),
        timestamp,
        id: None,
        received_at: timestamp + (dice >> 54) as i64,
        attributes: Some(format!(
            r#"{{"project":"project-{}","language":"{language}","file":"src/module_{}/file_{:04x}.rs","line":{},"is_write":{}}}"#,
            dice >> 8 & 31,
            dice >> 16 & 63,
            dice >> 24 & 0xffff,
            dice >> 40 & 0xfff,
            dice >> 60 == 0,
        )),
    }
}

/// The rows of each date, as the batcher sorts them.
fn sorted<'a>(frames: &'a [OpenFrame<'_>]) -> BTreeMap<Bucket, Vec<HeartbeatRef<'a>>> {
    let mut buckets: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in frames.iter().flat_map(OpenFrame::rows) {
        let row = row.unwrap();
        buckets.entry(Bucket::of(row.timestamp, PARTITION)).or_default().push(row);
    }
    buckets.values_mut().for_each(|rows| heartbeat::sort(rows));
    buckets
}

fn fragment(criterion: &mut Criterion) {
    let beats: Vec<_> = (0..ROWS).map(beat).collect();
    let encode = |rows: &[Heartbeat]| Frame::encode(rows.iter().map(Heartbeat::as_ref)).unwrap().bytes().clone();
    let frames: Vec<Bytes> = beats.chunks(FRAME_ROWS).map(encode).collect();
    let open = || frames.iter().map(|frame| OpenFrame::open(black_box(frame)).unwrap()).collect::<Vec<_>>();

    let mut group = criterion.benchmark_group("fragment");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("open, split by date and sort", |bencher| bencher.iter(|| sorted(&open()).len()));
    let mut rows: Vec<_> = beats.iter().map(Heartbeat::as_ref).collect();
    group.bench_function("sort", |bencher| {
        bencher.iter_batched(|| rows.clone(), |mut rows| heartbeat::sort(&mut rows), BatchSize::LargeInput)
    });
    heartbeat::sort(&mut rows);
    group.bench_function("encode", |bencher| bencher.iter(|| encode_fragment(black_box(&rows)).unwrap().rows));
    group.finish();
}

criterion_group!(benches, fragment);
criterion_main!(benches);
