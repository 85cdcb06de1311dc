//! A real redis-server for one test: own port, own folder, own life.
//!
//! Constraints: depends on nothing of ours but std and tempfile, so that a unit test may include it by `#[path]`. Two
//! tests never share a server, nor a port. The port is the operating system's choice; when another process takes it
//! before the server does, another one is chosen. The server dies with the value that stands for it.

#![allow(dead_code, reason = "each test crate uses its own part of the harness")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a harness that cannot go on must stop")]
#![allow(clippy::print_stderr, reason = "what a failed test shows")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer after its start; a big append-only file is read meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long one exchange with the server may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How often the server is asked while it starts.
const POLL: Duration = Duration::from_millis(10);

/// Log lines shown of a server when a test fails.
const SHOWN_LINES: usize = 40;

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    appendonly: &'static str,
    appendfsync: &'static str,
    policy: &'static str,
    maxmemory: Option<String>,
    more: Vec<String>,
    /// Where its files are, if not in its own folder.
    dir: Option<PathBuf>,
    /// The port on which it talks to the other nodes of its Cluster.
    bus: Option<u16>,
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

    /// With its append-only file in this folder, such as a small file system.
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.dir = Some(folder.into());
        self
    }

    /// As a replica of the server on this port.
    pub fn replica_of(self, port: u16) -> Self {
        self.set("replicaof", &format!("127.0.0.1 {port}"))
    }

    /// As a node of a Cluster, without any slot and alone.
    pub fn cluster(mut self) -> Self {
        self.bus = Some(0);
        self.set("cluster-enabled", "yes").set("cluster-node-timeout", "2000")
    }

    /// One variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the server and waits until it answers.
    pub fn start(mut self) -> RedisServer {
        let folder = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        for _ in 0..20 {
            let port = free_port();
            self.bus = self.bus.map(|_| free_port());
            match self.launch(port, folder.path()) {
                Ok(child) => return RedisServer { setup: self, port, folder, child: Some(child) },
                Err(Launch::PortTaken) => continue,
                Err(Launch::Failed(why)) => panic!("redis-server did not start: {why}"),
            }
        }
        panic!("redis-server found no free port in 20 attempts");
    }

    fn launch(&self, port: u16, folder: &Path) -> Result<Child, Launch> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("redis.log")).unwrap();
        // Of this life only: what it says of its port tells whether that is taken.
        let before = log.metadata().unwrap().len() as usize;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""])
            // No test has several replicas that could share one sync.
            .args(["--repl-diskless-sync-delay", "0"])
            .args([
                "--dir",
                self.dir(folder).to_str().unwrap(),
                "--unixsocket",
                folder.join("redis.sock").to_str().unwrap(),
            ])
            .args(["--appendonly", self.appendonly, "--appendfsync", self.appendfsync])
            .args(["--maxmemory-policy", self.policy]);
        if let Some(size) = &self.maxmemory {
            command.args(["--maxmemory", size]);
        }
        if let Some(bus) = self.bus {
            command.args(["--cluster-port", &bus.to_string()]);
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
                let taken = log.get(before..).is_some_and(|log| log.contains("Address already in use"));
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

impl Setup {
    fn dir<'a>(&'a self, own: &'a Path) -> &'a Path {
        self.dir.as_deref().unwrap_or(own)
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
            dir: None,
            bus: None,
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

    /// Starts again as a replica of the server on this port, as Sentinel would make of a master that comes back.
    pub fn restart_as_replica_of(&mut self, port: u16) {
        self.setup = self.setup.clone().replica_of(port);
        self.restart();
    }

    /// The port for the other nodes of its Cluster.
    pub fn bus(&self) -> u16 {
        self.setup.bus.expect("a node of a Cluster")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// The file that it appends to.
    pub fn aof(&self) -> PathBuf {
        let grows = |(path, _): &(PathBuf, Vec<u8>)| path.to_string_lossy().ends_with(".incr.aof");
        self.back_up().into_iter().filter(grows).map(|(path, _)| path).next_back().expect("an append-only file")
    }

    /// Its files at this instant, as a backup would have them.
    pub fn back_up(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = self.setup.dir(self.folder.path()).join("appendonlydir");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Puts files of before in the place of what a dead server has now.
    pub fn restore(&mut self, files: &[(PathBuf, Vec<u8>)]) {
        self.kill();
        std::fs::remove_dir_all(self.setup.dir(self.folder.path()).join("appendonlydir")).unwrap();
        for (path, bytes) in files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
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

    /// Runs one command through redis-cli, on a Cluster where its key is, and answers its raw output without the last line break.
    pub fn cli(&self, command: &[&str]) -> String {
        let output =
            Command::new("redis-cli").args(["-c", "-p", &self.port.to_string(), "--raw"]).args(command).output();
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
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            eprintln!("--- the end of the log of the Redis at {}:\n{last}", self.port);
        }
    }
}

/// Runs one command on the server at this port, such as a Sentinel.
pub fn cli_at(port: u16, command: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string(), "--raw"]).args(command).output();
    String::from_utf8_lossy(&output.expect("redis-cli stands beside redis-server").stdout).trim_end().to_owned()
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

/// One that nobody has at this moment.
pub fn free_port() -> u16 {
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
