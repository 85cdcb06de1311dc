//! A real Sentinel that watches a master.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::redis::{RedisServer, cli_at, free_port};
use super::{SOON, wait};

/// As the Sentinel calls the master.
const NAME: &str = "beats";

/// One Sentinel, alone in charge. Killed when dropped.
#[derive(Debug)]
pub struct Sentinel {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Sentinel {
    /// Watches `master`, and waits until it knows `replica` as well.
    pub fn watch(master: &RedisServer, replica: &RedisServer) -> Self {
        let sentinel = (0..20).find_map(|_| Self::try_watch(master)).expect("a Sentinel finds a port");
        let known = || sentinel.ask(&["SENTINEL", "REPLICAS", NAME]);
        wait::until("the Sentinel to know the replica", SOON, || known().contains(&replica.port().to_string()));
        sentinel
    }

    fn try_watch(master: &RedisServer) -> Option<Self> {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("sentinel.conf");
        let lines = [
            format!("port {port}\nbind 127.0.0.1\ndir {}\nlogfile sentinel.log", folder.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {} 1", master.port()),
            format!("sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 30000\n"),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        let mut process = Command::new("redis-server");
        process.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let mut sentinel = Self { process: process.spawn().unwrap(), port, _folder: folder };
        let there = wait::value("the Sentinel to answer, or to end", SOON, || {
            let ended = sentinel.process.try_wait().unwrap().is_some();
            let there = cli_at(port, &["SENTINEL", "MASTERS"]).contains(NAME);
            if ended || there { Ok(there && !ended) } else { Err("it starts".to_owned()) }
        });
        there.then_some(sentinel)
    }

    /// What the roles must be told to find the master. The first address is of nobody.
    pub fn flags(&self) -> [String; 2] {
        [
            format!("--buffer=redis://127.0.0.1:1,redis://127.0.0.1:{}", self.port),
            format!("--redis-sentinel-master={NAME}"),
        ]
    }

    /// Waits until this server is the master.
    pub fn await_master(&self, server: &RedisServer) {
        wait::value("the failover", 2 * SOON, || {
            let master = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            let role = server.cli(&["ROLE"]);
            let promoted = master.contains(&server.port().to_string()) && role.starts_with("master");
            if promoted { Ok(()) } else { Err(format!("{master:?}, {role:?}")) }
        });
    }

    fn ask(&self, command: &[&str]) -> String {
        cli_at(self.port, command)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
