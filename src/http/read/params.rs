//! What is asked for, in path and query.

use std::borrow::Cow;

use super::super::problem::{Kind, Problem};
use crate::heartbeat::{check_device_id, check_user_id, time_ms};
use crate::percent;
use crate::query::{Position, Query, cursor};

/// Most heartbeats of a page.
pub(in crate::http) const MAX_LIMIT: usize = 10_000;
/// Heartbeats of a page of JSON unless told otherwise.
pub(in crate::http) const DEFAULT_LIMIT: usize = 1_000;

/// Names of parameters.
const NAMES: [&str; 5] = ["from", "to", "device", "limit", "cursor"];

/// A question.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: Query,
    /// Behind which heartbeat it goes on.
    pub(super) after: Option<Position>,
    pub(super) limit: Option<usize>,
    /// The parameters as they were given, decoded; without the cursor.
    given: Vec<(&'static str, String)>,
}

impl Asked {
    /// `path` and `query` as they came over the wire.
    pub(super) fn read(path: &str, query: &str) -> Result<Self, Problem> {
        let user_id = user_of(path)?;
        let mut given = Vec::new();
        for piece in query.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = known(name)?;
            if given.iter().any(|(before, _)| *before == name) {
                return Err(invalid(format!("`{name}` is given twice.")));
            }
            let value = percent::decode(value, true).ok_or_else(|| invalid(format!("`{name}` is no UTF-8 text.")))?;
            given.push((name, value));
        }
        let value = |name: &str| given.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str());
        let time = |name| value(name).map(|text| time_of(name, text)).transpose();
        let (from, to) = (time("from")?, time("to")?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(invalid("`from` lies behind `to`."));
        }
        let device_id = value("device").map(str::to_owned);
        if let Some(device) = &device_id {
            check_device_id(device).map_err(|wrong| invalid(named(&wrong.detail, "device_id", "device")))?;
        }
        let limit = value("limit").map(limit_of).transpose()?;
        let query = Query { user_id, device_id, from, to };
        let after = value("cursor").map(|text| cursor::decode(&query, text)).transpose().map_err(|error| {
            let detail = format!("`cursor` cannot be used: {error}. Leave it out to begin anew.");
            Problem::new(Kind::InvalidCursor, detail)
        })?;
        given.retain(|(name, _)| *name != "cursor");
        Ok(Self { query, after, limit, given })
    }

    /// Where the same question goes on behind `next`.
    pub(super) fn next(&self, next: &str) -> String {
        let user = percent::encode(&self.query.user_id);
        let given = self.given.iter().map(|(name, value)| format!("{name}={}&", percent::encode(value)));
        format!("/v1/users/{user}/heartbeats?{}cursor={next}", given.collect::<String>())
    }
}

/// The user in `/v1/users/{user}/…`.
pub(in crate::http) fn user_of(path: &str) -> Result<String, Problem> {
    let segment = path.split('/').nth(3).unwrap_or_default();
    let user = percent::decode(segment, false)
        .ok_or_else(|| invalid("The user in the path is no percent-encoded UTF-8 text."))?;
    check_user_id(&user).map_err(|wrong| invalid(named(&wrong.detail, "`user_id`", "The user in the path")))?;
    Ok(user)
}

fn known(name: &str) -> Result<&'static str, Problem> {
    NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
        let short: String = name.chars().take(64).collect();
        invalid(format!("There is no parameter `{short}`; there are {}.", NAMES.join(", ")))
    })
}

fn time_of(name: &'static str, text: &str) -> Result<i64, Problem> {
    // Who writes the `+` of an offset as it is has said "space".
    let text: Cow<'_, str> = match text.char_indices().nth_back(5) {
        Some((at, ' ')) if at >= "2026-11-22T08:30:00".len() => format!("{}+{}", &text[..at], &text[at + 1..]).into(),
        _ => text.into(),
    };
    time_ms(name, &text).map_err(|wrong| invalid(wrong.detail))
}

fn limit_of(text: &str) -> Result<usize, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| digits && (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| invalid(format!("`limit` must be a whole number from 1 to {MAX_LIMIT}.")))
}

fn named(detail: &str, is: &str, to_be: &str) -> String {
    format!("{}.", detail.replacen(is, to_be, 1))
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Kind::InvalidParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/v1/users/a%20b%2Fc/heartbeats";

    fn refused(path: &str, query: &str) -> (Kind, String) {
        let problem = Asked::read(path, query).unwrap_err();
        let body: serde_json::Value = serde_json::from_slice(&problem.body(None)).unwrap();
        (problem.kind, body["detail"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_question_is_read_as_clients_write_it() {
        let asked =
            Asked::read(PATH, "from=2026-11-22T09:30:00%2B01:00&to=1795336200001&device=my+phone%2b&limit=7").unwrap();
        let expected = Query {
            user_id: "a b/c".into(),
            device_id: Some("my phone+".into()),
            from: Some(1_795_336_200_000),
            to: Some(1_795_336_200_001),
        };
        assert_eq!((asked.query, asked.limit), (expected, Some(7)));
        // The plus of an offset, as everybody forgets to encode it.
        let asked = Asked::read(PATH, "from=2026-11-22T09:30:00.5+01:00").unwrap();
        assert_eq!(asked.query.from, Some(1_795_336_200_500));
        let asked = Asked::read(PATH, "").unwrap();
        assert_eq!((asked.query.from, asked.query.to, asked.query.device_id, asked.limit), (None, None, None, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (PATH, "form=1", "`form`"),
            (PATH, "From=1795336200000", "`From`"),
            (PATH, "limit=1&limit=1", "`limit` is given twice"),
            (PATH, "limit=0", "1 to 10000"),
            (PATH, "limit=10001", "1 to 10000"),
            (PATH, "limit=%2B5", "1 to 10000"),
            (PATH, "from=1795336200", "`from` 1795336200 looks like seconds"),
            (PATH, "to=2026-11-22", "`to` must be RFC 3339"),
            (PATH, "to=", "`to` must be RFC 3339"),
            (PATH, "from=1795336200001&to=1795336200000", "`from` lies behind `to`"),
            (PATH, "device=", "`device` must be 1 to 128 bytes"),
            (PATH, "device=%0a", "`device` must hold no control"),
            (PATH, "device=%ff", "`device` is no UTF-8"),
            ("/v1/users/%ff/heartbeats", "", "The user in the path is no"),
            ("/v1/users/%00/heartbeats", "", "The user in the path must hold no control"),
        ];
        for (path, query, words) in cases {
            let (kind, detail) = refused(path, query);
            assert!(kind == Kind::InvalidParameter && detail.contains(words), "{query}: {detail}");
        }
        assert_eq!(refused(PATH, "cursor=x").0, Kind::InvalidCursor);
    }

    #[test]
    fn the_next_page_is_the_same_question() {
        let asked = Asked::read(PATH, "device=my+phone&from=2026-11-22T09:30:00%2B01:00&limit=2").unwrap();
        let position = Position { timestamp: 1, device_id: "d".into(), id: None };
        let next = asked.next(&cursor::encode(&asked.query, &position));
        let (path, query) = next.split_once('?').unwrap();
        let again = Asked::read(path, query).unwrap();
        assert_eq!((again.query, again.limit, again.after), (asked.query, asked.limit, Some(position)));
    }
}
