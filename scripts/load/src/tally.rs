//! What became of requests.

use std::time::Duration;

/// Counts of the requests that were answered after the warm-up.
#[derive(Debug, Default)]
pub struct Tally {
    accepted_requests: u64,
    accepted: u64,
    put_off: u64,
    refused: u64,
    bytes: u64,
    /// How long each accepted request took, in microseconds.
    micros: Vec<u32>,
}

impl Tally {
    pub fn accepted(&mut self, heartbeats: u64, bytes: usize, took: Duration) {
        self.accepted_requests += 1;
        self.accepted += heartbeats;
        self.bytes += bytes as u64;
        self.micros.push(took.as_micros().try_into().unwrap_or(u32::MAX));
    }

    /// Answered with 429 or 503.
    pub fn put_off(&mut self) {
        self.put_off += 1;
    }

    /// Answered with anything else.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    pub fn add(&mut self, mut other: Self) {
        self.accepted_requests += other.accepted_requests;
        self.accepted += other.accepted;
        self.put_off += other.put_off;
        self.refused += other.refused;
        self.bytes += other.bytes;
        self.micros.append(&mut other.micros);
    }

    /// All of it on one line. `sent` counts heartbeats, with those of the warm-up; `next` is the number of the first that
    /// was not sent.
    pub fn line(&mut self, took: Duration, sent: u64, next: u64) -> String {
        self.micros.sort_unstable();
        let millis = |share: f64| {
            let at = (self.micros.len() as f64 * share) as usize;
            self.micros.get(at).or(self.micros.last()).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        let seconds = took.as_secs_f64();
        format!(
            "accepted={} per_s={:.0} requests={} put_off={} refused={} seconds={seconds:.3} mb_per_s={:.1} \
             p50_ms={:.3} p99_ms={:.3} p999_ms={:.3} sent={sent} next={next}",
            self.accepted,
            self.accepted as f64 / seconds,
            self.accepted_requests,
            self.put_off,
            self.refused,
            self.bytes as f64 / seconds / 1e6,
            millis(0.5),
            millis(0.99),
            millis(0.999),
        )
    }
}
