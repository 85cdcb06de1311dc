//! What of a user lies in the buffer: the first stage.

use std::sync::Arc;

use bytes::Bytes;

use super::collect::{Collector, Rows};
use super::place::Cut;
use super::reading::{Shared, Turn};
use super::{Error, Query};
use crate::heartbeat::{FrameError, OpenFrame, Partition};

/// Bytes of rows that are kept of what lies in the buffer.
const WAITING_BYTES: usize = 2 << 20;

/// The least rows of the buffer that match.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) rows: Rows,
    /// Before it they are all; what lies behind it must be looked for again.
    pub(super) end: Cut,
    /// Frames that were passed over.
    pub(super) skipped: u64,
}

/// What one look through some frames does.
#[derive(Debug)]
struct Look {
    query: Arc<Query>,
    collector: Collector,
    rows: u64,
    skipped: u64,
}

/// Looks through all frames of the partition.
pub(super) async fn take(
    shared: &Shared,
    turn: &Turn,
    query: &Arc<Query>,
    partition: Partition,
    begin: Cut,
) -> Result<Waiting, Error> {
    let collector = Collector::new(begin, query.ends(), WAITING_BYTES);
    let mut look = Look { query: query.clone(), collector, rows: 0, skipped: 0 };
    let mut from = None;
    loop {
        let page = shared.buffer.frames(partition, from).await?;
        if !page.frames.is_empty() {
            let turn = turn.clone();
            let looked = shared.aside.run(move || {
                let looked = look.through(page.frames);
                drop(turn);
                looked
            });
            look = looked.await??;
        }
        match page.next {
            None => break,
            next => from = next,
        }
    }
    shared.metrics.looked_at.inc_by(look.rows);
    shared.metrics.skipped_frames.inc_by(look.skipped);
    let (rows, end) = look.collector.finish();
    Ok(Waiting { rows, end, skipped: look.skipped })
}

impl Look {
    fn through(mut self, frames: Vec<Bytes>) -> Result<Self, Error> {
        for frame in frames {
            match self.frame(&frame) {
                Ok(()) => {}
                Err(FrameError::UnknownVersion(_)) => return Err(Error::Newer),
                Err(_) => self.skipped += 1,
            }
        }
        Ok(self)
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        for row in OpenFrame::open(frame)?.rows() {
            let row = row?;
            self.rows += 1;
            if row.user_id == self.query.user_id && self.query.wants(&row) {
                self.collector.offer(&row, false);
            }
        }
        Ok(())
    }
}
