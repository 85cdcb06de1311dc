//! Bodies that leave piece by piece, each made when the one before was taken.
//!
//! Constraints: what a body holds is one page of the scan and what was made of it, not yet taken; while it leaves it holds
//! its place among the reads that are under way. A fault midway breaks the connection off, so that half an answer never
//! looks like a whole one; and so does the end of what let its reader in, which is asked about before each piece but the first:
//! a taker may be slow, and take hours for a large answer.

use std::io;

use actix_web::HttpRequest;
use actix_web::body::{BodyStream, BoxBody, SizedStream};
use actix_web::web::Data;
use bytes::Bytes;
use futures::Stream;
use futures::stream::try_unfold;

use super::super::access::Access;
use super::super::auth::Admission;
use super::super::outgoing::PIECE;
use super::super::pulse::Streaming;
use super::super::request_id::RequestId;
use super::super::routes::Route;
use super::Fault;
use super::places::Place;
use crate::query::Scan;
use crate::query::output::{Encoder, Format};

/// Heartbeats that are read and written at a time.
const ROWS: usize = 4096;

/// What is held while an answer leaves: its place among the reads, the word that it makes progress of its own, what let its
/// reader in, and who is told should it break off.
#[derive(Debug)]
pub(super) struct Leaving {
    _place: Place,
    streaming: Streaming,
    admission: Admission,
    /// A piece has gone: what is short has been judged once and goes as a whole.
    has_begun: bool,
    report: Report,
}

impl Leaving {
    pub(super) fn new(place: Place, admission: Admission, request: &HttpRequest) -> Self {
        Self {
            _place: place,
            streaming: Streaming::of(request),
            admission,
            has_begun: false,
            report: Report::of(request),
        }
    }

    /// Lets go what comes next, or breaks off.
    fn let_go(&mut self, next: Result<Option<Bytes>, Fault>) -> io::Result<Option<Bytes>> {
        let is_asked_about = std::mem::replace(&mut self.has_begun, true) && matches!(next, Ok(Some(_)));
        let stands = if is_asked_about { self.admission.still_stands() } else { Ok(()) };
        stands.map_err(Fault::TurnedAway).and(next).map_err(|fault| self.report.broke_off(&fault))
    }
}

/// A body that is there as a whole.
pub(super) fn whole(bytes: Vec<u8>, leaving: Leaving) -> BoxBody {
    let length = bytes.len() as u64;
    let pieces = try_unfold((Bytes::from(bytes), leaving), |(mut rest, mut leaving)| async move {
        let piece = leaving.let_go(Ok(next_piece(&mut rest)))?;
        Ok::<_, io::Error>(piece.map(|piece| (piece, (rest, leaving))))
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
    pub(super) fn body(self, leaving: Leaving) -> BoxBody {
        BoxBody::new(BodyStream::new(Box::pin(self.pieces(leaving))))
    }

    fn pieces(self, leaving: Leaving) -> impl Stream<Item = io::Result<Bytes>> {
        try_unfold((self, leaving), |(mut walk, mut leaving)| async move {
            let next = tokio::select! {
                biased;
                next = walk.next() => next,
                () = leaving.streaming.abandoned() => Err(Fault::Abandoned),
            };
            let piece = leaving.let_go(next)?;
            Ok(piece.map(|piece| (piece, (walk, leaving))))
        })
    }
}

/// Who is told that an answer broke off.
#[derive(Debug)]
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

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;
    use actix_web::test::TestRequest;
    use futures::future::poll_fn;
    use prometheus::Registry;

    use super::super::super::auth::{Exposure, Gate};
    use super::super::places::{Reader, Reads};
    use super::*;
    use crate::token::{Scope, Secret, StoredToken, TokenList};

    #[tokio::test]
    async fn a_page_breaks_off_as_well_once_its_reader_would_not_be_let_in() {
        let (exposure, listen) = (Exposure { allow_anonymous: false }, ([127, 0, 0, 1], 0).into());
        let gate = Gate::shut(&exposure, listen, &Registry::new()).unwrap();
        gate.take(&TokenList::default());
        let request = TestRequest::get().to_http_request();
        let place = Reads::new(1).place(Reader::Address([192, 0, 2, 1].into())).await.unwrap();
        let leaving = Leaving::new(place, gate.admission(&request, Scope::Read), &request);
        let mut body = Box::pin(whole(vec![7; 3 * PIECE], leaving));
        let mut next = async || poll_fn(|context| body.as_mut().poll_next(context)).await;
        assert_eq!(next().await.unwrap().unwrap().len(), PIECE);
        // Somebody makes a token, so this reader needs one.
        let (id, _) = Secret::mint().unwrap();
        gate.take(&TokenList { version: None, tokens: vec![StoredToken { id, text: String::new() }] });
        assert!(next().await.unwrap().is_err());
    }
}
