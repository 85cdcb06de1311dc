//! Bodies that leave piece by piece, each made when the one before was taken.
//!
//! Constraints: what a body holds is one page of the scan and what was made of it, not yet taken; while it leaves it holds
//! its place among the reads that are under way. A fault midway breaks the connection off, so that half an answer never
//! looks like a whole one.

use std::io;

use actix_web::HttpRequest;
use actix_web::body::{BodyStream, BoxBody, SizedStream};
use actix_web::web::Data;
use bytes::Bytes;
use futures::Stream;
use futures::stream::{try_unfold, unfold};
use tokio::sync::OwnedSemaphorePermit;

use super::super::access::Access;
use super::super::pulse::Streaming;
use super::super::request_id::RequestId;
use super::super::routes::Route;
use super::Fault;
use crate::query::Scan;
use crate::query::output::{Encoder, Format};

/// Heartbeats that are read and written at a time.
const ROWS: usize = 4096;
/// Bytes handed on at once: half of what the framework gathers before it writes.
const PIECE: usize = 16 << 10;

/// What is held while an answer leaves: its place among the reads, and the word that it makes progress of its own.
#[derive(Debug)]
pub(super) struct Leaving {
    _place: OwnedSemaphorePermit,
    _streaming: Streaming,
}

impl Leaving {
    pub(super) fn new(place: OwnedSemaphorePermit, request: &HttpRequest) -> Self {
        Self { _place: place, _streaming: Streaming::of(request) }
    }
}

/// A body that is there as a whole.
pub(super) fn whole(bytes: Vec<u8>, leaving: Leaving) -> BoxBody {
    let length = bytes.len() as u64;
    let pieces = unfold((Bytes::from(bytes), leaving), |(mut rest, leaving)| async move {
        let piece = next_piece(&mut rest)?;
        Some((Ok::<_, io::Error>(piece), (rest, leaving)))
    });
    BoxBody::new(SizedStream::new(length, Box::pin(pieces)))
}

fn next_piece(rest: &mut Bytes) -> Option<Bytes> {
    (!rest.is_empty()).then(|| rest.split_to(rest.len().min(PIECE)))
}

/// All that a scan finds, as it is found. Its first page is there already.
#[derive(Debug)]
pub(super) struct Walk {
    scan: Scan,
    /// None once the answer has ended.
    encoder: Option<Encoder>,
    rest: Bytes,
}

impl Walk {
    /// Reads and writes the first page, so that whatever fails from the start is told as such.
    pub(super) async fn begin(scan: Scan, format: Format) -> Result<Self, Fault> {
        let mut walk = Self { scan, encoder: Some(Encoder::new(format)?), rest: Bytes::new() };
        walk.go_on().await?;
        Ok(walk)
    }

    async fn go_on(&mut self) -> Result<(), Fault> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        let written = match self.scan.next(ROWS).await? {
            None => self.scan.aside().run(move || encoder.finish()).await??,
            Some(page) => {
                let written = self.scan.aside().run(move || {
                    page.rows().try_for_each(|row| encoder.push(row))?;
                    let written = encoder.take();
                    Ok::<_, Fault>((encoder, written))
                });
                let (encoder, written) = written.await??;
                self.encoder = Some(encoder);
                written
            }
        };
        self.rest = written.into();
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(piece) = next_piece(&mut self.rest) {
                return Ok(Some(piece));
            }
            if self.encoder.is_none() {
                return Ok(None);
            }
            self.go_on().await?;
        }
    }

    /// The body.
    pub(super) fn body(self, leaving: Leaving, request: &HttpRequest) -> BoxBody {
        let report = Report::of(request);
        BoxBody::new(BodyStream::new(Box::pin(self.pieces(leaving, report))))
    }

    fn pieces(self, leaving: Leaving, report: Report) -> impl Stream<Item = io::Result<Bytes>> {
        try_unfold((self, leaving, report), |(mut walk, leaving, report)| async move {
            match walk.next().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, (walk, leaving, report)))),
                Err(fault) => Err(report.broke_off(&fault)),
            }
        })
    }
}

/// Who is told that an answer broke off.
struct Report {
    access: Option<Data<Access>>,
    id: Option<RequestId>,
}

impl Report {
    fn of(request: &HttpRequest) -> Self {
        Self { access: request.app_data::<Data<Access>>().cloned(), id: RequestId::of(request) }
    }

    fn broke_off(&self, fault: &Fault) -> io::Error {
        if let (Some(access), Some(id)) = (&self.access, &self.id) {
            access.broke_off(id, Route::UserHeartbeats, &fault.to_string());
        }
        // The framework logs this one, and ends the connection without the end of the answer.
        io::Error::other("an answer broke off")
    }
}
