//! `GET /v1/users/{user}/devices` and `GET /v1/silent`: which devices have beaten, and which have gone silent.
//!
//! Constraints: an answer is one page, and no more is in memory than that and a page of each partition. A page goes on by the
//! order of what it lists, not by a number of places, so nothing that stays is missed or told twice while others come and go.
//! What is asked of the buffer while it serves heartbeats is bounded in each call, and in how many of these are answered at
//! the same time.

mod cursor;
mod params;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::Services;
use super::auth::Pass;
use super::ingest::Edge;
use super::problem::{Kind, Problem};
use crate::buffer::{self, DEVICES_AT_ONCE, Devices, SeenDevice, Unseen};
use crate::heartbeat::{Partition, partition_of};
use crate::token::Scope;

pub(super) use params::{DEFAULT_LIMIT, MAX_LIMIT, OfUser, Silent};

/// Of these questions are answered at the same time.
const AT_ONCE: usize = 16;
/// How long one waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(2);

/// Lets them come one after the other.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// The devices of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserDevices {
    /// By their ids.
    devices: Vec<UserDevice>,
    /// Without a heartbeat for longer than this a device is silent.
    silent_after: String,
    /// Where the next page is; null on the last one.
    next: Option<String>,
}

/// A device of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserDevice {
    device_id: String,
    /// The latest `timestamp` of its heartbeats, or their arrival where that was earlier.
    #[schema(format = DateTime)]
    last_seen: String,
    #[schema(value_type = String, pattern = "^(beating|silent)$")]
    state: &'static str,
}

/// Devices that have gone silent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SilentDevices {
    /// The longest silent first.
    devices: Vec<SilentDevice>,
    /// For how long they are silent at least.
    silent_after: String,
    /// Where the next page is; null on the last one.
    next: Option<String>,
}

/// A device that has gone silent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SilentDevice {
    user_id: String,
    device_id: String,
    /// The latest `timestamp` of its heartbeats, or their arrival where that was earlier.
    #[schema(format = DateTime)]
    last_seen: String,
}

/// `GET /v1/users/{user}/devices`.
pub(super) async fn of_user(
    request: HttpRequest,
    edge: web::Data<Edge>,
    services: web::Data<Services>,
    turns: web::Data<Turns>,
) -> HttpResponse {
    let answer = async {
        let pass = let_in(&request, &edge)?;
        let asked = OfUser::read(request.path(), request.query_string())?;
        if !pass.is_about(&asked.user) {
            return Err(Problem::new(Kind::ForbiddenUser, "The token may not read about this user."));
        }
        let _turn = turns.take().await?;
        let partitions = partitions(&edge).await?;
        list_user(&*services.devices, partitions, &asked).await.map_err(Problem::unanswered)
    };
    respond(&request, answer.await)
}

/// `GET /v1/silent`.
pub(super) async fn silent(
    request: HttpRequest,
    edge: web::Data<Edge>,
    services: web::Data<Services>,
    turns: web::Data<Turns>,
) -> HttpResponse {
    let answer = async {
        let pass = let_in(&request, &edge)?;
        let asked = Silent::read(request.query_string())?;
        if asked.user.as_ref().is_some_and(|user| !pass.is_about(user)) {
            return Err(Problem::new(Kind::ForbiddenUser, "The token may not read about this user."));
        }
        let _turn = turns.take().await?;
        let partitions = partitions(&edge).await?;
        list_silent(&services.devices, partitions, &pass, &asked).await.map_err(Problem::unanswered)
    };
    respond(&request, answer.await)
}

/// By the address first, so that guessing tokens is limited.
fn let_in(request: &HttpRequest, edge: &Edge) -> Result<Pass, Problem> {
    edge.judge_address(request)?;
    Ok(edge.gate.judge(request, Scope::Read)?)
}

async fn partitions(edge: &Edge) -> Result<Partition, Problem> {
    edge.intake.partitions().await.map_err(Problem::unanswered)
}

fn respond<T: Serialize>(request: &HttpRequest, answer: Result<T, Problem>) -> HttpResponse {
    match answer {
        Ok(answer) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer),
        Err(problem) => problem.respond(request),
    }
}

impl Turns {
    async fn take(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        let turn = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.0).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            Problem::new(Kind::Overloaded, "Too many questions are being answered; ask again in a moment.")
        })
    }
}

async fn list_user(devices: &dyn Devices, partitions: Partition, asked: &OfUser) -> Result<UserDevices, buffer::Error> {
    let silent_before = asked.after.before(now_ms());
    let partition = partition_of(&asked.user, partitions);
    let mut found: Vec<SeenDevice> = Vec::new();
    // One more than is shown tells whether there are more.
    let wanted = asked.limit as usize + 1;
    while found.len() < wanted {
        let most = u32::try_from(wanted - found.len()).unwrap_or(u32::MAX).min(DEVICES_AT_ONCE);
        let behind = found.last().map(|last| last.device_id.as_str()).or(asked.behind.as_deref());
        let page = devices.devices_of(partition, &asked.user, behind, most).await?;
        let is_last = page.len() < most as usize;
        found.extend(page);
        if is_last {
            break;
        }
    }
    let more = found.len() == wanted;
    found.truncate(asked.limit as usize);
    let next = found.last().filter(|_| more).map(|last| asked.next(&last.device_id));
    let state = |device: &SeenDevice| if device.last_seen < silent_before { "silent" } else { "beating" };
    let devices = found.into_iter().map(|device| UserDevice {
        state: state(&device),
        last_seen: time(device.last_seen),
        device_id: device.device_id,
    });
    Ok(UserDevices { devices: devices.collect(), silent_after: asked.after.to_string(), next })
}

async fn list_silent(
    devices: &Arc<dyn Devices>,
    partitions: Partition,
    pass: &Pass,
    asked: &Silent,
) -> Result<SilentDevices, buffer::Error> {
    let all = pass.is_about_all() && asked.user.is_none();
    let is_asked_for = |device: &SeenDevice| {
        asked.user.as_ref().is_none_or(|user| *user == device.user_id) && pass.is_about(&device.user_id)
    };
    let of = match &asked.user {
        Some(user) => {
            let own = partition_of(user, partitions);
            own..own.saturating_add(1)
        }
        None => 0..partitions,
    };
    // Those of few are looked for among all: as many at a time as may be.
    let wanted = if all { asked.limit.saturating_add(1) } else { u32::MAX };
    let before = asked.after.before(now_ms());
    let mut unseen = Unseen::new(devices.clone(), of, before, asked.behind.as_ref(), wanted);
    let (mut found, mut more) = (Vec::new(), false);
    while let Some(device) = unseen.next().await? {
        if !is_asked_for(&device) {
            continue;
        }
        more = found.len() == asked.limit as usize;
        if more {
            break;
        }
        found.push(device);
    }
    let next = found.last().filter(|_| more).map(|last| asked.next(last));
    let devices = found.into_iter().map(|device| SilentDevice {
        last_seen: time(device.last_seen),
        user_id: device.user_id,
        device_id: device.device_id,
    });
    Ok(SilentDevices { devices: devices.collect(), silent_after: asked.after.to_string(), next })
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// As RFC 3339 has it, to the millisecond.
fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}
