//! One connection: a request, its answer, the next request.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Run;
use crate::tally::Tally;

/// The pause after an answer that asks for one. `Retry-After` counts in seconds, too long for a measurement.
const PAUSE: Duration = Duration::from_millis(20);
/// Larger heads are none of Systole's.
const MAX_HEAD: usize = 16 * 1024;

/// A connection and its memory.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Posts until the run is over.
    pub async fn post(run: Arc<Run>) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut this = Self::open(&run).await?;
        let mut scratch = Default::default();
        while let Some(due) = run.await_due().await
            && let Some(numbers) = run.next()
        {
            let heartbeats = numbers.end - numbers.start;
            let request = run.requests.get(&run.options, numbers, &mut scratch)?;
            // The same again until it is taken, as clients do.
            while !this.send(&run, request, heartbeats, due, &mut tally).await? && !run.is_over() {
                tokio::time::sleep(PAUSE).await;
                // The server may have closed it.
                this = Self::open(&run).await?;
            }
        }
        Ok(tally)
    }

    async fn open(run: &Run) -> io::Result<Self> {
        let stream = TcpStream::connect(run.options.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(4096) })
    }

    /// Sends a request that was due at some moment; whether that settled it.
    async fn send(
        &mut self,
        run: &Run,
        request: &[u8],
        heartbeats: u64,
        due: Instant,
        tally: &mut Tally,
    ) -> io::Result<bool> {
        let status = self.exchange(request).await?;
        let now = Instant::now();
        let put_off = matches!(status, 429 | 503);
        if now >= run.counts_from {
            match status {
                202 => tally.accepted(heartbeats, request.len(), now - due),
                429 | 503 => tally.put_off(),
                _ => tally.refused(),
            }
        }
        Ok(!put_off)
    }

    /// Sends the request and reads its answer to the end; its status.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
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
