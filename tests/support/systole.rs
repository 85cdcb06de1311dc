//! The real binary, started, watched, and killed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::{self, Answer};
use super::{Metrics, SOON, wait};

/// Log lines kept of one process.
const LOG_LINES: usize = 5_000;
/// Log lines shown of each process when a test fails.
const SHOWN_LINES: usize = 40;

/// The processes of one test that still run, by process id.
pub type Running = Arc<Mutex<BTreeMap<u32, String>>>;

/// What to start. Nothing of the developer's own environment or folder reaches it.
#[derive(Debug, Clone)]
pub struct Launch {
    wrapper: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    home: PathBuf,
    running: Running,
}

impl Launch {
    /// `systole SUBCOMMAND …`, run in the folder `home`; without a subcommand when that is empty.
    pub fn new(subcommand: &str, home: &Path, running: &Running) -> Self {
        let args = if subcommand.is_empty() { Vec::new() } else { vec![subcommand.to_owned()] };
        let env = vec![("SYSTOLE_LOG_FORMAT".to_owned(), "json".to_owned())];
        Self { wrapper: Vec::new(), args, env, home: home.into(), running: running.clone() }
    }

    /// More arguments. A flag given again as `--flag=value` replaces the one before, which clap would refuse.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args.into_iter().map(Into::into) {
            if let Some((flag, _)) = arg.split_once('=') {
                let again = format!("{flag}=");
                self.args.retain(|known| !known.starts_with(&again));
            }
            self.args.push(arg);
        }
        self
    }

    /// Without a flag that was given as `--flag=value`.
    pub fn without(mut self, flag: &str) -> Self {
        self.args.retain(|known| !known.starts_with(&format!("{flag}=")));
        self
    }

    /// Arms failpoints, such as `publish.renamed=kill`.
    pub fn failpoints(self, list: &str) -> Self {
        self.env("SYSTOLE_TEST_SWITCH", "on").env("SYSTOLE_FAILPOINTS", list)
    }

    /// One variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it by another command, such as `setpriv …`.
    pub fn under<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Systole {
        let mut process = self.spawn();
        process.await_listening();
        process
    }

    /// Starts it without waiting for anything.
    pub fn spawn(self) -> Systole {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let name = self.args.join(" ");
        self.running.lock().unwrap().insert(child.id(), name.clone());
        let (said, log) = (Log::default(), Log::default());
        said.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let panics_wanted = self.env.iter().any(|(_, value)| value.contains("=panic"));
        Systole { name, child, said, log, address: None, exit: None, panics_wanted, running: self.running }
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let drain = std::thread::spawn(move || read_all(&mut stderr));
        let reader = std::thread::spawn(move || read_all(&mut stdout));
        let name = self.args.join(" ");
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::value(&format!("the end of `systole {name}`"), 2 * SOON, || {
                child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
            })
        }));
        if end.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let (stdout, stderr) = (reader.join().unwrap(), drain.join().unwrap());
        match end {
            Ok(status) => Finished { name, status, stdout, stderr },
            Err(_) => panic!("`systole {name}` did not end\n{stdout}\n{stderr}"),
        }
    }

    /// Runs it to its end, and expects this exit code and exactly one line of advice that names each of `words`.
    pub fn refused(self, code: i32, words: &[&str]) {
        let ended = self.run().expect_code(code);
        let advice: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("systole: ")).collect();
        assert_eq!(advice.len(), 1, "{}", ended.stderr);
        let plain = ended.stderr.lines().filter(|line| !line.starts_with('{')).count();
        assert_eq!(plain, 1, "{}", ended.stderr);
        for word in words {
            assert!(advice[0].contains(word), "`{word}` is missing: {}", advice[0]);
        }
    }

    fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_systole").to_owned();
        let words: Vec<String> = self.wrapper.iter().cloned().chain([binary]).chain(self.args.clone()).collect();
        let mut command = Command::new(&words[0]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SYSTOLE_")) {
            command.env_remove(name);
        }
        command.args(&words[1..]).envs(self.env.clone()).current_dir(&self.home).stdin(Stdio::null());
        command
    }
}

fn read_all(from: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of a run.
#[derive(Debug)]
pub struct Finished {
    name: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Fails unless it ended with this exit code.
    pub fn expect_code(self, code: i32) -> Self {
        let Self { name, status, stdout, stderr } = &self;
        assert_eq!(status.code(), Some(code), "`systole {name}`: {status}\n{stdout}\n{stderr}");
        self
    }

    /// Whether it was killed by SIGKILL, as a failpoint does.
    pub fn was_killed(&self) -> bool {
        was_killed(self.status)
    }

    /// What it wrote to standard output, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(Signal::KILL.as_raw())
}

#[derive(Debug, Clone, Default)]
struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    fn follow(&self, stderr: impl Read + Send + 'static) {
        let lines = self.lines.clone();
        // The thread ends with the process, which holds the other end.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap();
                if lines.len() == LOG_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().cloned().collect()
    }
}

/// A running process. Dropping it kills it; then a panic in its log fails the test.
#[derive(Debug)]
pub struct Systole {
    name: String,
    child: Child,
    said: Log,
    log: Log,
    address: Option<String>,
    exit: Option<ExitStatus>,
    panics_wanted: bool,
    running: Running,
}

impl Systole {
    /// Waits until it listens.
    pub fn await_listening(&mut self) {
        if self.address.is_some() {
            return;
        }
        let name = self.name.clone();
        let end =
            wait::value(&format!("`systole {name}` to listen"), SOON, || match (self.listens(), self.poll_exit()) {
                (true, _) => Ok(None),
                (false, Some(status)) => Ok(Some(status)),
                (false, None) => Err("no line `listening` in its log".to_owned()),
            });
        if let Some(status) = end {
            panic!("`systole {name}` ended with {status} before it listened\n{}", self.log.lines().join("\n"));
        }
    }

    /// Whether it has said by now that it listens.
    pub fn listens(&mut self) -> bool {
        if self.address.is_none() {
            let lines = self.log.lines();
            let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let said = lines.filter(|line| line["message"] == "listening").find_map(|line| {
                let address = line["address"].as_str()?;
                Some(address.to_owned())
            });
            self.address = said;
        }
        self.address.is_some()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address.as_ref().expect("it listens"))
    }

    /// `127.0.0.1:PORT`, whatever is spoken there.
    pub fn address(&self) -> &str {
        self.address.as_ref().expect("it listens")
    }

    /// GET of a path. `None` when no answer came.
    pub fn get(&self, path: &str) -> Option<Answer> {
        client::get(&format!("{}{path}", self.url()))
    }

    /// Whether a part of its `/health` is well, and what it says.
    pub fn part(&self, name: &str) -> (bool, String) {
        let health = self.get("/health").expect("an answer from /health");
        let parts = health.body["parts"].as_array().unwrap_or_else(|| panic!("no parts: {}", health.text));
        let part =
            parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no {name}: {}", health.text));
        (part["ok"] == true, part["detail"].as_str().unwrap_or_default().to_owned())
    }

    /// Its `/metrics`.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").expect("metrics").text)
    }

    /// Waits until `path` answers `status`, and hands back that answer.
    pub fn await_status(&self, path: &str, status: u16, deadline: Duration) -> Answer {
        wait::value(&format!("{status} from {path} of `{}`", self.name), deadline, || match self.get(path) {
            Some(answer) if answer.status == status => Ok(answer),
            Some(answer) => Err(format!("{} {}", answer.status, answer.text)),
            None => Err("no answer".to_owned()),
        })
    }

    /// What it wrote to standard output so far.
    pub fn said(&self) -> String {
        self.said.lines().join("\n")
    }

    /// Its log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power-off would, and waits for its end.
    pub fn sigkill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit(SOON);
    }

    /// Asks it to end.
    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to end as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Makes it hang where it is; [`Systole::cont`] ends that.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end and expects it to, in order.
    pub fn stop(mut self) {
        self.sigterm();
        let status = self.wait_exit(SOON);
        assert!(status.success(), "`systole {}` ended with {status} after SIGTERM\n{}", self.name, self.tail());
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of `systole {}`", self.name);
        wait::value(&what, deadline, || self.poll_exit().ok_or_else(|| "it runs".to_owned()))
    }

    /// Waits until a failpoint killed it.
    pub fn await_killed(&mut self, deadline: Duration) {
        let status = self.wait_exit(deadline);
        assert!(
            was_killed(status),
            "`systole {}` ended with {status}, not by its failpoint\n{}",
            self.name,
            self.tail()
        );
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        self.poll_exit().is_some()
    }

    /// What the kernel counted: bytes and calls of reading and writing, from `/proc/PID/io`.
    pub fn io(&self) -> BTreeMap<String, u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.pid())).unwrap();
        text.lines().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.parse().unwrap())).collect()
    }

    fn poll_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().unwrap();
            if self.exit.is_some() {
                self.running.lock().unwrap().remove(&self.child.id());
            }
        }
        self.exit
    }

    fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            let pid = Pid::from_raw(self.child.id() as i32).unwrap();
            // It may be gone already; whoever waits for its end finds that out.
            let _ = kill_process(pid, signal);
        }
    }

    fn tail(&self) -> String {
        let lines = self.log.lines();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Systole {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.child.id());
        if std::thread::panicking() {
            eprintln!("--- the end of the log of `systole {}`:\n{}", self.name, self.tail());
        } else if !self.panics_wanted {
            let panicked = self.log.lines().iter().any(|line| line.contains("panicked at"));
            assert!(!panicked, "`systole {}` panicked\n{}", self.name, self.tail());
        }
    }
}
