//! Asking for heartbeats: what is refused and how, what an answer looks like, and how one ends that cannot be finished.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use systole::buffer::{self, Durability, FrameMark, FramePage, Frames, Reach, Registration};
use systole::dataset::{self, Awaited, Dataset, RealFs};
use systole::heartbeat::{DatasetId, Frame, HeartbeatRef, Partition};
use systole::http::Services;
use systole::query::{self, Reading};
use systole::token::{Scope, Token, Users};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::{Answer, Edge, PATIENCE, open_gate, send};
use crate::nothing;
use crate::tokens::{gate, list, made_for};

const NOON: i64 = 1_795_336_200_000;
/// Attributes of nearly the most that is allowed.
const LONG: usize = 4000;

/// A buffer in which the heartbeats of one user lie.
#[derive(Debug)]
pub struct Lying {
    frames: Vec<Bytes>,
    /// How often they may be looked through until the buffer is out of reach.
    looks: AtomicUsize,
    /// It never answers then.
    hangs: bool,
}

impl Lying {
    /// `rows` heartbeats of ada, a millisecond apart, with attributes of about `length` bytes.
    fn of(rows: i64, length: usize, looks: usize) -> Arc<Self> {
        let attributes = format!("{{\"n\":\"{}\"}}", "x".repeat(length));
        let row = |n| HeartbeatRef {
            user_id: "ada",
            timestamp: NOON + n,
            device_id: "laptop",
            id: None,
            received_at: NOON,
            attributes: Some(&attributes),
        };
        let rows: Vec<HeartbeatRef<'_>> = (0..rows).map(row).collect();
        let frames = rows.chunks(200).map(|rows| Frame::encode(rows.iter().copied()).unwrap().bytes().clone());
        Arc::new(Self { frames: frames.collect(), looks: AtomicUsize::new(looks), hangs: false })
    }

    /// One that never answers, instead of being out of reach.
    fn hanging(rows: i64, length: usize, looks: usize) -> Arc<Self> {
        let lying = Self::of(rows, length, looks);
        Arc::new(Self { frames: lying.frames.clone(), looks: AtomicUsize::new(looks), hangs: true })
    }
}

#[async_trait]
impl Reach for Lying {
    async fn durability(&self) -> buffer::Result<Durability> {
        Ok(Durability { level: "volatile", window: "all".to_owned(), wait_replicas: 0 })
    }

    async fn ping(&self) -> buffer::Result<()> {
        Ok(())
    }

    async fn registration(&self) -> buffer::Result<Option<Registration>> {
        Ok(Some(Registration { dataset: DatasetId::from_u128(1), partitions: 1 }))
    }
}

#[async_trait]
impl Frames for Lying {
    async fn frames(&self, _: Partition, _: Option<FrameMark>) -> buffer::Result<FramePage> {
        let left = self.looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |looks| looks.checked_sub(1));
        if self.hangs && left.is_err() {
            pending::<()>().await;
        }
        left.map_err(|_| buffer::Error::Unreachable { reason: "told to".into() })?;
        Ok(FramePage { frames: self.frames.clone(), next: None })
    }
}

/// The same, while the dataset comes to be seen: when it is looked through for the second time.
#[derive(Debug)]
struct Arriving {
    lying: Arc<Lying>,
    looks: AtomicUsize,
    dataset: Dataset,
    awaited: Awaited,
}

#[async_trait]
impl Reach for Arriving {
    async fn durability(&self) -> buffer::Result<Durability> {
        self.lying.durability().await
    }

    async fn ping(&self) -> buffer::Result<()> {
        self.lying.ping().await
    }

    async fn registration(&self) -> buffer::Result<Option<Registration>> {
        self.lying.registration().await
    }
}

#[async_trait]
impl Frames for Arriving {
    async fn frames(&self, partition: Partition, from: Option<FrameMark>) -> buffer::Result<FramePage> {
        if self.looks.fetch_add(1, Ordering::Relaxed) == 1 {
            self.awaited.arrived(self.dataset.clone());
        }
        self.lying.frames(partition, from).await
    }
}

async fn edge(lying: Arc<Lying>) -> Edge {
    Edge::before(lying, |_| {}).await
}

fn get(edge: &Edge, path: &str, accept: &str) -> reqwest::RequestBuilder {
    edge.client.get(edge.url(path)).header("Accept", accept).timeout(PATIENCE)
}

const PATH: &str = "/v1/users/ada/heartbeats";

#[tokio::test]
async fn an_answer_of_json_is_a_page_that_leads_to_the_next() {
    let edge = edge(Lying::of(2500, 10, usize::MAX)).await;
    let (mut path, mut sizes, mut next) = (PATH.to_owned(), Vec::new(), 0);
    loop {
        let answer = send(get(&edge, &path, "*/*")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!((answer.header("cache-control"), answer.header("systole-covers")), ("no-store", "buffer"));
        assert!(answer.header("ratelimit").starts_with("\"address\";r="), "{:?}", answer.headers);
        assert_eq!(answer.json["covers"], "buffer");
        let heartbeats = answer.json["heartbeats"].as_array().unwrap();
        for heartbeat in heartbeats {
            let time: jiff::Timestamp = heartbeat["timestamp"].as_str().unwrap().parse().unwrap();
            assert_eq!(time.as_millisecond(), NOON + next);
            next += 1;
        }
        sizes.push(heartbeats.len());
        let Some(cursor) = answer.json["next"].as_str() else {
            assert_eq!(answer.header("link"), "");
            break;
        };
        path = format!("{PATH}?cursor={cursor}");
        assert_eq!(answer.header("link"), format!("<{path}>; rel=\"next\""));
    }
    assert_eq!(sizes, [1000, 1000, 500]);
    edge.stop().await;
}

#[tokio::test]
async fn an_answer_covers_no_files_that_come_to_be_seen_while_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let options = dataset::Options { data: folder.path().join("data"), partitions: Some(1), ..Default::default() };
    let dataset = Dataset::open_or_create(&options, Arc::new(RealFs)).unwrap();
    let awaited = Awaited::default();
    // More than is kept of the buffer at a time, so it is looked through again.
    let (lying, looks) = (Lying::of(1000, LONG, usize::MAX), AtomicUsize::new(0));
    let arriving = Arc::new(Arriving { lying, looks, dataset, awaited: awaited.clone() });
    let metrics = query::Metrics::register(&Registry::new()).unwrap();
    let reading = Reading::new(arriving.clone(), awaited, &query::Options::default(), metrics);
    let services = Services { reading, ..nothing::services() };
    let edge = Edge::whole(open_gate(), services, |_, _| {}).await;
    for covers in ["buffer", "all"] {
        let answer = send(get(&edge, &format!("{PATH}?limit=1000"), "*/*")).await;
        assert!(answer.status == 200 && arriving.looks.load(Ordering::Relaxed) > 1);
        assert_eq!((answer.header("systole-covers"), answer.json["covers"].as_str()), (covers, Some(covers)));
    }
    edge.stop().await;
}

#[tokio::test]
async fn the_other_formats_are_streams_unless_a_page_is_asked_for() {
    let edge = edge(Lying::of(2500, 10, usize::MAX)).await;
    for (accept, content_type, lines) in [
        ("application/x-ndjson", "application/x-ndjson", 2500),
        ("text/csv", "text/csv; charset=utf-8; header=present", 2501),
    ] {
        let response = get(&edge, PATH, accept).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.content_length()), (200, None));
        assert_eq!(response.headers()["content-type"], content_type);
        assert!(!response.headers().contains_key("link"));
        assert_eq!(response.text().await.unwrap().lines().count(), lines);
        let page = get(&edge, &format!("{PATH}?limit=10&device=laptop"), accept).send().await.unwrap();
        let link = page.headers()["link"].to_str().unwrap().to_owned();
        assert!(link.starts_with("</v1/users/ada/heartbeats?limit=10&device=laptop&cursor="), "{link}");
        assert_eq!(page.text().await.unwrap().lines().count(), lines - 2490);
    }
    let parquet = get(&edge, PATH, "application/vnd.apache.parquet").send().await.unwrap().bytes().await.unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    edge.stop().await;
}

#[tokio::test]
async fn http_1_0_is_answered_in_one_piece_or_refused() {
    for (rows, accept, query, status) in [
        (2500, "text/csv", "", 200),
        (2500, "application/vnd.apache.parquet", "", 200),
        (10_001, "text/csv", "", 422),
        (10_001, "text/csv", "?limit=10", 200),
        (10_001, "application/json", "", 200),
    ] {
        let edge = edge(Lying::of(rows, 10, usize::MAX)).await;
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let request = format!("GET {PATH}{query} HTTP/1.0\r\nAccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let (head, body) = (String::from_utf8_lossy(&answer[..end]).to_lowercase(), &answer[end + 4..]);
        assert!(head.split(' ').nth(1) == Some(&status.to_string()), "{accept} {query}: {head}");
        assert!(head.contains(&format!("content-length: {}", body.len())) && !head.contains("chunked"), "{head}");
        assert_eq!(head.contains("link:"), rows > 2500 && status == 200, "{head}");
        if status == 422 {
            assert!(String::from_utf8_lossy(body).contains("HTTP/1.0"), "{}", String::from_utf8_lossy(body));
        }
        if rows == 2500 && accept == "text/csv" {
            assert_eq!(body.split(|byte| *byte == b'\n').count(), 2502);
        }
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_as_well() {
    let edge = edge(Lying::of(3000, LONG, usize::MAX)).await;
    let answer = send(get(&edge, &format!("{PATH}?limit=10000"), "*/*")).await;
    let given = answer.json["heartbeats"].as_array().unwrap().len();
    assert!((900..1200).contains(&given) && answer.json["next"].is_string(), "{given}");
    edge.stop().await;
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let edge = edge(Lying::of(2500, 10, usize::MAX)).await;
    for (accept, links) in [("application/json", true), ("text/csv", false)] {
        let head = edge.client.head(edge.url(PATH)).header("Accept", accept).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.headers().contains_key("link")), (200, links));
        assert_eq!(head.headers()["systole-covers"], "buffer");
        assert!(head.bytes().await.unwrap().is_empty());
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_name() {
    let edge = edge(Lying::of(1, 10, usize::MAX)).await;
    for (query, problem, words) in [
        ("form=1", "invalid-parameter", "`form`"),
        ("limit=1&limit=2", "invalid-parameter", "`limit` is given twice"),
        ("from=1795336200", "invalid-parameter", "seconds"),
        ("cursor=AQ", "invalid-cursor", "cursor"),
    ] {
        let answer = send(get(&edge, &format!("{PATH}?{query}"), "*/*")).await;
        assert_eq!((answer.status, answer.problem()), (422, problem), "{query}");
        assert!(answer.json["detail"].as_str().unwrap().contains(words), "{}", answer.json);
    }
    let answer = send(get(&edge, "/v1/users/%ff/heartbeats", "*/*")).await;
    assert_eq!((answer.status, answer.problem()), (422, "invalid-parameter"));
    let answer = send(get(&edge, PATH, "text/html")).await;
    assert_eq!((answer.status, answer.problem()), (406, "not-acceptable"));
    assert!(answer.json["detail"].as_str().unwrap().contains("text/csv"), "{}", answer.json);
    let answer = send(edge.client.delete(edge.url(PATH))).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
    // No user ever stands in a label.
    assert!(
        edge.metric("systole_http_requests_total{route=\"/v1/users/{user}/heartbeats\",status=\"4xx\"}").unwrap()
            >= 6.0
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_token_reads_its_own_users_and_only_with_the_scope_for_it() {
    let ada = || Users::These(["ada".to_owned()].into());
    let ((read, reader), (write, writer)) = (made_for(Scope::Read, ada()), made_for(Scope::Write, ada()));
    let lying = nothing::services_of(Lying::of(1, 10, usize::MAX));
    let edge = Edge::whole(gate(vec![read, write]), lying, |_, _| {}).await;
    let ask = async |path: &str, bearer: &str| {
        let answer = send(get(&edge, path, "*/*").header("Authorization", bearer)).await;
        (answer.status, answer.problem().to_owned())
    };
    assert_eq!(ask(PATH, &reader).await.0, 200);
    let refused = |status, problem: &str| (status, problem.to_owned());
    assert_eq!(ask("/v1/users/bob/heartbeats", &reader).await, refused(403, "forbidden-user"));
    // Encoded otherwise it is the same user, and no other.
    assert_eq!(ask("/v1/users/%61da/heartbeats", &reader).await.0, 200);
    assert_eq!(ask("/v1/users/ad%61%20/heartbeats", &reader).await, refused(403, "forbidden-user"));
    assert_eq!(ask(PATH, &writer).await, refused(403, "missing-scope"));
    assert_eq!(ask(PATH, "Bearer x").await, refused(401, "unauthorized"));
    edge.stop().await;
}

#[tokio::test]
async fn asking_counts_against_the_address() {
    let edge = Edge::behind(open_gate(), |_, rates| (rates.address_rate, rates.address_burst) = (1, 2)).await;
    let ask = async || send(get(&edge, PATH, "*/*")).await;
    let statuses = [ask().await.status, ask().await.status];
    let limited = ask().await;
    assert_eq!((limited.status, limited.problem()), (429, "rate-limited"), "{statuses:?}");
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    edge.stop().await;
}

#[tokio::test]
async fn what_fails_from_the_start_is_told_as_such() {
    for accept in ["application/json", "text/csv"] {
        let edge = edge(Lying::of(10, 10, 0)).await;
        let answer = send(get(&edge, PATH, accept)).await;
        assert_eq!((answer.status, answer.problem()), (503, "buffer-unreachable"));
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert!(!answer.json["detail"].as_str().unwrap().contains("send"), "nothing was sent: {}", answer.json);
        edge.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_fails_midway_never_looks_whole() {
    // More than is kept of the buffer at a time, so it is looked through again.
    let lying = Lying::of(1500, LONG, 1);
    let edge = edge(lying.clone()).await;
    for accept in ["application/x-ndjson", "text/csv", "application/vnd.apache.parquet"] {
        let response = get(&edge, PATH, accept).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.bytes().await.is_err(), "{accept} ended as if it were whole");
        // Once more from the start.
        lying.looks.store(1, Ordering::Relaxed);
    }
    edge.stop().await;
}

/// A client at this address of the machine that takes next to nothing ahead of its reading, of an answer that has begun.
async fn stingy(edge: &Edge, from: &str, bearer: Option<&str>) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(edge.address).await.unwrap();
    let token = bearer.map(|bearer| format!("authorization: {bearer}\r\n")).unwrap_or_default();
    let head = format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n{token}accept: application/x-ndjson\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

/// How one asks from this address of the machine.
async fn ask_from(edge: &Edge, from: &str) -> Answer {
    let client = reqwest::Client::builder().local_address(Some(from.parse().unwrap())).build().unwrap();
    send(client.get(edge.url(PATH)).header("Accept", "*/*").timeout(PATIENCE)).await
}

#[tokio::test]
async fn more_reads_than_there_are_places_for_are_put_off_until_one_ends() {
    let edge = Edge::before(Lying::of(4000, LONG, usize::MAX), |options| {
        options.read_streams = 4;
        options.answer_deadline = Duration::from_secs(5).into();
    })
    .await;
    let began = Instant::now();
    let [one, two, three] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    let mut takers = vec![stingy(&edge, one, None).await, stingy(&edge, one, None).await];
    let of_the_same = ask_from(&edge, one).await;
    assert_eq!((of_the_same.status, of_the_same.problem()), (503, "overloaded"));
    assert!(of_the_same.json["detail"].as_str().unwrap().contains("from this address"), "{}", of_the_same.json);
    assert_eq!(ask_from(&edge, two).await.status, 200, "the other half is for others");
    takers.extend([stingy(&edge, two, None).await, stingy(&edge, two, None).await]);
    assert_eq!(edge.metric("systole_http_reads_in_flight"), Some(4.0));
    let answer = ask_from(&edge, three).await;
    assert_eq!((answer.status, answer.problem()), (503, "overloaded"));
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    // None takes anything: their places are free again once their deadline is over.
    while edge.metric("systole_http_reads_in_flight") != Some(0.0) {
        assert!(began.elapsed() < PATIENCE, "places are not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(send(get(&edge, PATH, "*/*")).await.status, 200);
    drop(takers);
    edge.stop().await;
}

/// Until so many places are taken. What has come for `client` is taken, so that nothing but its end is left to be noticed.
async fn await_in_flight(edge: &Edge, count: f64, client: &mut TcpStream) {
    let began = Instant::now();
    let mut piece = vec![0; 64 << 10];
    while edge.metric("systole_http_reads_in_flight") != Some(count) {
        assert!(began.elapsed() < PATIENCE, "there are not {count} places taken");
        let _ = timeout(Duration::from_millis(50), client.read(&mut piece)).await;
    }
}

/// Before anything was sent, and between two pieces.
#[tokio::test]
async fn a_search_ends_when_its_client_leaves() {
    for (accept, looks) in [("application/json", 0), ("application/x-ndjson", 1)] {
        let edge = edge(Lying::hanging(1500, LONG, looks)).await;
        let mut client = TcpStream::connect(edge.address).await.unwrap();
        let head = format!("GET {PATH} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        await_in_flight(&edge, 1.0, &mut client).await;
        client.shutdown().await.unwrap();
        await_in_flight(&edge, 0.0, &mut client).await;
        edge.stop().await;
    }
}

#[tokio::test]
async fn one_token_leaves_half_of_the_places_to_others() {
    let ada = || Users::These(["ada".to_owned()].into());
    let ((one, greedy), (other, modest)) = (made_for(Scope::Read, ada()), made_for(Scope::Read, ada()));
    let lying = nothing::services_of(Lying::of(4000, LONG, usize::MAX));
    let edge = Edge::whole(gate(vec![one, other]), lying, |options, _| options.read_streams = 2).await;
    let _taker = stingy(&edge, "127.0.0.1", Some(&greedy)).await;
    let ask = async |bearer: &str| send(get(&edge, PATH, "*/*").header("Authorization", bearer)).await.status;
    assert_eq!((ask(&greedy).await, ask(&modest).await), (503, 200));
    edge.stop().await;
}

#[tokio::test]
async fn an_answer_breaks_off_as_soon_as_its_token_is_revoked_or_has_expired() {
    const LASTS: Duration = Duration::from_secs(3);
    for expires in [false, true] {
        let (mut stored, bearer) = made_for(Scope::Read, Users::All);
        if expires {
            let token = Token::read(&stored).unwrap();
            stored = Token { expires: Some(jiff::Timestamp::now() + LASTS), ..token }.store().unwrap();
        }
        let gate = gate(vec![stored]);
        let lying = nothing::services_of(Lying::of(4000, LONG, usize::MAX));
        let edge = Edge::whole(gate.clone(), lying, |_, _| {}).await;
        let asked = get(&edge, PATH, "application/x-ndjson").header("Authorization", &bearer);
        let mut response = asked.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response.chunk().await.unwrap().unwrap();
        if expires {
            tokio::time::sleep(LASTS).await;
        } else {
            gate.take(&list(Vec::new()));
        }
        let mut taken = 0;
        let broke = loop {
            match response.chunk().await {
                Ok(Some(piece)) => taken += piece.len(),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(broke, "it ended as if it were whole, after {taken} bytes");
        edge.stop().await;
    }
}
