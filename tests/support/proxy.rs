//! A network that fails on command, between the program and its Redis.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    /// Everything passes.
    Fair,
    /// Connections are cut, and new ones closed at once.
    Cut,
    /// The steps that are named arrive and are done, but the connection breaks before the answer comes home.
    AnswersLost,
}

/// A TCP proxy on a port of its own. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    /// What a request must hold for its answer to be lost.
    step: &'static str,
    weather: AtomicU8,
    ended: AtomicBool,
    lost: AtomicU64,
}

impl Proxy {
    /// In front of the port of this machine. Under [`Weather::AnswersLost`] it loses the answers to requests in which
    /// `step` stands, such as part of a key.
    pub fn to(port: u16, step: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let weather = AtomicU8::new(Weather::Fair as u8);
        let state = Arc::new(State { target, step, weather, ended: AtomicBool::new(false), lost: AtomicU64::new(0) });
        let accept = state.clone();
        std::thread::spawn(move || accept.accept(&listener));
        Self { address, state }
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes what the network does, for standing connections as well.
    pub fn set(&self, weather: Weather) {
        self.state.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn is(&self, weather: Weather) -> bool {
        self.weather.load(Ordering::SeqCst) == weather as u8
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().map_while(Result::ok) {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let server = if self.is(Weather::Cut) { None } else { TcpStream::connect(self.target).ok() };
            if let Some(server) = server {
                let (asks, answers) = (self.clone(), self.clone());
                let (from_client, to_client) = (client.try_clone().unwrap(), client);
                let (from_server, to_server) = (server.try_clone().unwrap(), server);
                let asked = Arc::new(AtomicBool::new(false));
                let answered = asked.clone();
                std::thread::spawn(move || asks.pump(from_client, to_server, |bytes| asks.heed(&asked, bytes)));
                std::thread::spawn(move || answers.pump(from_server, to_client, |_| answers.passes(&answered)));
            }
        }
    }

    /// Remembers that the step was asked for; what is asked always passes.
    fn heed(&self, asked: &AtomicBool, bytes: &[u8]) -> bool {
        if bytes.windows(self.step.len()).any(|window| window == self.step.as_bytes()) {
            asked.store(true, Ordering::SeqCst);
        }
        true
    }

    /// Whether this answer passes.
    fn passes(&self, asked: &AtomicBool) -> bool {
        let lost = self.is(Weather::AnswersLost) && asked.load(Ordering::SeqCst);
        self.lost.fetch_add(lost.into(), Ordering::SeqCst);
        asked.store(false, Ordering::SeqCst);
        !lost
    }

    /// Carries bytes one way until the weather or either end breaks the connection, or they do not `pass`.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, pass: impl Fn(&[u8]) -> bool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !pass(&buffer[..count]) || self.is(Weather::Cut) || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
