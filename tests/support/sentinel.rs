//! Real Sentinels that watch a master.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::redis::{RedisServer, cli_at, free_port};
use super::{SOON, wait};

/// As the Sentinels call the master.
const NAME: &str = "beats";
/// Most of them must agree before a replica is made the master.
const SENTINELS: usize = 3;
const QUORUM: usize = 2;

/// Three of them, two of which must agree. Killed when dropped.
#[derive(Debug)]
pub struct Sentinels(Vec<Sentinel>);

#[derive(Debug)]
struct Sentinel {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Sentinels {
    /// They watch `master`, and know `replica` and each other.
    pub fn watch(master: &RedisServer, replica: &RedisServer) -> Self {
        let start = || (0..20).find_map(|_| Sentinel::try_watch(master)).expect("a Sentinel finds a port");
        let sentinels: Vec<Sentinel> = (0..SENTINELS).map(|_| start()).collect();
        wait::value("the Sentinels to know the replica and each other", 2 * SOON, || {
            for sentinel in &sentinels {
                let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", NAME]);
                let others = sentinel.ask(&["SENTINEL", "SENTINELS", NAME]);
                let knows = |other: &Sentinel| other.port == sentinel.port || others.contains(&other.port.to_string());
                if !replicas.contains(&replica.port().to_string()) || !sentinels.iter().all(knows) {
                    return Err(format!("{}: {replicas:?}, {others:?}", sentinel.port));
                }
            }
            Ok(())
        });
        Self(sentinels)
    }

    /// What the roles must be told to find the master. The first address is of nobody.
    pub fn flags(&self) -> [String; 2] {
        let addresses = self.0.iter().map(|sentinel| format!(",redis://127.0.0.1:{}", sentinel.port));
        [
            format!("--buffer=redis://127.0.0.1:1{}", addresses.collect::<String>()),
            format!("--redis-sentinel-master={NAME}"),
        ]
    }

    /// Waits until all of them take this server for the master.
    pub fn await_master(&self, server: &RedisServer) {
        wait::value("the failover", 2 * SOON, || {
            let master = |sentinel: &Sentinel| sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            let (masters, role) = (self.0.iter().map(master).collect::<Vec<_>>(), server.cli(&["ROLE"]));
            let agreed = masters.iter().all(|master| master.contains(&server.port().to_string()));
            if agreed && role.starts_with("master") { Ok(()) } else { Err(format!("{masters:?}, {role:?}")) }
        });
    }
}

impl Sentinel {
    fn try_watch(master: &RedisServer) -> Option<Self> {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("sentinel.conf");
        let lines = [
            format!("port {port}\nbind 127.0.0.1\ndir {}\nlogfile sentinel.log", folder.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {} {QUORUM}", master.port()),
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
