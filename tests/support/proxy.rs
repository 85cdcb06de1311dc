//! A network that fails on command, between the program and its Redis, or between a master and its replica.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::dice::Dice;
use super::wait;

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
    /// Whatever is on its way stays there, and connections stand, until the weather changes.
    Stalled,
    /// Now and then a connection is cut in the middle of what it carries, an answer is held back beyond any deadline, or one is
    /// swallowed while its connection stands.
    Storm,
    /// Each answer takes [`FAR`] longer.
    Far,
}

/// In a storm, one in so many pieces that are carried meets each fate.
const PIECES_PER_FATE: usize = 60;
/// Holds an answer back for up to so many milliseconds: longer than the deadline of any step of a test.
const LATEST_MS: usize = 3_000;

/// As from the other end of a continent.
const FAR: Duration = Duration::from_millis(20);

/// What becomes of a piece that is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    /// The connection breaks before it.
    Lost,
    /// The connection breaks in the middle of it.
    Torn,
    /// It never comes, and what comes after it does.
    Swallowed,
    Late(Duration),
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
    /// Of the storm.
    seed: u64,
    connections: AtomicU64,
    weather: AtomicU8,
    ended: AtomicBool,
    /// By kind: lost, torn, swallowed, late.
    struck: [AtomicU64; 4],
}

impl Proxy {
    /// In front of the port of this machine. Under [`Weather::AnswersLost`] it loses the answers to requests in which
    /// `step` stands, such as part of a key.
    pub fn to(port: u16, step: &'static str) -> Self {
        Self::start(port, step, 0)
    }

    /// The same for a [`Weather::Storm`], which is the same again for the same dice: each connection has its own fates, in
    /// the order of the connections.
    pub fn stormy(port: u16, dice: &mut Dice) -> Self {
        Self::start(port, "", dice.roll(1 << 31) as u64)
    }

    fn start(port: u16, step: &'static str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let state = State {
            target,
            step,
            seed,
            connections: AtomicU64::new(0),
            weather: AtomicU8::new(Weather::Fair as u8),
            ended: AtomicBool::new(false),
            struck: Default::default(),
        };
        let state = Arc::new(state);
        let accept = state.clone();
        std::thread::spawn(move || accept.accept(&listener));
        Self { address, state }
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes what the network does, for standing connections as well.
    pub fn set(&self, weather: Weather) {
        self.state.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u64 {
        self.struck()[0]
    }

    /// Pieces so far that were lost, torn, swallowed and late.
    pub fn struck(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|kind| self.state.struck[kind].load(Ordering::SeqCst))
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
                let number = self.connections.fetch_add(1, Ordering::SeqCst);
                let (asks, answers) = (self.clone(), self.clone());
                let (from_client, to_client) = (client.try_clone().unwrap(), client);
                let (from_server, to_server) = (server.try_clone().unwrap(), server);
                let asked = Arc::new(AtomicBool::new(false));
                let answered = asked.clone();
                let [mut out, mut home] = [1, 2].map(|way| Dice::of(self.seed ^ (number << 2 | way)));
                std::thread::spawn(move || {
                    asks.pump(from_client, to_server, |bytes| asks.heed(&asked, bytes, &mut out))
                });
                std::thread::spawn(move || {
                    answers.pump(from_server, to_client, |_| answers.judge(&answered, &mut home))
                });
            }
        }
    }

    /// Remembers that the step was asked for; but for a storm, what is asked always passes.
    fn heed(&self, asked: &AtomicBool, bytes: &[u8], dice: &mut Dice) -> Fate {
        if !self.step.is_empty() && bytes.windows(self.step.len()).any(|window| window == self.step.as_bytes()) {
            asked.store(true, Ordering::SeqCst);
        }
        match dice.roll(PIECES_PER_FATE) {
            0 if self.is(Weather::Storm) => Fate::Torn,
            _ => Fate::Passes,
        }
    }

    /// What becomes of this answer.
    fn judge(&self, asked: &AtomicBool, dice: &mut Dice) -> Fate {
        let lost = self.is(Weather::AnswersLost) && asked.load(Ordering::SeqCst);
        asked.store(false, Ordering::SeqCst);
        let late = dice.millis(LATEST_MS);
        match dice.roll(PIECES_PER_FATE) {
            _ if lost => Fate::Lost,
            _ if self.is(Weather::Far) => Fate::Late(FAR),
            0 if self.is(Weather::Storm) => Fate::Torn,
            1 if self.is(Weather::Storm) => Fate::Swallowed,
            2 if self.is(Weather::Storm) => Fate::Late(late),
            3 if self.is(Weather::Storm) => Fate::Lost,
            _ => Fate::Passes,
        }
    }

    /// Carries bytes one way until the weather, their fate or either end breaks the connection.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, mut fate: impl FnMut(&[u8]) -> Fate) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let fate = fate(&buffer[..count]);
            self.count(fate);
            if let Fate::Late(by) = fate {
                std::thread::sleep(by);
            }
            while self.is(Weather::Stalled) && !self.ended.load(Ordering::SeqCst) {
                wait::a_moment();
            }
            let passes = match fate {
                Fate::Lost => 0,
                Fate::Torn => count / 2,
                Fate::Swallowed => continue,
                Fate::Passes | Fate::Late(_) => count,
            };
            if self.is(Weather::Cut) || to.write_all(&buffer[..passes]).is_err() || passes < count {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn count(&self, fate: Fate) {
        let kind = match fate {
            Fate::Passes => return,
            Fate::Lost => 0,
            Fate::Torn => 1,
            Fate::Swallowed => 2,
            Fate::Late(_) => 3,
        };
        self.struck[kind].fetch_add(1, Ordering::SeqCst);
    }
}
