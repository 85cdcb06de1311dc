//! One connection: a request, its answer, the next request.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Run;
use crate::beats::compress;

/// The pause after an answer that asks for one. `Retry-After` counts in seconds, too long for a measurement.
const PAUSE: Duration = Duration::from_millis(20);
/// Larger heads are none of Systole's.
const MAX_HEAD: usize = 16 * 1024;

/// What became of requests.
#[derive(Debug, Default)]
pub struct Tally {
    accepted_requests: u64,
    accepted: u64,
    /// Answered with 429 or 503.
    put_off: u64,
    /// Answered with anything else.
    refused: u64,
    bytes: u64,
    /// How long each accepted request took, in microseconds.
    micros: Vec<u32>,
}

impl Tally {
    pub fn add(&mut self, mut other: Self) {
        self.accepted_requests += other.accepted_requests;
        self.accepted += other.accepted;
        self.put_off += other.put_off;
        self.refused += other.refused;
        self.bytes += other.bytes;
        self.micros.append(&mut other.micros);
    }

    /// All of it on one line. `next` is the number of the first heartbeat that was not sent.
    pub fn line(&mut self, took: Duration, next: u64) -> String {
        self.micros.sort_unstable();
        let millis = |share: f64| {
            let at = (self.micros.len() as f64 * share) as usize;
            self.micros.get(at).or(self.micros.last()).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        let seconds = took.as_secs_f64();
        format!(
            "accepted={} per_s={:.0} requests={} put_off={} refused={} seconds={seconds:.2} mb_per_s={:.1} \
             p50_ms={:.2} p99_ms={:.2} p999_ms={:.2} next={next}",
            self.accepted,
            self.accepted as f64 / seconds,
            self.accepted_requests,
            self.put_off,
            self.refused,
            self.bytes as f64 / seconds / 1e6,
            millis(0.5),
            millis(0.99),
            millis(0.999),
        )
    }
}

/// A connection and its memory.
pub struct Connection {
    stream: TcpStream,
    body: Vec<u8>,
    packed: Vec<u8>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Posts until the run is over.
    pub async fn post(run: Arc<Run>) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut this = Self::open(&run).await?;
        while !run.is_over() {
            let bulk = run.options.bulk;
            let first = run.next.fetch_add(bulk, Ordering::Relaxed);
            this.render(&run, first)?;
            let sent = Instant::now();
            let status = this.exchange().await?;
            match status {
                202 => {
                    tally.accepted_requests += 1;
                    tally.accepted += bulk;
                    run.accepted.fetch_add(bulk, Ordering::Relaxed);
                    tally.bytes += this.request.len() as u64;
                    tally.micros.push(sent.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
                }
                429 | 503 => {
                    tally.put_off += 1;
                    tokio::time::sleep(PAUSE).await;
                    // The server may have closed it.
                    this = Self::open(&run).await?;
                }
                _ => tally.refused += 1,
            }
        }
        Ok(tally)
    }

    async fn open(run: &Run) -> io::Result<Self> {
        let stream = TcpStream::connect(run.options.address).await?;
        stream.set_nodelay(true)?;
        let memory = || Vec::with_capacity(4096);
        Ok(Self { stream, body: memory(), packed: memory(), request: memory(), answer: memory() })
    }

    fn render(&mut self, run: &Run, first: u64) -> io::Result<()> {
        let options = &run.options;
        run.beats.write(first..first + options.bulk, options.form, &mut self.body);
        let (body, encoding) = if options.gzip {
            compress(&self.body, &mut self.packed)?;
            (&self.packed, "content-encoding: gzip\r\n")
        } else {
            (&self.body, "")
        };
        self.request.clear();
        write!(
            self.request,
            "POST /v1/heartbeats HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\n{encoding}content-length: {}\r\n\r\n",
            options.address,
            options.form.media_type(),
            body.len()
        )?;
        self.request.extend_from_slice(body);
        Ok(())
    }

    /// Sends the request and reads its answer to the end; its status.
    async fn exchange(&mut self) -> io::Result<u16> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let (status, whole) = loop {
            self.read_some().await?;
            if let Some(head) = read_head(&self.answer)? {
                break head;
            }
        };
        while self.answer.len() < whole {
            self.read_some().await?;
        }
        Ok(status)
    }

    async fn read_some(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.answer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The status and the length of the whole answer, once its head is there.
fn read_head(answer: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if answer.len() > MAX_HEAD { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Some(0), |(_, value)| value.trim().parse().ok());
    let (status, length): (u16, usize) = status.zip(length).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((status, end + 4 + length)))
}
