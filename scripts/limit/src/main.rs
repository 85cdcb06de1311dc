//! The limit of the intake: an actix-web app that reads a body, parses the same JSON as Systole, answers 202, and keeps
//! nothing. No validation, no limits, no metrics, no buffer: what a server on this machine could take in at the most.
//!
//! `systole-limit ADDR:PORT`; with port 0 the system chooses one. The first line of output is the address.

use std::borrow::Cow;
use std::hint::black_box;
use std::io::{self, Write};
use std::thread::available_parallelism;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest body, as in Systole.
const MAX_BODY: usize = 8 << 20;
/// A heartbeat is hardly shorter, so a list is made for at most this many without knowing.
const SHORTEST: usize = 128;

#[derive(Deserialize)]
#[allow(dead_code, reason = "parsed, and kept by nobody")]
struct Heartbeat<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Accepted {
    accepted: usize,
    rejected: [(); 0],
}

/// How many heartbeats a body holds. They are all made before the first is given up, as a server that keeps them would.
fn parse(body: &[u8], by_lines: bool) -> serde_json::Result<usize> {
    if by_lines {
        let mut heartbeats = Vec::with_capacity(body.len() / SHORTEST + 1);
        for line in lines(body).filter(|line| !line.is_empty()) {
            heartbeats.push(serde_json::from_slice::<Heartbeat<'_>>(line)?);
        }
        Ok(black_box(heartbeats).len())
    } else if body.first() == Some(&b'[') {
        Ok(black_box(serde_json::from_slice::<Vec<Heartbeat<'_>>>(body)?).len())
    } else {
        black_box(serde_json::from_slice::<Heartbeat<'_>>(body)?);
        Ok(1)
    }
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    memchr::memchr_iter(b'\n', body).chain([body.len()]).map(move |end| {
        let line = &body[from..end];
        from = (end + 1).min(body.len());
        line
    })
}

async fn post(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let by_lines = request.headers().get(CONTENT_TYPE).is_some_and(|form| form == "application/x-ndjson");
    match parse(&body, by_lines) {
        Ok(accepted) => HttpResponse::Accepted().json(Accepted { accepted, rejected: [] }),
        Err(error) => HttpResponse::BadRequest().body(error.to_string()),
    }
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let app = || {
        App::new()
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .service(web::resource("/v1/heartbeats").route(web::post().to(post)))
    };
    let server = HttpServer::new(app).workers(available_parallelism()?.get()).bind(listen)?;
    for address in server.addrs() {
        writeln!(io::stdout(), "{address}")?;
    }
    server.run().await
}
