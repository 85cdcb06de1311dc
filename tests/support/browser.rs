//! Chromium without a window, driven through chromedriver: WebDriver is JSON over HTTP.
//!
//! Constraints: each test has a browser of its own with an empty profile, on ports of the operating system's choice. What it
//! may reach is this machine alone. When it goes, its console must have been clean; see [`Browser::finish`].

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::blocking::Client as Http;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SOON, skip, wait};

/// Starting a browser on a machine that does much else takes its time.
const START: Duration = Duration::from_secs(60);
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // /dev/shm is small in containers.
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
];
/// How WebDriver writes an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys as WebDriver knows them.
pub const TAB: &str = "\u{e004}";

/// A browser with one tab open.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    session: String,
    http: Http,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; where none is installed the test is skipped, and says so.
    pub fn start_or_skip(what: &str) -> Option<Self> {
        let missing = ["chromedriver", "chromium"].into_iter().find(|name| !is_installed(name));
        if let Some(missing) = missing {
            skip(what, &format!("{missing} is not installed"));
            return None;
        }
        Some(Self::start())
    }

    fn start() -> Self {
        let (driver, port) = (0..20).find_map(|_| try_driver()).expect("chromedriver finds a port");
        let http = Http::builder().timeout(START).no_proxy().build().unwrap();
        let profile = tempfile::Builder::new().prefix("chromium").tempdir().unwrap();
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session"), http, _profile: profile };
        let mut flags = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.ask("", Some(wanted));
        browser.session = format!("{}/{}", browser.session, made["sessionId"].as_str().unwrap());
        browser
    }

    fn ask(&self, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.session);
        let request = match body {
            Some(body) => self.http.post(&url).header("content-type", "application/json").body(body.to_string()),
            None => self.http.get(&url),
        };
        let text = request.send().and_then(|answer| answer.text()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        let fault = &answer["value"]["error"];
        assert!(!fault.is_string(), "{path}: {fault}: {}", answer["value"]["message"]);
        answer["value"].clone()
    }

    /// Goes there, and waits until all is loaded.
    pub fn open(&self, url: &str) {
        self.ask("/url", Some(json!({"url": url})));
    }

    /// What the body of a function answers, run in the page.
    pub fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", Some(json!({"script": script, "args": []})))
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask("/goog/cdp/execute", Some(json!({"cmd": command, "params": parameters})))
    }

    /// Runs a script in every page that is opened from now on, before its own.
    pub fn prepare(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
    }

    /// The text of an element as it is shown, with its white space made even.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({}).innerText", Value::from(selector));
        let text = self.run(&script);
        text.as_str().unwrap_or_else(|| panic!("{selector}: {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The number that a `<data>` stands for; `None` where none is known.
    pub fn number(&self, id: &str) -> Option<f64> {
        let value = self.run(&format!("return document.getElementById({}).getAttribute('value')", Value::from(id)));
        value.as_str().and_then(|value| value.parse().ok())
    }

    /// Waits until the text of an element holds all of `words`, and hands it back.
    pub fn await_text(&self, selector: &str, words: &[&str]) -> String {
        wait::value(&format!("{words:?} in {selector}"), 2 * SOON, || {
            let text = self.text(selector);
            if words.iter().all(|word| text.contains(word)) { Ok(text) } else { Err(text) }
        })
    }

    fn element(&self, selector: &str) -> String {
        let found = self.ask("/element", Some(json!({"using": "css selector", "value": selector})));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks as a person does: it must be there to be seen.
    pub fn click(&self, selector: &str) {
        self.ask(&format!("/element/{}/click", self.element(selector)), Some(json!({})));
    }

    /// Types into a field.
    pub fn type_into(&self, selector: &str, text: &str) {
        self.ask(&format!("/element/{}/value", self.element(selector)), Some(json!({"text": text})));
    }

    /// Presses a key, and lets it go.
    pub fn press(&self, key: &str) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.ask("/actions", Some(json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})));
    }

    /// How wide and high the page is laid out.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the person prefers, such as `prefers-color-scheme` `dark`.
    pub fn prefer(&self, feature: &str, value: &str) {
        let features = json!([{"name": feature, "value": value}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Another tab in front of this one, and back.
    pub fn behind_another_tab(&self, meanwhile: impl FnOnce()) {
        let own = self.ask("/window", None);
        let other = self.ask("/window/new", Some(json!({"type": "tab"})));
        self.ask("/window", Some(json!({"handle": other["handle"]})));
        meanwhile();
        self.ask("/window", Some(json!({"handle": own})));
    }

    /// What the console was told since it was last asked: level and text.
    pub fn console(&self) -> Vec<(String, String)> {
        let lines = self.ask("/se/log", Some(json!({"type": "browser"})));
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        lines.as_array().unwrap().iter().map(|line| (text(line, "level"), text(line, "message"))).collect()
    }

    /// Closes it, unless its console has anything to say but what holds one of `expected`: no error, no warning, and no
    /// violation of the policy, which would be one.
    pub fn finish(self, expected: &[&str]) {
        let said = self.console();
        let unexpected: Vec<_> = said
            .iter()
            .filter(|(level, _)| matches!(level.as_str(), "SEVERE" | "WARNING"))
            .filter(|(_, text)| !expected.iter().any(|word| text.contains(word)))
            .collect();
        assert!(unexpected.is_empty(), "the console: {unexpected:?}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the console of the browser: {:?}",
                self.http
                    .post(format!("{}/se/log", self.session))
                    .header("content-type", "application/json")
                    .body(r#"{"type":"browser"}"#)
                    .send()
                    .and_then(|a| a.text())
            );
        }
        let _ = self.http.delete(&self.session).send();
        if let Some(group) = Pid::from_raw(self.driver.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
}

/// A driver, and where it says that it listens. `None` where it ends instead: the port that it was given for IPv4 may be
/// another's for IPv6.
fn try_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // The browser is of the same group, and goes with it.
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1.parse().ok());
    if port.is_none() {
        let _ = driver.kill();
        let _ = driver.wait();
    }
    // It must be able to go on writing.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, port?))
}
