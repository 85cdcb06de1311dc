//! A real redis-server for one test: own port, own folder, own life.
//!
//! Constraints: depends on nothing of ours but std and tempfile, so that a unit test may include it by `#[path]`. Two
//! tests never share a server, nor a port. The port is the operating system's choice; when another process takes it
//! before the server does, another one is chosen. The server dies with the value that stands for it.

#![allow(dead_code, reason = "each test crate uses its own part of the harness")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a harness that cannot go on must stop")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer after its start; a big append-only file is read meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long one exchange with the server may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often the server is asked while it starts.
const POLL: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    appendonly: &'static str,
    appendfsync: &'static str,
    policy: &'static str,
    maxmemory: Option<String>,
    more: Vec<String>,
    env: Vec<(String, String)>,
}

impl Setup {
    /// `no`, `everysec` or `always` (unless told otherwise).
    pub fn appendfsync(mut self, when: &'static str) -> Self {
        self.appendfsync = when;
        self
    }

    /// `yes` unless told otherwise.
    pub fn appendonly(mut self, yes_or_no: &'static str) -> Self {
        self.appendonly = yes_or_no;
        self
    }

    /// `noeviction` unless told otherwise.
    pub fn maxmemory_policy(mut self, policy: &'static str) -> Self {
        self.policy = policy;
        self
    }

    /// Such as `64mb`; without a bound unless told.
    pub fn maxmemory(mut self, size: impl Into<String>) -> Self {
        self.maxmemory = Some(size.into());
        self
    }

    /// One more setting, as in `redis.conf`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.more.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// One variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the server and waits until it answers.
    pub fn start(self) -> RedisServer {
        let folder = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        for _ in 0..20 {
            let port = free_port();
            match self.launch(port, folder.path()) {
                Ok(child) => return RedisServer { setup: self, port, folder, child: Some(child) },
                Err(Launch::PortTaken) => continue,
                Err(Launch::Failed(why)) => panic!("redis-server did not start: {why}"),
            }
        }
        panic!("redis-server found no free port in 20 attempts");
    }

    fn launch(&self, port: u16, folder: &Path) -> Result<Child, Launch> {
        let log = std::fs::File::create(folder.join("redis.log")).unwrap();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""])
            .args(["--dir", folder.to_str().unwrap(), "--unixsocket", folder.join("redis.sock").to_str().unwrap()])
            .args(["--appendonly", self.appendonly, "--appendfsync", self.appendfsync])
            .args(["--maxmemory-policy", self.policy]);
        if let Some(size) = &self.maxmemory {
            command.args(["--maxmemory", size]);
        }
        command
            .args(&self.more)
            .envs(self.env.clone())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child =
            command.spawn().map_err(|error| Launch::Failed(format!("{error} (apt-get install redis-server)")))?;

        let give_up = Instant::now() + START_DEADLINE;
        while Instant::now() < give_up {
            if let Some(status) = child.try_wait().unwrap() {
                let log = std::fs::read_to_string(folder.join("redis.log")).unwrap_or_default();
                let taken = log.contains("Address already in use");
                return Err(if taken { Launch::PortTaken } else { Launch::Failed(format!("{status}: {log}")) });
            }
            if answers_as(port, child.id()) {
                return Ok(child);
            }
            std::thread::sleep(POLL);
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(Launch::Failed(format!("no answer within {START_DEADLINE:?}")))
    }
}

enum Launch {
    PortTaken,
    Failed(String),
}

/// A running (or, between `kill` and `restart`, a dead) redis-server.
#[derive(Debug)]
pub struct RedisServer {
    setup: Setup,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// As recommended: append-only file on, fsync before each answer, no eviction.
    pub fn start() -> Self {
        Self::with().start()
    }

    /// The settings of [`RedisServer::start`], to be changed.
    pub fn with() -> Setup {
        Setup {
            appendonly: "yes",
            appendfsync: "always",
            policy: "noeviction",
            maxmemory: None,
            more: Vec::new(),
            env: Vec::new(),
        }
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `unix://…/redis.sock`.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// The port, the same over every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Dies at once. With `appendfsync always` all that was answered is in its file; with `everysec` what it answered while
    /// an fsync was under way may be lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops in order, so that the append-only file is whole.
    pub fn shut_down(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            child.wait().unwrap();
        }
    }

    /// Starts again on the same port and the same files; kills it first when it still runs.
    pub fn restart(&mut self) {
        self.kill();
        let give_up = Instant::now() + START_DEADLINE;
        while Instant::now() < give_up {
            match self.setup.launch(self.port, self.folder.path()) {
                Ok(child) => {
                    self.child = Some(child);
                    return;
                }
                // A passing connection may hold the port for a moment.
                Err(Launch::PortTaken) => std::thread::sleep(POLL),
                Err(Launch::Failed(why)) => panic!("redis-server did not start again: {why}"),
            }
        }
        panic!("redis-server did not get its port {} back", self.port);
    }

    /// Starts again with nothing in it, as after a lost disk.
    pub fn restart_empty(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
        }
        self.restart();
    }

    /// Makes the server hang: connections stand, nothing is answered.
    pub fn stop_process(&self) {
        self.signal("STOP");
    }

    /// Ends [`RedisServer::stop_process`].
    pub fn cont(&self) {
        self.signal("CONT");
    }

    /// Runs one command through redis-cli and answers its raw output without the last line break.
    pub fn cli(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string(), "--raw"]).args(command).output();
        let output = output.expect("redis-cli stands beside redis-server");
        assert!(output.status.success(), "redis-cli {command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, name: &str) {
        signal(self.pid().expect("the server runs"), name);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether the server at `port` is process `pid`, and ready. Another test's server may have taken the port meanwhile.
fn answers_as(port: u16, pid: u32) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(ANSWER_DEADLINE))?;
        // QUIT makes the server close, which ends the answer.
        connection.write_all(b"PING\r\nINFO server\r\nQUIT\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("+PONG") && answer.contains(&format!("\r\nprocess_id:{pid}\r\n")))
}
