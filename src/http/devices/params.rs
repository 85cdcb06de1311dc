//! What is asked for, in path and query.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::super::percent;
use super::super::problem::{Kind, Problem};
use super::cursor;
use crate::buffer::SeenDevice;
use crate::heartbeat::check_user_id;

/// Most devices of a page.
pub(in crate::http) const MAX_LIMIT: u32 = 10_000;
/// Devices of a page unless told otherwise.
pub(in crate::http) const DEFAULT_LIMIT: u32 = 1_000;
/// Longer than anything is remembered, by the longest way to count ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Without a heartbeat for longer a device is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct After(Duration);

impl After {
    /// Whoever was last seen before this is silent.
    pub(super) fn before(self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Default for After {
    fn default() -> Self {
        Self(Duration::from_secs(5 * 60))
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// The devices of a user.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct OfUser {
    pub(super) user: String,
    pub(super) after: After,
    pub(super) limit: u32,
    /// The id of the device behind which it goes on.
    pub(super) behind: Option<String>,
}

/// Devices that are silent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Silent {
    pub(super) user: Option<String>,
    pub(super) after: After,
    pub(super) limit: u32,
    /// Behind which it goes on.
    pub(super) behind: Option<SeenDevice>,
}

impl OfUser {
    /// `path` and `query` as they came over the wire.
    pub(super) fn read(path: &str, query: &str) -> Result<Self, Problem> {
        let segment = path.split('/').nth(3).unwrap_or_default();
        let user = percent::decode(segment, false)
            .ok_or_else(|| invalid("The user in the path is no percent-encoded UTF-8 text."))?;
        check_user(&user, "The user in the path")?;
        let given = Given::read(query, &["after", "limit", "cursor"])?;
        let behind = given.behind(&Self::question(&user), |bytes| String::from_utf8(bytes).ok())?;
        Ok(Self { after: given.after()?, limit: given.limit()?, behind, user })
    }

    fn question(user: &str) -> String {
        format!("devices of {user}")
    }

    /// For the devices of `user` behind this one.
    pub(in crate::http) fn cursor(user: &str, device_id: &str) -> String {
        cursor::encode(&Self::question(user), device_id.as_bytes())
    }

    /// Where the list goes on behind a device.
    pub(super) fn next(&self, device_id: &str) -> String {
        let cursor = Self::cursor(&self.user, device_id);
        let (user, after) = (percent::encode(&self.user), percent::encode(&self.after.to_string()));
        format!("/v1/users/{user}/devices?after={after}&limit={}&cursor={cursor}", self.limit)
    }
}

impl Silent {
    /// `query` as it came over the wire.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let given = Given::read(query, &["after", "user", "limit", "cursor"])?;
        let user = given.value("user").map(str::to_owned);
        if let Some(user) = &user {
            check_user(user, "`user`")?;
        }
        let behind = given.behind(&Self::question(user.as_deref()), |bytes| {
            let (time, name) = bytes.split_first_chunk()?;
            let (user_id, device_id) = std::str::from_utf8(name).ok()?.split_once('\0')?;
            let (user_id, device_id) = (user_id.to_owned(), device_id.to_owned());
            Some(SeenDevice { last_seen: i64::from_le_bytes(*time), user_id, device_id })
        })?;
        Ok(Self { after: given.after()?, limit: given.limit()?, behind, user })
    }

    fn question(user: Option<&str>) -> String {
        user.map_or_else(|| "silent".to_owned(), |user| format!("silent of {user}"))
    }

    /// For the silent devices, of `user` if there is one, behind this one.
    pub(in crate::http) fn cursor(user: Option<&str>, last: &SeenDevice) -> String {
        let behind = [&last.last_seen.to_le_bytes(), last.user_id.as_bytes(), &[0], last.device_id.as_bytes()].concat();
        cursor::encode(&Self::question(user), &behind)
    }

    /// Where the list goes on behind a device.
    pub(super) fn next(&self, last: &SeenDevice) -> String {
        let cursor = Self::cursor(self.user.as_deref(), last);
        let user = self.user.as_ref().map(|user| format!("user={}&", percent::encode(user))).unwrap_or_default();
        format!(
            "/v1/silent?{user}after={}&limit={}&cursor={cursor}",
            percent::encode(&self.after.to_string()),
            self.limit
        )
    }
}

/// The parameters of a query, each known and given once.
struct Given(Vec<(&'static str, String)>);

impl Given {
    fn read(query: &str, names: &[&'static str]) -> Result<Self, Problem> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for piece in query.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = names.iter().find(|known| **known == name).ok_or_else(|| {
                let short: String = name.chars().take(64).collect();
                invalid(format!("There is no parameter `{short}`; there are {}.", names.join(", ")))
            })?;
            if given.iter().any(|(before, _)| before == name) {
                return Err(invalid(format!("`{name}` is given twice.")));
            }
            let value = percent::decode(value, true).ok_or_else(|| invalid(format!("`{name}` is no UTF-8 text.")))?;
            given.push((name, value));
        }
        Ok(Self(given))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
    }

    fn after(&self) -> Result<After, Problem> {
        let Some(text) = self.value("after") else { return Ok(After::default()) };
        let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST);
        let wrong = || invalid("`after` must be a duration such as 30s, 5m or 2h 30m, of ten years at most.");
        duration.map(After).ok_or_else(wrong)
    }

    fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.value("limit") else { return Ok(DEFAULT_LIMIT) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| digits && (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| invalid(format!("`limit` must be a whole number from 1 to {MAX_LIMIT}.")))
    }

    fn behind<T>(&self, question: &str, read: impl FnOnce(Vec<u8>) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(text) = self.value("cursor") else { return Ok(None) };
        let wrong = || {
            let detail = "`cursor` is none that was given for this question. Leave it out to begin anew.";
            Problem::new(Kind::InvalidCursor, detail)
        };
        cursor::decode(question, text).and_then(read).map(Some).ok_or_else(wrong)
    }
}

fn check_user(user: &str, called: &str) -> Result<(), Problem> {
    check_user_id(user).map_err(|wrong| invalid(format!("{}.", wrong.detail.replacen("`user_id`", called, 1))))
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Kind::InvalidParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/v1/users/a%20b%2Fc/devices";

    fn device(user: &str) -> SeenDevice {
        SeenDevice { last_seen: -7, user_id: user.into(), device_id: "d e".into() }
    }

    #[test]
    fn a_question_is_read_as_clients_write_it() {
        let asked = OfUser::read(PATH, "after=2h+30m&limit=7").unwrap();
        assert_eq!((asked.user.as_str(), asked.after.to_string().as_str(), asked.limit), ("a b/c", "2h 30m", 7));
        let asked = Silent::read("").unwrap();
        let expected = Silent { user: None, after: After::default(), limit: DEFAULT_LIMIT, behind: None };
        assert_eq!(asked, expected);
        assert_eq!(asked.after.before(1_000_000), 700_000);
        assert_eq!(Silent::read("after=10years").unwrap().after.before(i64::MIN), i64::MIN);
    }

    #[test]
    fn the_next_page_is_the_same_question() {
        let asked = OfUser::read(PATH, "after=90s&limit=7").unwrap();
        let next = asked.next("d/ü");
        let (path, query) = next.split_once('?').unwrap();
        assert_eq!(OfUser::read(path, query).unwrap(), OfUser { behind: Some("d/ü".into()), ..asked });
        for query in ["after=90s&limit=7", "user=a%26b"] {
            let asked = Silent::read(query).unwrap();
            let next = asked.next(&device("a&b"));
            let again = Silent::read(next.strip_prefix("/v1/silent?").unwrap()).unwrap();
            assert_eq!(again, Silent { behind: Some(device("a&b")), ..asked });
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |asked: Result<(), Problem>| {
            let problem = asked.unwrap_err();
            let body: serde_json::Value = serde_json::from_slice(&problem.body(None)).unwrap();
            (problem.kind, body["detail"].as_str().unwrap().to_owned())
        };
        let of_user = |path, query| refused(OfUser::read(path, query).map(drop));
        let silent = |query| refused(Silent::read(query).map(drop));
        for ((kind, detail), words) in [
            (of_user(PATH, "user=u"), "no parameter `user`; there are after, limit, cursor"),
            (of_user(PATH, "limit=0"), "1 to 10000"),
            (of_user(PATH, "limit=10001"), "1 to 10000"),
            (of_user(PATH, "limit=%2B5"), "1 to 10000"),
            (of_user(PATH, "after=5"), "`after` must be a duration such as 30s"),
            (of_user(PATH, "after="), "`after` must be a duration"),
            (of_user(PATH, "after=-5m"), "`after` must be a duration"),
            (of_user(PATH, "after=11years"), "ten years"),
            (of_user(PATH, "after=5m&after=6m"), "`after` is given twice"),
            (of_user("/v1/users/%ff/devices", ""), "The user in the path is no"),
            (of_user("/v1/users/%00/devices", ""), "The user in the path must hold no control"),
            (silent("form=json"), "no parameter `form`; there are after, user, limit, cursor"),
            (silent("user="), "`user` must be 1 to 128"),
            (silent("user=%ff"), "`user` is no UTF-8"),
        ] {
            assert!(kind == Kind::InvalidParameter && detail.contains(words), "{words}: {detail}");
        }
        let of_another = Silent::read("").unwrap().next(&device("u"));
        let cursor = of_another.rsplit('=').next().unwrap();
        for (kind, _) in
            [silent("cursor=x"), silent(&format!("user=u&cursor={cursor}")), of_user(PATH, &format!("cursor={cursor}"))]
        {
            assert_eq!(kind, Kind::InvalidCursor);
        }
    }
}
