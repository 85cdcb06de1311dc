//! Long answers on their way out.
//!
//! A request of a few KiB can hold ten thousand bad records, and the list of what is wrong with each is megabytes long. It
//! stands in the byte budget until the client has taken it; it goes to the framework in pieces, which would otherwise copy
//! all of it at once, outside the budget; and a client that takes it too slowly is cut off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Reservation;

/// Bytes handed on at once: half of what the framework gathers before it writes. A shorter answer goes as it is.
const PIECE: usize = 16 << 10;

/// Has `held` stand for the body of an answer until that is taken, or for nothing when it is short.
pub(super) fn in_pieces(response: HttpResponse, held: Reservation, within: Duration) -> HttpResponse {
    response.map_body(|_, body| match body.try_into_bytes() {
        Ok(rest) if rest.len() > PIECE => BoxBody::new(Outgoing::new(rest, held, within)),
        Ok(short) => BoxBody::new(short),
        Err(other) => other,
    })
}

struct Outgoing {
    rest: Bytes,
    until: Instant,
    held: Reservation,
}

impl Outgoing {
    fn new(rest: Bytes, mut held: Reservation, within: Duration) -> Self {
        held.shrink_to(rest.len());
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
        // A copy: a slice would keep the whole answer alive as long as its last piece.
        let piece = Bytes::copy_from_slice(&self.rest.split_to(length));
        let left = self.rest.len();
        if left == 0 {
            self.rest = Bytes::new();
        }
        self.held.shrink_to(left);
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;

    use super::super::budget::ByteBudget;
    use super::*;

    async fn next(body: &mut Pin<Box<Outgoing>>) -> Option<io::Result<Bytes>> {
        poll_fn(|context| body.as_mut().poll_next(context)).await
    }

    fn outgoing(length: usize, within: Duration) -> (std::sync::Arc<ByteBudget>, Pin<Box<Outgoing>>) {
        let budget = ByteBudget::new(1 << 20);
        let mut held = Reservation::empty(&budget);
        held.grow(500_000).unwrap();
        (budget, Box::pin(Outgoing::new(vec![7; length].into(), held, within)))
    }

    #[tokio::test]
    async fn an_answer_stands_in_the_budget_until_it_is_taken() {
        let (budget, mut body) = outgoing(100_000, Duration::from_secs(60));
        assert_eq!(budget.used(), 100_000);
        let mut taken = 0;
        while let Some(piece) = next(&mut body).await {
            taken += piece.unwrap().len();
            assert_eq!(budget.used(), 100_000 - taken);
        }
        assert_eq!(taken, 100_000);
    }

    #[tokio::test]
    async fn a_slow_taker_is_cut_off() {
        let (_, mut body) = outgoing(100_000, Duration::from_millis(20));
        assert!(next(&mut body).await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(next(&mut body).await.unwrap().is_err());
    }
}
