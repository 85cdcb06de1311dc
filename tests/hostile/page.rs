//! docs/input.md says what each kind of input is answered: its tables are made of the cases that are tested here.

use std::fmt::Write;

use crate::siege::Siege;
use crate::support::Beat;
use crate::wire::Answer;
use crate::{bodies, heads, records, siege};

/// One kind of input, and its answer.
pub struct Case {
    pub what: String,
    pub request: Vec<u8>,
    pub answer: Expected,
}

pub enum Expected {
    /// 202, and published.
    Kept(Beat),
    /// 422, the record being listed with this code, and a detail that holds this word.
    Refused(&'static str, &'static str),
    /// A problem document of this type, whose detail holds this word.
    Problem(u16, &'static str, &'static str),
    /// An answer of the HTTP layer: no request was understood, so there is nothing to say of it.
    Bare(u16),
    /// 200: it is no heartbeat.
    Fine,
}

impl Case {
    fn judge(&self, answer: &Answer) -> Result<(), String> {
        let detail = answer.json["detail"].as_str().unwrap_or("");
        let right = match &self.answer {
            Expected::Kept(_) => answer.status == 202 && answer.json["accepted"] == 1,
            Expected::Fine => answer.status == 200,
            Expected::Bare(status) => answer.status == *status && answer.text.is_empty(),
            Expected::Problem(status, kind, word) => {
                answer.status == *status && answer.problem() == *kind && detail.contains(word)
            }
            Expected::Refused(code, word) => {
                let listed = &answer.json["rejected"][0];
                let said = listed["detail"].as_str().unwrap_or("");
                answer.status == 422 && listed["code"] == *code && said.contains(word)
            }
        };
        if right { Ok(()) } else { Err(format!("{}: {} {}", self.what, answer.head.trim(), answer.text)) }
    }
}

/// Sends every case on a connection of its own, and judges the answer.
pub fn try_all(siege: &Siege<'_>, world: &crate::support::World, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        match siege.ask(&case.request) {
            Some(answer) => wrong.extend(case.judge(&answer).err()),
            None => wrong.push(format!("{}: no answer", case.what)),
        }
        if let Expected::Kept(beat) = &case.answer {
            world.ledger.keep(beat);
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/input.md");

fn table(cases: &[Case]) -> String {
    let mut table = String::from("\n| input | status | problem or code |\n| --- | --- | --- |\n");
    for case in cases {
        let (status, reason) = match &case.answer {
            Expected::Kept(_) => (202, "kept".to_owned()),
            Expected::Fine => (200, String::new()),
            Expected::Bare(status) => (*status, "no body".to_owned()),
            Expected::Problem(status, kind, _) => (*status, format!("`{kind}`")),
            Expected::Refused(code, _) => (422, format!("`{code}`")),
        };
        writeln!(table, "| {} | {status} | {reason} |", case.what.replace('|', "\\|")).unwrap();
    }
    table.push('\n');
    table
}

#[test]
fn the_page_says_what_is_answered() {
    let mut page = std::fs::read_to_string(PAGE).unwrap();
    let original = page.clone();
    for (name, cases) in [("records", records::cases()), ("bodies", bodies::cases()), ("heads", heads::cases())] {
        let begin = format!("<!-- {name}: written by `UPDATE_INPUT=1 cargo test --test hostile` -->\n");
        let end = format!("<!-- end of {name} -->");
        let (before, rest) = page.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        page = format!("{before}{begin}{}{end}{after}", table(&cases));
    }
    if std::env::var_os("UPDATE_INPUT").is_some() {
        std::fs::write(PAGE, page).unwrap();
    } else {
        assert!(page == original, "run: UPDATE_INPUT=1 cargo test --test hostile");
    }
}

#[test]
fn records_get_their_documented_answers() {
    let world = siege::world();
    let siege = Siege::begin(&world, &[]);
    try_all(&siege, &world, &records::cases());
    siege.end("records");
}

#[test]
fn bodies_get_their_documented_answers() {
    let world = siege::world();
    let siege = Siege::begin(&world, &[]);
    try_all(&siege, &world, &bodies::cases());
    siege.end("bodies");
}

#[test]
fn heads_get_their_documented_answers() {
    let world = siege::world();
    let siege = Siege::begin(&world, &[]);
    try_all(&siege, &world, &heads::cases());
    siege.end("heads");
}
