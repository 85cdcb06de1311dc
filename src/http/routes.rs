//! Which path leads where.

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{HttpRequest, HttpResponse, Resource, guard, web};

use super::problem::{Kind, Problem};
use super::{body, devices, ingest, login, openapi, ops, page, read, status};

/// The paths, as metrics and logs name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Heartbeats,
    UserHeartbeats,
    UserDevices,
    Silent,
    Status,
    History,
    Login,
    Logout,
    Health,
    Live,
    Ready,
    Metrics,
    OpenApi,
    Page,
    PageFile,
    /// Anything else: what strangers ask for must not make series.
    Other,
}

impl Route {
    pub(super) const ALL: [Self; 16] = [
        Self::Heartbeats,
        Self::UserHeartbeats,
        Self::UserDevices,
        Self::Silent,
        Self::Status,
        Self::History,
        Self::Login,
        Self::Logout,
        Self::Health,
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::OpenApi,
        Self::Page,
        Self::PageFile,
        Self::Other,
    ];

    /// The path, as it is routed and as it stands in labels.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Heartbeats => "/v1/heartbeats",
            Self::UserHeartbeats => "/v1/users/{user}/heartbeats",
            Self::UserDevices => "/v1/users/{user}/devices",
            Self::Silent => "/v1/silent",
            Self::Status => "/v1/status",
            Self::History => "/v1/status/history",
            Self::Login => "/login",
            Self::Logout => "/logout",
            Self::Health => "/health",
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::Metrics => "/metrics",
            Self::OpenApi => "/openapi.json",
            Self::Page => "/",
            Self::PageFile => "/page/{file}",
            Self::Other => "other",
        }
    }

    pub(super) fn of(path: &str) -> Self {
        Self::ALL.into_iter().find(|route| is_of(path, route.template())).unwrap_or(Self::Other)
    }
}

/// Whether a path is one of those that a template stands for.
fn is_of(path: &str, template: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else { return path == template };
    let behind = rest.split_once('}').map_or("", |(_, behind)| behind);
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(behind))
        .is_some_and(|value| !value.is_empty() && !value.contains('/'))
}

/// Where heartbeats come in.
pub(super) fn heartbeats(config: &mut web::ServiceConfig) {
    let post = web::resource(Route::Heartbeats.template()).route(web::post().to(ingest::post));
    config.service(only(post, "POST"));
}

/// What people look at.
pub(super) fn page(config: &mut web::ServiceConfig) {
    config
        .service(only(web::resource(Route::Page.template()).route(read().to(page::index)), READ))
        .service(only(web::resource(Route::PageFile.template()).route(read().to(page::file)), READ));
}

/// What the page shows, and who may see it.
pub(super) fn overview(config: &mut web::ServiceConfig) {
    let resource = |route: Route| web::resource(route.template());
    config
        .service(only(resource(Route::Status).route(read().to(status::status)), READ))
        .service(only(resource(Route::History).route(read().to(status::history)), READ))
        .service(only(resource(Route::Login).route(web::post().to(login::login)), "POST"))
        .service(only(resource(Route::Logout).route(web::post().to(login::logout)), "POST"));
}

/// Where they are asked for, and their devices.
pub(super) fn questions(config: &mut web::ServiceConfig) {
    let heartbeats = web::resource(Route::UserHeartbeats.template()).route(read().to(read::get));
    let of_user = web::resource(Route::UserDevices.template()).route(read().to(devices::of_user));
    let silent = web::resource(Route::Silent.template()).route(read().to(devices::silent));
    config.service(only(heartbeats, READ)).service(only(of_user, READ)).service(only(silent, READ));
}

/// Health, metrics and the document; anything else is 404.
pub(super) fn ops(config: &mut web::ServiceConfig) {
    let resource = |route: Route| web::resource(route.template());
    config
        .service(only(resource(Route::Health).route(read().to(ops::health)), READ))
        .service(only(resource(Route::Live).route(read().to(ops::live)), READ))
        .service(only(resource(Route::Ready).route(read().to(ops::ready)), READ))
        .service(only(resource(Route::Metrics).route(read().to(ops::metrics)), READ))
        .service(only(resource(Route::OpenApi).route(read().to(openapi::get)), READ))
        .default_service(web::to(not_found));
}

const READ: &str = "GET, HEAD";

fn read() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Any other method is 405 and told what there is.
fn only(resource: Resource, allow: &'static str) -> Resource {
    resource.default_service(web::to(move |request: HttpRequest, payload: web::Payload| async move {
        let detail = format!("{} takes {allow}.", Route::of(request.path()).template());
        let mut response = Problem::new(Kind::MethodNotAllowed, detail).respond(&request);
        response.headers_mut().insert(ALLOW, actix_web::http::header::HeaderValue::from_static(allow));
        body::with_unread(response, payload.into_inner())
    }))
}

async fn not_found(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let hint = match *request.method() {
        Method::POST => "Heartbeats go to POST /v1/heartbeats.",
        _ => {
            "There is POST /v1/heartbeats, and GET /v1/users/{user}/heartbeats, /v1/users/{user}/devices, /v1/silent, /v1/status, /health, \
             /health/live, /health/ready, /metrics and /openapi.json."
        }
    };
    body::with_unread(Problem::new(Kind::NotFound, hint).respond(&request), payload.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_known_by_its_template_and_no_user_stands_in_one() {
        for route in Route::ALL.into_iter().filter(|route| *route != Route::Other) {
            assert_eq!(Route::of(&route.template().replace("{user}", "a%2Fb")), route);
        }
        for stranger in [
            "/v1/users//heartbeats",
            "/v1/users/a/b/heartbeats",
            "/v1/users/heartbeats",
            "/v1/users/a/",
            "/page/",
            "/page/a/b",
        ] {
            assert_eq!(Route::of(stranger), Route::Other, "{stranger}");
        }
    }
}
