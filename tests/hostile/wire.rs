//! A connection on which anything can be sent, and answers as they stand on it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than any answer in these tests takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Read, and not yet taken for an answer.
    ahead: Vec<u8>,
}

/// One answer, taken apart.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
    pub json: Value,
}

impl Answer {
    /// The end of its problem type.
    pub fn problem(&self) -> &str {
        self.json["type"].as_str().and_then(|kind| kind.strip_prefix("urn:systole:problem:")).unwrap_or("")
    }
}

impl Wire {
    pub fn open(address: &str) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// From another address of this machine; the system keeps little for it that is not read.
    pub fn open_from(from: &str, address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let connect = async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(8 << 10)?;
            socket.bind(format!("{from}:0").parse().unwrap())?;
            socket.connect(address.parse().unwrap()).await?.into_std()
        };
        let stream = runtime.block_on(connect).unwrap();
        stream.set_nonblocking(false).unwrap();
        Self::of(stream)
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends as much as the other side lets it. Whether it was all.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends what goes out without waiting. Whether all of it went.
    pub fn send_without_waiting(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let all = self.stream.write_all(bytes.as_ref()).is_ok();
        self.stream.set_nonblocking(false).unwrap();
        all
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer. `None` when the connection ends instead.
    pub fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.take_answer() {
                return Some(answer);
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(len) => self.ahead.extend_from_slice(&piece[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no answer within {PATIENCE:?}")
                }
                Err(_) => return None,
            }
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let whole = end + length.unwrap_or(0);
        if self.ahead.len() < whole {
            return None;
        }
        let text = String::from_utf8_lossy(&self.ahead[end..whole]).into_owned();
        self.ahead.drain(..whole);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Some(Answer { status, json: serde_json::from_str(&text).unwrap_or_default(), head, text })
    }

    /// Waits for the other side to end the connection, whatever it sends before. How long that took.
    pub fn await_end(&mut self, within: Duration) -> Duration {
        let began = Instant::now();
        let mut piece = [0; 16 << 10];
        while began.elapsed() < within {
            self.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            match self.stream.read(&mut piece) {
                Ok(0) => return began.elapsed(),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return began.elapsed(),
            }
        }
        panic!("the connection stays open for more than {within:?}");
    }

    /// Whether the other side has ended the connection by now; nothing is waited for.
    pub fn has_ended(&mut self) -> bool {
        let mut byte = [0];
        self.stream.set_nonblocking(true).unwrap();
        let ended = match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        self.stream.set_nonblocking(false).unwrap();
        ended
    }
}

/// A whole request: a POST of heartbeats with these lines of header.
pub fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.to_vec()].concat()
}
