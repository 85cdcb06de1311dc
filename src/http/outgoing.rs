//! Long answers on their way out.
//!
//! A request of a few KiB, or of one line, can have an answer of megabytes: what is wrong with each of ten thousand bad records,
//! or a list of devices. Such an answer stands in the byte budget until the client has taken it. Every long answer goes to the
//! framework in pieces, which would otherwise copy all of it at once, outside the budget; and a client that takes it too slowly
//! is cut off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Reservation;
use super::shares::Share;

/// Bytes handed on at once. A shorter answer goes as it is.
pub(super) const PIECE: usize = 8 << 10;
/// Bytes that the framework gathers before it writes. What a client does not take stays in that buffer, on each connection, and
/// where some of it was taken before, it has grown to twice that: so it is small.
pub(super) const GATHERED: usize = 2 * PIECE;

/// What stands for an answer until it is taken.
#[derive(Debug)]
pub(super) struct Held {
    reservation: Reservation,
    /// Where the answer is counted for its address as well.
    _share: Option<Share>,
}

impl Held {
    /// In the budget, and among what its address holds of that.
    pub(super) fn in_share(reservation: Reservation, share: Share) -> Self {
        Self { reservation, _share: Some(share) }
    }
}

impl From<Reservation> for Held {
    fn from(reservation: Reservation) -> Self {
        Self { reservation, _share: None }
    }
}

/// Has `held` stand for the body of an answer until that is taken, or for nothing when it is short.
pub(super) fn in_pieces(response: HttpResponse, held: impl Into<Held>, within: Duration) -> HttpResponse {
    response.map_body(|_, body| leaving(body, Some(held.into()), within))
}

/// A body whose bytes nobody counts: they are there for all who ask, or not many.
pub(super) fn uncounted(body: BoxBody, within: Duration) -> BoxBody {
    leaving(body, None, within)
}

fn leaving(body: BoxBody, held: Option<Held>, within: Duration) -> BoxBody {
    match body.try_into_bytes() {
        Ok(rest) if rest.len() > PIECE => BoxBody::new(Outgoing::new(rest, held, within)),
        Ok(short) => BoxBody::new(short),
        // Made piece by piece already.
        Err(other) => other,
    }
}

struct Outgoing {
    rest: Bytes,
    until: Instant,
    /// Whole until the last piece has gone: all of them lie in one piece of memory.
    held: Option<Held>,
}

impl Outgoing {
    fn new(rest: Bytes, mut held: Option<Held>, within: Duration) -> Self {
        if let Some(held) = &mut held {
            // It may still stand for what the answer was made of.
            held.reservation.shrink_to(rest.len());
        }
        Self { rest, until: Instant::now() + within, held }
    }
}

impl MessageBody for Outgoing {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        // Only looked at where a piece went: a client that takes nothing at all is the connection's to cut off.
        if Instant::now() > self.until {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let length = self.rest.len().min(PIECE);
        // Copied by the framework as soon as it has it.
        let piece = self.rest.split_to(length);
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.held = None;
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::poll_fn;

    use super::super::budget::ByteBudget;
    use super::*;

    async fn next(body: &mut Pin<Box<Outgoing>>) -> Option<io::Result<Bytes>> {
        poll_fn(|context| body.as_mut().poll_next(context)).await
    }

    fn outgoing(length: usize, within: Duration) -> (Arc<ByteBudget>, Pin<Box<Outgoing>>) {
        let budget = ByteBudget::new(1 << 20);
        let mut held = Reservation::empty(&budget);
        held.grow(500_000).unwrap();
        (budget, Box::pin(Outgoing::new(vec![7; length].into(), Some(held.into()), within)))
    }

    #[tokio::test]
    async fn an_answer_stands_in_the_budget_until_it_is_taken() {
        let (budget, mut body) = outgoing(100_000, Duration::from_secs(60));
        let mut taken = 0;
        while taken < 100_000 {
            assert_eq!(budget.used(), 100_000, "what was taken of it is freed with the rest");
            taken += next(&mut body).await.unwrap().unwrap().len();
        }
        assert_eq!(budget.used(), 0);
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn a_slow_taker_is_cut_off() {
        let (_, mut body) = outgoing(100_000, Duration::from_millis(20));
        assert!(next(&mut body).await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(next(&mut body).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn pieces_of_what_all_are_answered_are_no_copies() {
        let all = Bytes::from(vec![7; 100_000]);
        let mut body = Box::pin(Outgoing::new(all.clone(), None, Duration::from_secs(60)));
        let piece = next(&mut body).await.unwrap().unwrap();
        assert_eq!((piece.len(), piece.as_ptr()), (PIECE, all.as_ptr()));
    }
}
