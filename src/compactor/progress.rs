//! Signs of life from a pass, for a terminal or for health.

use crate::dataset::Bucket;

/// Is told how a pass goes on, from the thread that works; a call must be quick.
pub trait Progress: Send + Sync {
    /// The pass will look at so many buckets.
    fn begins(&self, buckets: usize) {
        let _ = buckets;
    }

    /// So many more rows went through a merge.
    fn rows(&self, rows: u64) {
        let _ = rows;
    }

    /// The pass is done with one more bucket.
    fn bucket_done(&self, bucket: Bucket) {
        let _ = bucket;
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// A bar on standard error; it shows nothing where that is no terminal, and removes itself when dropped.
#[derive(Debug)]
pub struct Bar {
    bar: indicatif::ProgressBar,
    rows: std::sync::atomic::AtomicU64,
}

impl Bar {
    /// An empty bar.
    pub fn new() -> Self {
        let bar = indicatif::ProgressBar::new(0);
        if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} buckets, {msg}") {
            bar.set_style(style);
        }
        bar.set_message("0 rows merged");
        Self { bar, rows: 0.into() }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn begins(&self, buckets: usize) {
        self.bar.set_length(buckets as u64);
    }

    fn rows(&self, rows: u64) {
        let merged = self.rows.fetch_add(rows, std::sync::atomic::Ordering::Relaxed) + rows;
        self.bar.set_message(format!("{merged} rows merged"));
    }

    fn bucket_done(&self, bucket: Bucket) {
        let _ = bucket;
        self.bar.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
