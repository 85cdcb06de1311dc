//! Reading a body: within its limit, the byte budget and a deadline; or leaving it unread in good order.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::budget::{BoundedBytes, NoRoom, Reservation, Stop};
use super::problem::{Kind, Problem};
use super::shares::Share;

/// A refused body up to this length is read and thrown away, so that the connection lives on: a client that is told to
/// slow down must not be made to connect anew each time.
const DISCARD_UP_TO: u64 = 16 * 1024;

/// The length that the head announces, if it does.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bounds on one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes as they come over the wire.
    pub(super) limit: usize,
    /// From the first look to the last byte.
    pub(super) deadline: Duration,
    /// For taking a long answer to it.
    pub(super) answer: Duration,
}

/// Reads a body to its end.
///
/// # Errors
/// It is too long or too slow, breaks off, or finds no room in the budget.
pub(super) async fn read(
    payload: &mut Payload,
    declared: Option<u64>,
    bounds: Bounds,
    reservation: &mut Reservation,
    share: Share,
) -> Result<Bytes, Problem> {
    let expected = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    match tokio::time::timeout(bounds.deadline, gather(payload, expected, bounds.limit, reservation, share)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let detail = format!("The body did not arrive within {} s; send smaller bulks.", bounds.deadline.as_secs());
            Err(Problem::new(Kind::BodyTimeout, detail))
        }
    }
}

async fn gather(
    payload: &mut Payload,
    expected: usize,
    limit: usize,
    reservation: &mut Reservation,
    share: Share,
) -> Result<Bytes, Problem> {
    let Some(first) = next_piece(payload).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    // Most bodies come in one piece, which needs no copy.
    let Some(second) = next_piece(payload).await? else {
        reservation.grow(first.len()).map_err(|NoRoom| overloaded())?;
        return Ok(first);
    };
    let stopped = |stop| match stop {
        Stop::Limit => too_large(limit),
        Stop::Budget => overloaded(),
        Stop::Sender => crowded(),
    };
    let mut whole = BoundedBytes::new(limit, expected, reservation).within(share);
    whole.extend(&first).map_err(stopped)?;
    drop(first);
    whole.extend(&second).map_err(stopped)?;
    while let Some(piece) = next_piece(payload).await? {
        whole.extend(&piece).map_err(stopped)?;
    }
    Ok(whole.into_bytes().into())
}

async fn next_piece(payload: &mut Payload) -> Result<Option<Bytes>, Problem> {
    payload
        .next()
        .await
        .transpose()
        .map_err(|error| Problem::new(Kind::BodyIncomplete, format!("The body could not be read to its end: {error}.")))
}

/// Reads a short body and forgets it; leaves a long one, or one of unknown length, alone.
pub(super) async fn discard(payload: &mut Payload, declared: Option<u64>, deadline: Duration) {
    if declared.is_some_and(|length| length <= DISCARD_UP_TO) {
        let _ = tokio::time::timeout(deadline, async { while let Some(Ok(_)) = payload.next().await {} }).await;
    }
}

pub(super) fn too_large(limit: usize) -> Problem {
    let detail = format!("A body may have at most {limit} bytes; send smaller bulks.");
    Problem::new(Kind::BodyTooLarge, detail)
}

pub(super) fn overloaded() -> Problem {
    Problem::new(Kind::Overloaded, "Too many bodies are under way at this moment; nothing of this one was kept.")
        .with_cause("the byte budget is in use")
}

fn crowded() -> Problem {
    let detail = "Too many large bodies of this address are under way; nothing of this one was kept. Send smaller bulks, or \
                  fewer at a time.";
    Problem::new(Kind::Overloaded, detail).with_cause("bodies of one address hold half of the byte budget")
}

/// Ties an answer to a body that may not have been read to its end.
///
/// A chunked body whose reader is gone the framework would go on reading for as long as the client sends. While its reader
/// lives it closes the connection instead, after a linger in which the client can read the answer.
pub(super) fn with_unread(response: HttpResponse, mut payload: Payload) -> HttpResponse {
    // What has arrived is little: the framework reads no further ahead than its own buffer.
    while let Some(piece) = payload.next().now_or_never() {
        match piece {
            Some(Ok(_)) => {}
            // It has come to its end, or to one that the framework knows of.
            Some(Err(_)) | None => return response,
        }
    }
    response.map_body(|_, body| BoxBody::new(Unread { body, _payload: payload }))
}

struct Unread {
    body: BoxBody,
    _payload: Payload,
}

impl MessageBody for Unread {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        // The answers tied here are whole texts, which cannot fail; were one to, the answer would end short.
        Pin::new(&mut self.body).poll_next(context).map(|piece| piece.and_then(Result::ok).map(Ok))
    }
}
