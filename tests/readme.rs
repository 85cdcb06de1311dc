//! The README's lines work as printed: every `curl` and `systole read` in it is run by a shell, in the order of the page,
//! against `systole up`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::beats::now_ms;
use support::{Beat, Buffer, SOON, World};

/// The address that the README speaks to.
const ADDRESS: &str = "127.0.0.1:8080";

/// The lines of every shell block that can be run here, each with what continues it.
fn commands(readme: &str) -> Vec<String> {
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let joined = blocks.map(|block| block.replace("\\\n", " ")).collect::<Vec<_>>();
    let lines = joined.iter().flat_map(|block| block.lines());
    lines.filter(|line| line.starts_with("curl ") || line.starts_with("systole read ")).map(str::to_owned).collect()
}

/// What came of a line.
struct Done<'a> {
    said: &'a str,
    folder: &'a Path,
}

impl Done<'_> {
    fn json(&self) -> Value {
        serde_json::from_str(self.said).unwrap_or_else(|error| panic!("{error}: {}", self.said))
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }
}

type Judge = fn(&Done<'_>);

/// What a line must do, by words of it. A line of the README that is not here fails the test: say what it answers.
const JUDGES: [(&[&str], Judge); 8] = [
    (&["curl -i", "/v1/heartbeats", "user_id"], |done| {
        assert!(done.said.starts_with("HTTP/1.1 202 "), "{}", done.said)
    }),
    (&["curl", "limit=1&cursor=$NEXT"], |done| {
        assert_eq!(done.json()["heartbeats"][0]["device_id"], "phone");
        assert_eq!(done.json()["next"], Value::Null);
    }),
    (&["curl", "/v1/users/ada/heartbeats?", "limit=1"], |done| {
        assert_eq!(done.json()["heartbeats"][0]["attributes"]["battery"], 81);
        assert!(done.json()["next"].is_string() && done.json()["covers"] == "all");
    }),
    (&["curl", "accept: text/csv", "-o ada.csv"], |done| {
        assert_eq!(String::from_utf8(done.file("ada.csv")).unwrap().lines().count(), 3);
    }),
    (&["curl", "/v1/users/ada/devices"], |done| {
        let devices: Vec<_> =
            done.json()["devices"].as_array().unwrap().iter().map(|device| device["state"].clone()).collect();
        assert_eq!(devices, ["beating", "beating"]);
    }),
    (&["curl", "/v1/silent?after=5m"], |done| assert_eq!(done.json()["devices"], Value::Array(vec![]))),
    (&["systole read", "--out ada.parquet"], |done| assert!(done.file("ada.parquet").ends_with(b"PAR1"))),
    (&["systole read --user ada --from 2h"], |done| assert_eq!(done.said.lines().count(), 3, "{}", done.said)),
];

/// Runs a line as a reader of the README would, but that any refusal is a failure.
fn run(line: &str, world: &World, address: &str, variables: &[(&str, &str)]) -> String {
    let line = line.replace(ADDRESS, address);
    let script =
        format!("curl() {{ command curl --silent --show-error --fail-with-body --max-time 20 \"$@\"; }}\n{line}\n");
    let binary = Path::new(env!("CARGO_BIN_EXE_systole")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SYSTOLE_")) {
        shell.env_remove(name);
    }
    shell.args(["-euo", "pipefail", "-c", &script]).current_dir(world.dataset().parent().unwrap()).env("PATH", path);
    let output = shell.envs(variables.iter().copied()).output().expect("bash and curl are installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn every_line_works_as_printed() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (with_token, open): (Vec<String>, Vec<String>) =
        commands(&readme).into_iter().partition(|line| line.contains("$TOKEN"));
    assert!(open.len() >= JUDGES.len() && !with_token.is_empty(), "{open:?} {with_token:?}");

    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    let mut next = String::new();
    for (number, line) in open.iter().enumerate() {
        let said = run(line, &world, up.address(), &[("NEXT", &next)]);
        let (_, judge) = JUDGES
            .iter()
            .find(|(words, _)| words.iter().all(|word| line.contains(word)))
            .unwrap_or_else(|| panic!("the README says `{line}`: say in this test what it answers"));
        let folder = world.dataset().parent().unwrap();
        judge(&Done { said: &said, folder });
        if number == 0 {
            // So that there is a next page.
            world.client(&up).must_keep(&[Beat::at("ada", "phone", now_ms() + 5000)]);
        }
        if let Ok(body) = serde_json::from_str::<Value>(&said)
            && let Some(cursor) = body["next"].as_str()
        {
            next = cursor.to_owned();
        }
    }

    let words = ["token", "create", "--user", "alice", "--scope", "read"];
    let made = world.books(&words).run().expect_code(0).stdout;
    let token = made.split_whitespace().find(|word| word.starts_with("systole_")).unwrap_or_else(|| panic!("{made}"));
    up.await_status("/metrics", 401, SOON);
    for line in with_token {
        let said = run(&line, &world, up.address(), &[("TOKEN", token)]);
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["heartbeats"], Value::Array(vec![]), "{line}");
    }
    up.stop();
}
