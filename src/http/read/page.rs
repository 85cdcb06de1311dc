//! A page of an answer: made as a whole before its head is sent, so that a fault is told as such.

use super::Fault;
use crate::query::output::{Encoder, Format};
use crate::query::{Page, Position, Query, Scan, cursor};

/// Raw bytes of heartbeats beyond which a page ends, however many more were asked for: so an answer is bounded in bytes too.
const PAGE_BYTES: usize = 4 << 20;

/// Rows in their format, and where to go on if there are more.
#[derive(Debug)]
pub(super) struct Paged {
    pub(super) rows: Vec<u8>,
    pub(super) next: Option<String>,
}

/// Reads a page of at most `limit` heartbeats.
pub(super) async fn read(scan: &mut Scan, query: &Query, format: Format, limit: usize) -> Result<Paged, Fault> {
    let mut gathered = Gathered::new(format, limit)?;
    while !gathered.more {
        // One more than is wanted tells whether there are more.
        let Some(page) = scan.next(gathered.wanted + 1).await? else { break };
        gathered = scan.aside().run(move || gathered.with(&page)).await??;
    }
    let next = gathered.last.filter(|_| gathered.more).map(|last| cursor::encode(query, &last));
    Ok(Paged { rows: [gathered.written, gathered.encoder.finish()?].concat(), next })
}

struct Gathered {
    encoder: Encoder,
    written: Vec<u8>,
    /// Heartbeats that there is room for.
    wanted: usize,
    raw_bytes: usize,
    last: Option<Position>,
    /// There is one that there was no room for.
    more: bool,
}

impl Gathered {
    fn new(format: Format, limit: usize) -> Result<Self, Fault> {
        let encoder = Encoder::new(format)?;
        Ok(Self { encoder, written: Vec::new(), wanted: limit, raw_bytes: 0, last: None, more: false })
    }

    fn with(mut self, page: &Page) -> Result<Self, Fault> {
        let mut last = None;
        for row in page.rows() {
            if self.wanted == 0 || self.raw_bytes >= PAGE_BYTES {
                self.more = true;
                break;
            }
            self.encoder.push(row)?;
            self.raw_bytes += row.raw_len();
            self.wanted -= 1;
            last = Some(row);
        }
        self.last = last.as_ref().map(Position::of).or(self.last);
        self.written.append(&mut self.encoder.take());
        Ok(self)
    }
}
