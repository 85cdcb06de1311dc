//! What every heartbeat costs on its way in and out of the buffer: parsing and validating, encoding, opening.
//!
//! `cargo bench --bench heartbeat`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use systole::heartbeat::{Block, Frame, Limits, OpenFrame, Parsed, parse_array, parse_one};

const NOW: i64 = 1_795_000_000_000;
const LIMITS: Limits = Limits { max_clock_skew_ms: 300_000, max_age_ms: 30 * 86_400_000 };
const COUNT: u64 = 1_000;
const PARTITIONS: u16 = 16;

/// About 200 bytes, each another.
fn record(number: u64) -> String {
    let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        r#"{{"user_id":"user-{:05}","device_id":"laptop-{:06}","timestamp":{},"attributes":{{"project":"project-{}","language":"rust","file":"src/module_{}/file_{:04x}.rs","line":{},"is_write":{}}}}}"#,
        number % 1_000,
        number % 5_000,
        NOW - number as i64,
        dice >> 8 & 31,
        dice >> 16 & 63,
        dice >> 24 & 0xffff,
        dice >> 40 & 0xfff,
        dice >> 60 == 0,
    )
}

fn bulk() -> String {
    format!("[{}]", (0..COUNT).map(record).collect::<Vec<_>>().join(","))
}

fn parse(criterion: &mut Criterion) {
    let (one, bulk) = (record(1), bulk());
    let mut group = criterion.benchmark_group("parse and validate");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one", |bencher| bencher.iter(|| parse_one(black_box(one.as_bytes()), LIMITS, NOW).is_ok()));
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("a bulk of 1,000", |bencher| {
        bencher.iter(|| parse_array(black_box(bulk.as_bytes()), LIMITS, NOW, 10_000).map(|records| records.len()))
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let bulk = bulk();
    let parsed: Vec<Parsed<'_>> = parse_array(bulk.as_bytes(), LIMITS, NOW, 10_000).unwrap_or_default();
    let rows: Vec<_> = parsed.iter().flatten().map(systole::heartbeat::ParsedHeartbeat::as_ref).collect();
    let frame = Frame::encode(rows.iter().copied()).map(|frame| frame.bytes().clone()).unwrap_or_default();
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("encode by partition", |bencher| {
        bencher.iter(|| Block::encode_by_partition(black_box(&rows).iter().copied(), PARTITIONS, bulk.len()).len())
    });
    group.bench_function("encode", |bencher| bencher.iter(|| Frame::encode(black_box(&rows).iter().copied())));
    group.bench_function("open and read", |bencher| {
        bencher.iter(|| OpenFrame::open(black_box(&frame)).map(|frame| frame.rows().filter(Result::is_ok).count()))
    });
    group.finish();
}

criterion_group!(benches, parse, frames);
criterion_main!(benches);
