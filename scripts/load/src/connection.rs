//! One connection: a request, its answer, the next request.

use std::io;
use std::ops::Range;
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
        let answer = self.exchange(request).await?;
        let now = Instant::now();
        if now >= run.counts_from {
            match answer {
                // Some of a request can be refused with the others taken: that is not what was asked for.
                Answer::Accepted(accepted) if accepted == heartbeats => {
                    tally.accepted(heartbeats, request.len(), now - due);
                }
                Answer::PutOff => tally.put_off(),
                Answer::Accepted(_) | Answer::Refused => tally.refused(),
            }
        }
        Ok(answer != Answer::PutOff)
    }

    /// Sends the request and reads its answer to the end.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let head = loop {
            self.read_some().await?;
            if let Some(head) = Head::read(&self.answer)? {
                break head;
            }
        };
        while self.answer.len() < head.body.end {
            self.read_some().await?;
        }
        Ok(Answer::of(head.status, &self.answer[head.body]))
    }

    async fn read_some(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.answer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// What the server made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// So many heartbeats are kept.
    Accepted(u64),
    PutOff,
    Refused,
}

impl Answer {
    fn of(status: u16, body: &[u8]) -> Self {
        match status {
            202 => accepted(body).map_or(Self::Refused, Self::Accepted),
            429 | 503 => Self::PutOff,
            _ => Self::Refused,
        }
    }
}

/// The number that the body of a 202 begins with.
fn accepted(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(br#"{"accepted":"#)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// The head of an answer: its status, and where its body lies.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body: Range<usize>,
}

impl Head {
    /// Once it is there as a whole.
    fn read(answer: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if answer.len() > MAX_HEAD { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&answer[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let length =
            lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: Option<usize> = length.map_or(Some(0), |(_, value)| value.trim().parse().ok());
        let (status, length) = status.zip(length).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(Self { status, body: end + 4..end + 4 + length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 31\r\ndate: today\r\n\r\n{\"accepted\":1000,\"rejected\":[]}";

    #[test]
    fn an_answer_is_read_once_its_head_is_there() {
        for some in 0..ANSWER.len() - 31 {
            assert_eq!(Head::read(&ANSWER[..some]).unwrap(), None, "{some}");
        }
        let head = Head::read(ANSWER).unwrap().unwrap();
        assert_eq!(Answer::of(head.status, &ANSWER[head.body]), Answer::Accepted(1000));
    }

    #[test]
    fn only_what_is_kept_counts_as_accepted() {
        assert_eq!(Answer::of(202, br#"{"accepted":7,"rejected":[{"index":3}]}"#), Answer::Accepted(7));
        assert_eq!(Answer::of(202, b"{}"), Answer::Refused);
        assert_eq!(Answer::of(503, b""), Answer::PutOff);
        assert_eq!(Answer::of(422, br#"{"accepted":7}"#), Answer::Refused);
    }
}
