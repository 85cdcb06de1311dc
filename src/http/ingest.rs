//! `POST /v1/heartbeats`.
//!
//! What costs least is asked first: the address's rate limit, the token (so that guessing is limited), what the head says
//! of the body, the room in the byte budget; then the body is read, inflated and parsed, users' rate limits are asked, and
//! the buffer has the last word.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse, web};

use super::admit::rate_limited;
use super::answer::{Accepted, RateFields, insert_preference_applied};
use super::arriving::Arriving;
use super::auth::{Gate, Pass};
use super::body::{self, Bounds, declared_length};
use super::budget::{ByteBudget, Reservation};
use super::client::ClientAddresses;
use super::digest::{Digester, Form, Task};
use super::inflate::Encoding;
use super::keep::Handling;
use super::limits::{Limits, Policy, Standing, Verdict};
use super::metrics::Metrics;
use super::outgoing::in_pieces;
use super::preference::Preference;
use super::problem::{Kind, Problem};
use super::pulse::Reading;
use super::split::Format;
use crate::buffer::{Intake, TurnedAway};
use crate::token::Scope;

/// What taking heartbeats in needs. One for all workers.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) intake: Arc<dyn Intake>,
    pub(super) gate: Gate,
    pub(super) limits: Arc<Limits>,
    pub(super) clients: ClientAddresses,
    pub(super) budget: Arc<ByteBudget>,
    pub(super) arriving: Arc<Arriving>,
    pub(super) digester: Digester,
    pub(super) bounds: Bounds,
    pub(super) metrics: Arc<Metrics>,
}

/// The handler.
pub(super) async fn post(request: HttpRequest, payload: web::Payload, edge: web::Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let preference = Preference::of(request.headers());
    let strict = preference == Some(Preference::Strict);
    let mut response = match edge.take_in(&request, &mut payload, strict).await {
        Ok((accepted, held)) => {
            edge.metrics.accepted(accepted.accepted);
            edge.metrics.rejected(&accepted.rejected);
            in_pieces(accepted.respond(), held, edge.bounds.answer)
        }
        Err(mut problem) => {
            edge.metrics.rejected(problem.rejected());
            if problem.kind == Kind::MalformedBody {
                edge.metrics.rejected_body();
            }
            let held = problem.take_held();
            let mut response = problem.respond(&request);
            if let Some(held) = held {
                response = in_pieces(response, held, edge.bounds.answer);
            }
            body::with_unread(response, payload)
        }
    };
    insert_preference_applied(&mut response, preference);
    response
}

/// What the head of a request tells.
struct Head {
    form: Form,
    client: IpAddr,
    /// How its address stands with its limit.
    address: Option<Standing>,
    /// Whose heartbeats it may bring.
    pass: Pass,
}

impl Edge {
    /// What is held, and what its answer takes of the byte budget.
    async fn take_in(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
        strict: bool,
    ) -> Result<(Accepted, Reservation), Problem> {
        let head = self.judge_head(request).inspect_err(|problem| self.excuse(problem));
        let mut reservation = Reservation::empty(&self.budget);
        let (head, body) = {
            let _reading = Reading::of(request);
            let length = declared_length(request.headers());
            match head {
                Ok(head) => {
                    let share = self.arriving.body_of(head.client);
                    let body = body::read(payload, length, self.bounds, &mut reservation, share).await;
                    (head, body.inspect_err(|problem| self.excuse(problem))?)
                }
                Err(problem) => {
                    body::discard(payload, length, self.bounds.deadline).await;
                    return Err(problem);
                }
            }
        };
        self.metrics.body_read(body.len());
        let now = jiff::Timestamp::now().as_millisecond();
        // Bad input is told also while nobody knows how to cut what is good.
        let partitions = self.intake.partitions().await;
        let handling = Handling { strict, partitions: *partitions.as_ref().unwrap_or(&1) };
        let task = Task { form: head.form, now, handling, pass: head.pass };
        // Held until the answer is taken: while the parcels wait for the buffer, they are what it stands for.
        let digested = self.digester.digest(body, task, reservation).await;
        let (kept, held) = digested.inspect_err(|problem| self.excuse(problem))?;
        partitions?;
        self.intake.accept(kept.parcels).await?;
        let rate = RateFields::of(tightest(head.address, kept.standing), &self.limits);
        Ok((Accepted { accepted: kept.accepted, rejected: kept.rejected, rate }, held))
    }

    /// Whoever sent what Systole refuses for its own sake did beat. Whose heartbeats they were has not been read, or is lost.
    fn excuse(&self, problem: &Problem) {
        if problem.kind.is_our_own() {
            self.intake.turned_away(TurnedAway::Anybody);
        }
    }

    /// Everything that can be known before the body is read.
    fn judge_head(&self, request: &HttpRequest) -> Result<Head, Problem> {
        let headers = request.headers();
        let client = self.clients.of(request.peer_addr(), headers);
        let address = self.judge_client(client)?;
        let pass = self.gate.judge(request, Scope::Write)?;
        let format = Format::of(headers).map_err(|given| {
            let detail = format!("`{given}` is not taken; send application/json or application/x-ndjson.");
            Problem::new(Kind::UnsupportedMediaType, detail)
        })?;
        let encoding = Encoding::of(headers).map_err(|given| {
            let detail = format!("`{given}` is not taken; send gzip, zstd or identity.");
            Problem::new(Kind::UnsupportedEncoding, detail)
        })?;
        if let Some(length) = declared_length(headers) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > self.bounds.limit {
                return Err(body::too_large(self.bounds.limit));
            }
            // Only looked at, not reserved: a client that announces much and sends nothing must not hold it.
            if !self.budget.has_room_for(length) {
                return Err(body::overloaded());
            }
        }
        Ok(Head { form: Form { encoding, format }, client, address, pass })
    }

    /// Takes a request from the allowance of its address.
    pub(super) fn judge_address(&self, request: &HttpRequest) -> Result<Option<Standing>, Problem> {
        self.judge_client(self.clients.of(request.peer_addr(), request.headers()))
    }

    fn judge_client(&self, client: IpAddr) -> Result<Option<Standing>, Problem> {
        match self.limits.check_address(client) {
            None | Some(Verdict::Never) => Ok(None),
            Some(Verdict::Allowed(standing)) => Ok(Some(standing)),
            Some(Verdict::Denied(standing)) => {
                self.metrics.limited(Policy::Address, 1);
                Err(rate_limited(&standing, &self.limits))
            }
        }
    }
}

fn tightest(one: Option<Standing>, other: Option<Standing>) -> Option<Standing> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.is_tighter_than(&other) { one } else { other }),
        (one, other) => one.or(other),
    }
}
