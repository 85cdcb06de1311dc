//! Around every request: its id, its count, its time, its line in the log, and a long answer in pieces.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tracing::Instrument;

use super::metrics::Metrics;
use super::outgoing;
use super::problem::Cause;
use super::pulse::{InHand, Pulse};
use super::request_id::{RequestId, X_REQUEST_ID};
use super::routes::Route;

/// Warnings about failed requests that the log takes in one second; an outage fails thousands, all for one reason.
const WARNINGS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// What the access layer keeps.
#[derive(Debug)]
pub(super) struct Access {
    /// None in processes that take no heartbeats in.
    metrics: Option<Arc<Metrics>>,
    /// For taking a long answer.
    answer_within: Duration,
    warnings: DefaultDirectRateLimiter,
    suppressed: AtomicU64,
}

impl Access {
    pub(super) fn new(metrics: Option<Arc<Metrics>>, answer_within: Duration) -> Self {
        let warnings = RateLimiter::direct(Quota::per_second(WARNINGS_PER_SECOND));
        Self { metrics, answer_within, warnings, suppressed: AtomicU64::new(0) }
    }

    fn log(&self, id: &RequestId, route: Route, status: u16, took_ms: u64, cause: Option<&Cause>) {
        let (id, route) = (id.as_str(), route.template());
        // Health is asked for all the time and answers 503 by design; the parts log their own changes.
        let Some(Cause { problem, cause }) = cause.filter(|_| status >= 500) else {
            tracing::debug!(request_id = id, route, status, took_ms, "answered");
            return;
        };
        if self.warnings.check().is_ok() {
            let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
            tracing::warn!(request_id = id, route, status, took_ms, problem, cause, suppressed, "request failed");
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Access {
    /// Says that an answer broke off after its head was sent.
    pub(super) fn broke_off(&self, id: &RequestId, route: Route, cause: &str) {
        if self.warnings.check().is_ok() {
            let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
            let (id, route) = (id.as_str(), route.template());
            tracing::warn!(request_id = id, route, cause, suppressed, "an answer broke off midway");
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The layer itself.
pub(super) async fn layer(
    access: web::Data<Access>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let began = Instant::now();
    let route = Route::of(request.path());
    let id = RequestId::take_or_make(request.headers(), now_ms());
    let in_hand = request.conn_data::<Rc<Pulse>>().map(Pulse::begin);
    let in_flight = access.metrics.as_deref().map(Metrics::in_flight);
    request.extensions_mut().insert(id.clone());
    // At debug level, so that it costs nothing while nobody reads lines of that level; a warning names the id itself.
    let span = tracing::debug_span!("request", request_id = id.as_str(), route = route.template());

    let mut response = next.call(request).instrument(span).await?;

    response.headers_mut().insert(X_REQUEST_ID, id.header());
    drop(in_flight);
    let (status, took) = (response.status().as_u16(), began.elapsed());
    if let Some(metrics) = &access.metrics {
        metrics.answered(route, status, took.as_secs_f64());
    }
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    access.log(&id, route, status, took_ms, response.response().extensions().get::<Cause>());
    let body = |body| Answer { body: outgoing::uncounted(body, access.answer_within), _in_hand: in_hand };
    Ok(response.map_body(|_, whole| body(whole)))
}

/// The body of an answer. Its request is in hand until the framework has taken the last of it.
struct Answer {
    body: BoxBody,
    _in_hand: Option<InHand>,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, <BoxBody as MessageBody>::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

fn now_ms() -> u64 {
    // A clock before 1970 gives ids without a time, nothing worse.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderMap;

    use super::*;

    #[test]
    fn an_outage_does_not_flood_the_log() {
        let access = Access::new(None, Duration::ZERO);
        let id = RequestId::take_or_make(&HeaderMap::new(), 0);
        let cause = Cause { problem: "buffer-full", cause: "partition 3 is full".to_owned() };
        for _ in 0..1000 {
            access.log(&id, Route::Heartbeats, 503, 1, Some(&cause));
        }
        let suppressed = access.suppressed.load(Ordering::Relaxed);
        assert!((900..1000).contains(&suppressed), "{suppressed}");
        access.log(&id, Route::Health, 503, 1, None);
        assert_eq!(access.suppressed.load(Ordering::Relaxed), suppressed, "health answering 503 is no failure");
    }
}
