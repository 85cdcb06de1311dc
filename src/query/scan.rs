//! A walk over what a query asks for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::sync::OwnedSemaphorePermit;

use super::aside::Aside;
use super::collect::{Row, Rows};
use super::files::{self, Collected};
use super::place::Cut;
use super::reading::{Shared, Turn};
use super::waiting::{self, Waiting};
use super::{Error, Position, Query, reached};
use crate::buffer;
use crate::dataset::Bucket;
use crate::heartbeat::{HeartbeatRef, Partition, partition_of};

/// Bytes at which a page ends at the latest.
const PAGE_BYTES: usize = 256 << 10;

/// A walk over what a query asks for, page by page.
#[derive(Debug)]
pub struct Scan {
    shared: Arc<Shared>,
    query: Arc<Query>,
    /// Everything before it was given.
    given: Cut,
    /// Everything before it was given or is ready.
    reached: Cut,
    ready: Rows,
    round: Option<Round>,
    /// For what is kept from one page to the next.
    kept: Option<OwnedSemaphorePermit>,
    has_begun: bool,
    skipped: u64,
}

/// What lies in the buffer, and the dates that were there after it was read.
#[derive(Debug)]
struct Round {
    partition: Partition,
    waiting: Waiting,
    dates: VecDeque<Date>,
}

impl Scan {
    pub(super) fn new(shared: Arc<Shared>, query: Query, after: Option<Position>) -> Self {
        let begin = query.begins().max(after.map_or(Cut::Start, Cut::behind));
        Self {
            shared,
            query: Arc::new(query),
            given: begin.clone(),
            reached: begin,
            ready: Rows::default(),
            round: None,
            kept: None,
            has_begun: false,
            skipped: 0,
        }
    }

    /// The next heartbeats in order, at most `most` of them (and one at least) and some 256 KiB; `None` at the end. A page may
    /// have fewer though more come.
    ///
    /// What was acknowledged before the first call and lies behind the place where the walk began is in one of the pages,
    /// however it moves meanwhile. What is acknowledged later may be.
    ///
    /// # Errors
    /// Those of the stores. The walk may be continued by calling again: nothing is given twice, and nothing left out.
    pub async fn next(&mut self, most: usize) -> Result<Option<Page>, Error> {
        let began = Instant::now();
        let outcome = self.make_page(most.max(1)).await;
        self.shared.note(outcome.as_ref().map(drop));
        self.keep_what_may_be_kept();
        if let Ok(Some(page)) = &outcome {
            self.has_begun = true;
            self.shared.metrics.pages.inc();
            self.shared.metrics.page_seconds.observe(began.elapsed().as_secs_f64());
            self.shared.metrics.given.inc_by(page.rows.len() as u64);
        }
        outcome
    }

    /// Where what is made of its pages takes nothing from the door.
    pub(crate) fn aside(&self) -> &Aside {
        &self.shared.aside
    }

    /// Frames in the buffer that were passed over so far because they cannot be decoded. They become dead letters, and may
    /// hold heartbeats of anybody.
    pub fn skipped_frames(&self) -> u64 {
        self.skipped
    }

    async fn make_page(&mut self, most: usize) -> Result<Option<Page>, Error> {
        while self.ready.len() == 0 {
            if self.reached >= self.query.ends() {
                return Ok(None);
            }
            let turn = self.shared.turn(!self.has_begun).await?;
            self.go_on(&turn).await?;
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < most
            && bytes < PAGE_BYTES
            && let Some(row) = self.ready.pop_first()
        {
            bytes += row.bytes();
            rows.push(row);
        }
        if let Some(last) = rows.last() {
            self.given = Cut::behind(last.position());
        }
        Ok(Some(Page { user_id: self.query.user_id.clone(), rows }))
    }

    /// One slice: the buffer and the dates, or one date, or what is behind the last date.
    async fn go_on(&mut self, turn: &Turn) -> Result<(), Error> {
        let Some(round) = &mut self.round else {
            self.round = Some(self.begin_round(turn).await?);
            return Ok(());
        };
        let end = round.waiting.end.clone();
        while round.dates.front().is_some_and(|date| end_of(*date) <= self.reached) {
            round.dates.pop_front();
        }
        // Within a date as well, the round ends where what is known of the buffer ends.
        let date = round.dates.front().filter(|date| self.reached < end && begin_of(**date) < end);
        let Some(date) = date.copied() else {
            while let Some(row) = round.waiting.rows.pop_before(&end) {
                self.ready.add(row);
            }
            (self.reached, self.round) = (end, None);
            return Ok(());
        };
        let bucket = Bucket { date, partition: round.partition };
        let Some(dataset) = self.shared.dataset.get().cloned() else { return Ok(()) };
        let (query, turn) = (self.query.clone(), turn.clone());
        let (begin, end) = (self.reached.clone(), end.min(end_of(date)));
        let collected = self.shared.aside.run(move || {
            let collected = files::collect(&dataset, bucket, &query, begin, end);
            drop(turn);
            collected
        });
        let Collected { rows, end, looked_at } = collected.await??;
        self.shared.metrics.looked_at.inc_by(looked_at);
        self.ready = rows;
        while let Some(row) = round.waiting.rows.pop_before(&end) {
            self.ready.add(row);
        }
        self.reached = end;
        Ok(())
    }

    /// Reads the buffer, and only then looks which dates there are.
    async fn begin_round(&mut self, turn: &Turn) -> Result<Round, Error> {
        let partitions = match self.shared.dataset.get() {
            Some(dataset) => dataset.partitions(),
            None => self.shared.buffer.registration().await?.ok_or(buffer::Error::NotRegistered)?.partitions,
        };
        let partition = partition_of(&self.query.user_id, partitions);
        let waiting = waiting::take(&self.shared, turn, &self.query, partition, self.reached.clone()).await?;
        self.skipped += waiting.skipped;
        let dates = match self.shared.dataset.get().cloned() {
            None => VecDeque::new(),
            Some(dataset) => {
                let look = move || {
                    reached("read.buffered")?;
                    Ok::<_, Error>(dataset.dates(partition)?)
                };
                self.shared.aside.run(look).await??.into()
            }
        };
        Ok(Round { partition, waiting, dates })
    }

    /// Keeps what is ready and what is known of the buffer, if all walks together keep little enough; else the next page
    /// begins a round of its own, behind what was given.
    fn keep_what_may_be_kept(&mut self) {
        self.kept = None;
        let waiting = self.round.as_ref().map_or(0, |round| round.waiting.rows.bytes());
        self.kept = self.shared.keep(self.ready.bytes() + waiting);
        if self.kept.is_none() {
            (self.ready, self.round) = (Rows::default(), None);
            self.reached = self.given.clone();
        }
    }
}

/// The first and the last date have all that is too early or too late for any other.
fn begin_of(date: Date) -> Cut {
    if date <= Bucket::of(i64::MIN, 0).date {
        return Cut::Start;
    }
    let begin = date.to_zoned(TimeZone::UTC).map(|begin| begin.timestamp().as_millisecond());
    begin.map_or(Cut::End, Cut::before)
}

fn end_of(date: Date) -> Cut {
    if date >= Bucket::of(i64::MAX, 0).date {
        return Cut::End;
    }
    date.tomorrow().map_or(Cut::End, begin_of)
}

/// Some heartbeats of one user, in order.
#[derive(Debug, Default)]
pub struct Page {
    user_id: String,
    rows: Vec<Row>,
}

impl Page {
    /// The heartbeats.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = HeartbeatRef<'_>> {
        self.rows.iter().map(|row| row.read(&self.user_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_the_date_of_its_bucket() {
        for timestamp in
            [i64::MIN, -86_400_001, -86_400_000, -1, 0, 86_399_999, 86_400_000, 1_795_000_000_000, i64::MAX]
        {
            let Bucket { date, .. } = Bucket::of(timestamp, 0);
            let key = (timestamp, "d", None);
            assert!(begin_of(date).is_before(key) && !end_of(date).is_before(key), "{timestamp} {date}");
        }
        assert_eq!(end_of(jiff::civil::date(2026, 11, 22)), begin_of(jiff::civil::date(2026, 11, 23)));
    }
}
