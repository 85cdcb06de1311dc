//! What the page at `/` asks for: `GET /v1/status` and `GET /v1/status/history`. For administrators, where there are tokens.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::Services;
use super::ingest::Edge;
use super::problem::{Kind, Problem};
use crate::token::Scope;

/// The flow as it is now.
pub(super) async fn status(edge: web::Data<Edge>, services: web::Data<Services>, request: HttpRequest) -> HttpResponse {
    if let Err(problem) = let_in(&edge, &request).await {
        return problem.respond(&request);
    }
    match services.overview.status().await {
        Some(status) => answer(&*status),
        None => Problem::new(Kind::Overloaded, "The status could not be gathered in time.")
            .with_cause("gathering the status took too long, or failed")
            .respond(&request),
    }
}

/// The last hour.
pub(super) async fn history(
    edge: web::Data<Edge>,
    services: web::Data<Services>,
    request: HttpRequest,
) -> HttpResponse {
    match let_in(&edge, &request).await {
        Ok(()) => answer(services.overview.history()),
        Err(problem) => problem.respond(&request),
    }
}

/// A page that polls costs its address nothing; who guesses pays for each guess.
async fn let_in(edge: &Edge, request: &HttpRequest) -> Result<(), Problem> {
    // As for the metrics: hundreds of these in a row must not keep the worker from its other connections.
    tokio::task::yield_now().await;
    match edge.gate.judge(request, Scope::Admin) {
        Ok(_) => Ok(()),
        Err(refusal) => {
            edge.judge_address(request)?;
            Err(refusal.into())
        }
    }
}

fn answer(told: impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(told)
}
