//! Health and metrics.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use prometheus::Registry;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Gate;
use super::problem::{Kind, Problem};
use crate::telemetry::health::{Affects, Health, PartHealth};
use crate::telemetry::metrics::{self as exposition, render};
use crate::token::Scope;

/// What these answers are made from.
pub(super) struct Ops {
    pub(super) health: Health,
    pub(super) registry: Registry,
    pub(super) gate: Gate,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("health", &self.health).finish_non_exhaustive()
    }
}

/// How the process is.
#[derive(Serialize, ToSchema)]
pub(super) struct Report {
    /// All in one word.
    #[schema(value_type = String, pattern = "^(ok|unwell)$")]
    status: &'static str,
    /// What it is made of.
    parts: Vec<Part>,
}

/// How one part of it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    name: String,
    /// Whether it is well.
    ok: bool,
    /// What is wrong, or more about what is well; for people.
    detail: String,
}

impl Report {
    pub(super) fn new(ok: bool, parts: Vec<Part>) -> Self {
        Self { status: if ok { "ok" } else { "unwell" }, parts }
    }
}

impl Part {
    pub(super) fn new(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, detail: detail.into() }
    }
}

impl Ops {
    /// Whether this request may see more than whether all is well.
    fn shows_parts(&self, request: &HttpRequest) -> bool {
        self.gate.lets_see(request, Scope::Admin)
    }
}

/// Every part. 503 when one that matters is unwell. Where tokens are needed, the parts are shown to administrators only.
pub(super) async fn health(ops: web::Data<Ops>, request: HttpRequest) -> HttpResponse {
    report(ops.health.snapshot(), ops.shows_parts(&request), |part| part.affects != Affects::Nothing)
}

/// The parts without which no heartbeat can be accepted.
pub(super) async fn ready(ops: web::Data<Ops>, request: HttpRequest) -> HttpResponse {
    let mut parts = ops.health.snapshot();
    parts.retain(|part| part.affects == Affects::Readiness);
    report(parts, ops.shows_parts(&request), |_| true)
}

/// The process answers; nothing else is asked. What restarts processes looks here, and no restart mends a buffer.
pub(super) async fn live() -> HttpResponse {
    report(Vec::new(), true, |_| true)
}

fn report(parts: Vec<PartHealth>, shown: bool, matters: impl Fn(&PartHealth) -> bool) -> HttpResponse {
    let ok = parts.iter().all(|part| part.ok || !matters(part));
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let parts = parts
        .into_iter()
        .filter(|_| shown)
        .map(|PartHealth { name, ok, detail, .. }| Part::new(name, ok, detail))
        .collect();
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(Report::new(ok, parts))
}

/// What Prometheus scrapes.
pub(super) async fn metrics(ops: web::Data<Ops>, request: HttpRequest) -> HttpResponse {
    // A client may have sent hundreds of these in a row, and the framework would answer them all before it looks at any
    // other connection of this worker.
    tokio::task::yield_now().await;
    if let Err(refusal) = ops.gate.judge(&request, Scope::Admin) {
        return Problem::from(refusal).respond(&request);
    }
    match render(&ops.registry) {
        Ok(text) => HttpResponse::Ok().insert_header((CONTENT_TYPE, exposition::CONTENT_TYPE)).body(text),
        Err(error) => {
            Problem::new(Kind::Internal, "The metrics cannot be rendered.").with_cause(error).respond(&request)
        }
    }
}
