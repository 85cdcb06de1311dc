//! A client as users write them, which enters every answer into the ledger.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use serde_json::Value;

use super::address::Address;
use super::beats::Beat;
use super::ledger::Ledger;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Posts to one door.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
    door: Address,
    ledger: Arc<Ledger>,
}

/// One answer; its body is JSON, or `Null` when it is something else.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn read(response: Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let text = response.text()?;
        Ok(Self { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
    }
}

impl Client {
    /// A client of `door`, such as `http://127.0.0.1:4711`.
    pub fn new(door: impl Into<Address>, ledger: Arc<Ledger>) -> Self {
        Self { http: http(None), door: door.into(), ledger }
    }

    /// The same from another address of this machine, such as 127.0.0.9.
    pub fn at_address(&self, address: &str) -> Self {
        Self { http: http(Some(address.parse().unwrap())), ..self.clone() }
    }

    /// One object.
    pub fn post(&self, beat: &Beat) -> Answer {
        let request = self.request().header("content-type", "application/json").body(beat.json().to_string());
        self.send(request, std::slice::from_ref(beat)).unwrap()
    }

    /// An array.
    pub fn post_all(&self, beats: &[Beat]) -> Answer {
        self.try_post_all(beats).unwrap()
    }

    /// An array, where it may be that no answer comes, or that there is no door.
    pub fn try_post_all(&self, beats: &[Beat]) -> Result<Answer, String> {
        self.try_post(&Value::Array(beats.iter().map(Beat::json).collect()), beats)
    }

    /// One object, likewise.
    pub fn try_post_one(&self, beat: &Beat) -> Result<Answer, String> {
        self.try_post(&beat.json(), std::slice::from_ref(beat))
    }

    fn try_post(&self, body: &Value, beats: &[Beat]) -> Result<Answer, String> {
        let door = self.door.get().ok_or("there is no door")?;
        let request = self.request_to(&door).header("content-type", "application/json").body(body.to_string());
        self.send(request, beats).map_err(|error| error.to_string())
    }

    /// Lines.
    pub fn post_lines(&self, beats: &[Beat]) -> Answer {
        let lines: String = beats.iter().map(|beat| format!("{}\n", beat.json())).collect();
        let request = self.request().header("content-type", "application/x-ndjson").body(lines);
        self.send(request, beats).unwrap()
    }

    /// Whatever body, unknown to the ledger: for what must be refused.
    pub fn post_raw(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.request().header("content-type", content_type.to_owned()).body(body.into());
        Answer::read(request.send().unwrap()).unwrap()
    }

    /// An array of which all or nothing is to be kept.
    pub fn post_strictly(&self, beats: &[Beat]) -> Answer {
        let array = Value::Array(beats.iter().map(Beat::json).collect());
        let request = self.request().header("content-type", "application/json").header("prefer", "handling=strict");
        self.send(request.body(array.to_string()), beats).unwrap()
    }

    /// Whatever compressed body, unknown to the ledger.
    pub fn post_encoded(&self, encoding: &str, body: Vec<u8>) -> Answer {
        let request = self.request().header("content-type", "application/json").header("content-encoding", encoding);
        Answer::read(request.body(body).send().unwrap()).unwrap()
    }

    /// All of them answered 202, or the test fails.
    pub fn must_keep(&self, beats: &[Beat]) {
        let answer = self.post_all(beats);
        let whole = answer.status == 202 && answer.body["accepted"] == beats.len();
        assert!(whole, "{} of {} heartbeats: {}", answer.status, beats.len(), answer.text);
    }

    fn request(&self) -> RequestBuilder {
        self.request_to(&self.door.get().expect("there is a door"))
    }

    fn request_to(&self, door: &str) -> RequestBuilder {
        self.http.post(format!("{door}/v1/heartbeats"))
    }

    fn send(&self, request: RequestBuilder, beats: &[Beat]) -> reqwest::Result<Answer> {
        let answer = request.send().and_then(Answer::read);
        self.enter(answer.as_ref().ok(), beats);
        answer
    }

    fn enter(&self, answer: Option<&Answer>, beats: &[Beat]) {
        match answer {
            Some(Answer { status: 202, body, .. }) => {
                let refused: Vec<u64> = body["rejected"]
                    .as_array()
                    .map(|list| list.iter().filter_map(|entry| entry["index"].as_u64()).collect())
                    .unwrap_or_default();
                let kept = beats.iter().enumerate().filter(|(index, _)| !refused.contains(&(*index as u64)));
                kept.for_each(|(_, beat)| self.ledger.keep(beat));
            }
            // None of it was kept: if one of these is found in the files, it was invented.
            Some(Answer { status: 400..=499, .. }) => {}
            // Frames pushed before a 503 stay; without an answer anything may have happened.
            _ => beats.iter().for_each(|beat| self.ledger.maybe(beat)),
        }
    }
}

fn http(address: Option<IpAddr>) -> Http {
    Http::builder().timeout(TIMEOUT).no_proxy().local_address(address).build().unwrap()
}

/// GET of a whole URL, without a ledger.
pub fn get(url: &str) -> Option<Answer> {
    static SHARED: OnceLock<Http> = OnceLock::new();
    SHARED.get_or_init(|| http(None)).get(url).send().and_then(Answer::read).ok()
}
