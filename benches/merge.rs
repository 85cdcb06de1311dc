//! A publish: the fragments of one bucket are merged into one published file, on a disk, with everything that belongs to
//! it. The figure is rows a second.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use systole::compactor::{Compactor, Metrics, Options, Silent};
use systole::dataset::{self, Bucket, Dataset, EncodedFragment, RealFs, encode_fragment};
use systole::heartbeat::{ClaimId, Heartbeat};
use systole::telemetry::metrics;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const FRAGMENTS: u64 = 16;
const ROWS: u64 = 2_000;
/// Rows of a fragment that stand in the one before as well.
const DOUBLES: u64 = 100;
const USERS: u64 = 1_000;
const DEVICES: u64 = 5_000;
/// 2026-11-22, 01:00 UTC.
const FROM: i64 = 1_795_309_200_000;
const BEAT_MS: u64 = 10_000;

/// The heartbeat of this number, as `scripts/load` makes them.
fn beat(number: u64) -> Heartbeat {
    let device = number % DEVICES;
    let dice = scramble(number);
    let language = ["rust", "python", "typescript", "go"][dice as usize % 4];
    let timestamp = FROM + (number / DEVICES * BEAT_MS) as i64;
    Heartbeat {
        user_id: format!("user-{:05}", device % USERS),
        device_id: format!("laptop-{device:06}"),
        timestamp,
        id: None,
        received_at: timestamp + (dice % 1_000) as i64,
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

/// Spreads numbers evenly (splitmix64).
fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn fragment(number: u64) -> EncodedFragment {
    let first = number * (ROWS - DOUBLES);
    let mut rows: Vec<_> = (first..first + ROWS).map(beat).collect();
    rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
    encode_fragment(&rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>()).unwrap()
}

/// A dataset whose fragments are staged, and its compactor.
fn staged(fragments: &[EncodedFragment]) -> (TempDir, Compactor) {
    let folder = TempDir::new().unwrap();
    let options =
        dataset::Options { data: folder.path().to_owned(), partitions: Some(1), ..dataset::Options::default() };
    let dataset = Dataset::open_or_create(&options, Arc::new(RealFs)).unwrap();
    let bucket = Bucket::of(FROM, 0);
    for (fragment, claim) in fragments.iter().zip(1..) {
        dataset.store_fragment(bucket, ClaimId::from_u128(claim), fragment).unwrap();
    }
    let metrics = Metrics::register(&metrics::registry().unwrap()).unwrap();
    (folder, Compactor::new(dataset, Options::default(), metrics))
}

fn publish(c: &mut Criterion) {
    let fragments: Vec<_> = (0..FRAGMENTS).map(fragment).collect();
    let mut group = c.benchmark_group("merge");
    group.sample_size(10).throughput(Throughput::Elements(FRAGMENTS * ROWS));
    group.bench_function("publish 16 fragments of 2,000", |bencher| {
        bencher.iter_batched(
            || staged(&fragments),
            |(folder, compactor)| {
                let summary = compactor.pass(&Silent, &CancellationToken::new()).unwrap();
                assert_eq!(summary.rows_published, FRAGMENTS * (ROWS - DOUBLES) + DOUBLES);
                black_box((folder, summary))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
