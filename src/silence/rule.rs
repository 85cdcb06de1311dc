//! The rules: `[[silence]]` in the file of settings.
//!
//! ```toml
//! [[silence]]
//! match = "fleet-*"                      # a user, or a prefix of users; "*" is all
//! after = "5m"
//! webhook = "https://example.org/hook"
//! secret-file = "/run/secrets/hook"      # signs each delivery; without it they are not signed
//! name = "fleet"                         # in events, log and health; else "fleet-* after 5m"
//! ```
//!
//! A rule is known by its name: under another one it is another rule, which knows nothing of what the first has raised.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::deliver::Sender;
use super::signature::Secret;
use super::{Error, Options};
use crate::buffer::options::Options as BufferOptions;
use crate::percent;

/// Rules at most.
pub const MAX_RULES: usize = 100;
/// The shortest `after`.
const LEAST_AFTER: Duration = Duration::from_secs(1);
/// The shortest pause between two looks.
const LEAST_EVERY: Duration = Duration::from_millis(1);
/// Bytes of a name at most.
const MAX_NAME_BYTES: usize = 200;
const KEYS: [&str; 5] = ["match", "after", "webhook", "secret-file", "name"];

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    User(String),
    Prefix(String),
}

/// Where events go. Its `Debug` shows no more than may be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Webhook(Url);

impl Webhook {
    fn read(text: &str) -> Result<Self, String> {
        // What is wrong with it is said without it: it may hold a secret.
        let url =
            Url::parse(text).map_err(|error| format!("webhook: this is no URL ({error}); write https://host/path"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("webhook: {}:// is not spoken; write https:// or http://", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) || url.fragment().is_some() {
            return Err("webhook: it needs a host, and no part behind #".to_owned());
        }
        let webhook = Self(url);
        if webhook.has_login() && webhook.login().is_none() {
            return Err("webhook: its user or password cannot be sent; write them percent-encoded (a % as %25), as UTF-8, without \
                        control characters, and the user without a colon"
                .to_owned());
        }
        Ok(webhook)
    }

    /// What is posted to: all but user and password.
    pub(super) fn target(&self) -> String {
        let mut url = self.0.clone();
        // Neither fails where there is a host.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.into()
    }

    /// User and password, as HTTP's basic authentication sends them (RFC 7617).
    pub(super) fn authorization(&self) -> Option<String> {
        let (user, password) = self.login()?;
        Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// User and password, where there are any that can be sent.
    fn login(&self) -> Option<(String, String)> {
        let user = percent::decode(self.0.username(), false)?;
        let password = percent::decode(self.0.password().unwrap_or_default(), false)?;
        let is_sent = |text: &str| !text.contains(char::is_control);
        (self.has_login() && !user.contains(':') && is_sent(&user) && is_sent(&password)).then_some((user, password))
    }

    fn has_login(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// What of it may be logged.
    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl fmt::Display for Webhook {
    /// Paths, too, are where services put what lets somebody in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme(), self.host());
        let user = if self.has_login() { "***@" } else { "" };
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        let rest = if self.0.path().len() > 1 || self.0.query().is_some() { "***" } else { "" };
        write!(f, "{scheme}://{user}{host}{port}/{rest}")
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({self})")
    }
}

/// One rule, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(super) name: String,
    pattern: Pattern,
    after: Duration,
    pub(super) webhook: Webhook,
    secret_file: Option<PathBuf>,
}

impl Rule {
    /// Reads all rules of a file.
    ///
    /// # Errors
    /// One line that says which rule is wrong and how to mend it.
    pub fn read_all(value: toml::Value) -> Result<Vec<Self>, String> {
        let toml::Value::Array(tables) = value else {
            return Err("silence: rules are written as tables, each headed by [[silence]]".to_owned());
        };
        if tables.len() > MAX_RULES {
            return Err(format!("silence: {} rules are too many; at most {MAX_RULES} are allowed", tables.len()));
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for (at, table) in tables.into_iter().enumerate() {
            let wrong = |what: String| format!("[[silence]] number {}: {what}", at + 1);
            let rule = Self::read(table).map_err(wrong)?;
            if !names.insert(rule.name.clone()) {
                return Err(wrong(format!("there is another rule named {:?}; give each a name of its own", rule.name)));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn read(value: toml::Value) -> Result<Self, String> {
        let toml::Value::Table(table) = value else {
            return Err("it is no table; head each rule by [[silence]]".to_owned());
        };
        let mut texts = Texts::read(table)?;
        let pattern =
            pattern(&texts.take("match")?.ok_or("match is missing; name a user, or a prefix as \"fleet-*\"")?)?;
        let after_text = texts.take("after")?.ok_or("after is missing; write a duration as \"5m\"")?;
        let after = humantime::parse_duration(&after_text)
            .map_err(|error| format!("after: {after_text:?} is no duration ({error}); write one as \"5m\""))?;
        let webhook = texts.take("webhook")?.ok_or("webhook is missing; write https://host/path")?;
        let secret_file = texts.take("secret-file")?.map(PathBuf::from);
        let name = match texts.take("name")? {
            Some(name) => name,
            None => format!("{} after {}", shown(&pattern), humantime::format_duration(after)),
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
            return Err(format!("name: give 1 to {MAX_NAME_BYTES} bytes without control characters"));
        }
        Ok(Self { name, pattern, after, webhook: Webhook::read(&webhook)?, secret_file })
    }

    /// Whether it is about this user.
    pub(super) fn is_about(&self, user_id: &str) -> bool {
        match &self.pattern {
            Pattern::User(user) => user == user_id,
            Pattern::Prefix(prefix) => user_id.starts_with(prefix),
        }
    }

    /// How long a silence must be, in ms.
    pub(super) fn after_ms(&self) -> i64 {
        i64::try_from(self.after.as_millis()).unwrap_or(i64::MAX)
    }

    /// As lines of the file, with nothing secret in them.
    pub fn redacted(&self) -> String {
        self.lines(&self.webhook.to_string())
    }

    /// As lines that are read as the same.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn print(&self) -> String {
        self.lines(self.webhook.0.as_str())
    }

    fn lines(&self, webhook: &str) -> String {
        let text = |text: &str| toml::Value::from(text).to_string();
        let after = humantime::format_duration(self.after).to_string();
        let mut lines = format!(
            "[[silence]]\nmatch = {}\nafter = {}\nwebhook = {}\n",
            text(&shown(&self.pattern)),
            text(&after),
            text(webhook)
        );
        if let Some(file) = &self.secret_file {
            lines.push_str(&format!("secret-file = {}\n", text(&file.to_string_lossy())));
        }
        lines.push_str(&format!("name = {}\n", text(&self.name)));
        lines
    }
}

/// The keys of one rule.
struct Texts(toml::Table);

impl Texts {
    fn read(table: toml::Table) -> Result<Self, String> {
        let mut texts = toml::Table::new();
        for (key, value) in table {
            // As everywhere in the file, underscores are read as dashes.
            let known = key.replace('_', "-");
            if !KEYS.contains(&known.as_str()) {
                return Err(format!("`{key}` is no key of a rule; there are {}", KEYS.join(", ")));
            }
            if texts.insert(known, value).is_some() {
                return Err(format!("`{key}` is there twice"));
            }
        }
        Ok(Self(texts))
    }

    fn take(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{key}: write it as a text in quotes, not as {}", other.type_str())),
        }
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let (prefix, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
    if text.is_empty() || prefix.contains('*') || text.contains(char::is_control) || prefix.len() > 128 {
        return Err(format!("match: {text:?} is neither a user nor a prefix with one * at its end"));
    }
    Ok(if is_prefix { Pattern::Prefix(prefix.to_owned()) } else { Pattern::User(text.to_owned()) })
}

fn shown(pattern: &Pattern) -> String {
    match pattern {
        Pattern::User(user) => user.clone(),
        Pattern::Prefix(prefix) => format!("{prefix}*"),
    }
}

/// The rules in force, with what they name.
#[derive(Debug)]
pub struct Rules {
    pub(super) rules: Vec<Rule>,
    pub(super) secrets: Vec<Option<Secret>>,
    pub(super) sender: Sender,
    pub(super) options: Options,
}

impl Rules {
    /// Reads the files that the rules and the options name, and checks how times relate. It blocks.
    ///
    /// # Errors
    /// One line for a person.
    pub fn open(rules: Vec<Rule>, options: &Options, buffer: &BufferOptions) -> Result<Self, Error> {
        if buffer.max_devices == 0 && !rules.is_empty() {
            return Err(Error("silence: max-devices is 0, so no device is known that a rule could miss".to_owned()));
        }
        if *options.silence_every < LEAST_EVERY && !rules.is_empty() {
            return Err(Error(format!("silence-every: {} must be at least 1ms", options.silence_every)));
        }
        let remember_devices = *buffer.remember_devices;
        for rule in &rules {
            check_after(rule, options, remember_devices).map_err(|what| wrong(rule, &what))?;
        }
        let secrets = rules.iter().map(|rule| {
            let file = rule.secret_file.as_deref();
            file.map(Secret::read).transpose().map_err(|what| wrong(rule, &format!("secret-file: {what}")))
        });
        let secrets = secrets.collect::<Result<_, _>>()?;
        let sender = Sender::new(options.webhook_ca.as_deref()).map_err(|what| Error(format!("webhook-ca: {what}")))?;
        Ok(Self { rules, secrets, sender, options: options.clone() })
    }

    /// The shortest `after` of all rules, in ms.
    pub(super) fn shortest_after_ms(&self) -> i64 {
        self.rules.iter().map(Rule::after_ms).min().unwrap_or(i64::MAX)
    }

    /// The place of a rule.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name == name)
    }

    /// The longest `after`.
    pub(super) fn longest_after(&self) -> Duration {
        self.rules.iter().map(|rule| rule.after).max().unwrap_or_default()
    }

    /// The names of those whose deliveries are not signed.
    pub(super) fn unsigned(&self) -> Vec<&str> {
        let rules = self.rules.iter().zip(&self.secrets).filter(|(_, secret)| secret.is_none());
        rules.map(|(rule, _)| rule.name.as_str()).collect()
    }
}

fn wrong(rule: &Rule, what: &str) -> Error {
    Error(format!("silence: rule {:?}: {what}", rule.name))
}

fn check_after(rule: &Rule, options: &Options, remember_devices: Duration) -> Result<(), String> {
    let after = humantime::format_duration(rule.after);
    let least = LEAST_AFTER.max(*options.silence_every);
    if rule.after < least {
        let least = humantime::format_duration(least);
        return Err(format!("after: {after} must be at least {least} (1s, and silence-every)"));
    }
    if rule.after > remember_devices {
        let most = humantime::format_duration(remember_devices);
        return Err(format!("after: {after} must be at most remember-devices, {most}: who is forgotten is not missed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Rule>, String> {
        let mut table: toml::Table = toml::from_str(text).unwrap();
        Rule::read_all(table.remove("silence").unwrap())
    }

    fn one(text: &str) -> Result<Rule, String> {
        Ok(read(&format!("[[silence]]\n{text}"))?.remove(0))
    }

    const GOOD: &str = "match = \"fleet-*\"\nafter = \"5m\"\nwebhook = \"https://u:p@example.org/hook?key=1\"";

    #[test]
    fn a_rule_is_read_and_printed_without_its_secrets() {
        let rule = one(&format!("{GOOD}\nsecret_file = \"/run/secret\"")).unwrap();
        assert_eq!(rule.name, "fleet-* after 5m");
        assert_eq!(rule.after_ms(), 300_000);
        assert!(rule.is_about("fleet-7") && rule.is_about("fleet-") && !rule.is_about("fleet"));
        assert_eq!(read(&rule.print()), Ok(vec![rule.clone()]));
        let shown = rule.redacted();
        assert!(
            shown.contains("webhook = \"https://***@example.org/***\"") && shown.contains("/run/secret"),
            "{shown}"
        );
        assert!(!format!("{rule:?}").contains("key=1") && !format!("{rule:?}").contains("u:p"));
        let ada = one("match = \"ada\"\nafter = \"90s\"\nwebhook = \"http://127.0.0.1:9/\"\nname = \"a\"").unwrap();
        assert!(ada.is_about("ada") && !ada.is_about("ada2") && ada.name == "a");
        assert!(ada.redacted().contains("\"http://127.0.0.1:9/\""));
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_the_rule_and_the_key() {
        for (text, words) in [
            (format!("{GOOD}\naftr = \"1m\""), ["number 1", "`aftr`"]),
            (GOOD.replace("match", "name"), ["number 1", "match is missing"]),
            (GOOD.replace("fleet-*", "fl*eet"), ["match", "fl*eet"]),
            (GOOD.replace("5m", "soon"), ["after", "soon"]),
            (GOOD.replace("\"5m\"", "5"), ["after", "integer"]),
            (GOOD.replace("https", "ftp"), ["webhook", "ftp"]),
            (GOOD.replace("https://u:p@example.org/hook?key=1", "hook"), ["webhook", "https://"]),
            (format!("{GOOD}\nname = \"\""), ["name", "control characters"]),
            (format!("{GOOD}\n[[silence]]\n{GOOD}"), ["number 2", "another rule"]),
        ] {
            let error = read(&format!("[[silence]]\n{text}")).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{text}: {error}");
            assert!(!error.contains("key=1"), "{error}");
        }
        assert!(read("[silence]\nmatch = \"a\"").unwrap_err().contains("[[silence]]"));
        let many: String = (0..101).map(|n| format!("[[silence]]\n{GOOD}\nname = \"{n}\"\n")).collect();
        assert!(read(&many).unwrap_err().contains("101 rules"));
    }

    #[test]
    fn user_and_password_of_a_webhook_are_sent_as_what_they_stand_for() {
        let webhook = |login: &str| Webhook::read(&format!("https://{login}example.org:8443/hook?key=1"));
        let decoded = |header: Option<String>| {
            let header = header?;
            String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ")?).unwrap()).ok()
        };
        for (login, expected) in [
            ("", None),
            ("user:pass@", Some("user:pass")),
            ("us%65r:p%40w%3A%25@", Some("user:p@w:%")),
            ("user@", Some("user:")),
            (":pass@", Some(":pass")),
            ("g%C3%A9:a+b@", Some("gé:a+b")),
        ] {
            let webhook = webhook(login).unwrap();
            assert_eq!(decoded(webhook.authorization()).as_deref(), expected, "{login}");
            assert_eq!(webhook.target(), "https://example.org:8443/hook?key=1");
        }
        for login in ["u%3Axx:p@", "xx:p%zz@", "xx:p%ff@", "xx%0A:p@"] {
            let error = webhook(login).unwrap_err();
            assert!(error.contains("percent-encoded") && !error.contains("xx"), "{error}");
        }
    }

    #[test]
    fn times_that_do_not_fit_together_are_refused() {
        let mut buffer = BufferOptions::default();
        let rule = |after: &str| vec![one(&GOOD.replace("5m", after)).unwrap()];
        let open = |after: &str| Rules::open(rule(after), &Options::default(), &buffer);
        assert!(open("5s").is_ok() && open("7d").is_ok());
        assert!(open("4s").unwrap_err().to_string().contains("at least 5s"));
        assert!(open("8d").unwrap_err().to_string().contains("remember-devices"));
        let never = Options { silence_every: Duration::ZERO.into(), ..Options::default() };
        let error = Rules::open(rule("5m"), &never, &buffer).unwrap_err();
        assert!(error.to_string().contains("silence-every: 0s"), "{error}");
        let signed = one(&format!("{GOOD}\nsecret-file = \"/nowhere\"")).unwrap();
        let error = Rules::open(vec![signed], &Options::default(), &buffer).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
        buffer.max_devices = 0;
        let error = Rules::open(rule("5m"), &Options::default(), &buffer).unwrap_err();
        assert!(error.to_string().contains("max-devices"), "{error}");
        Rules::open(Vec::new(), &Options::default(), &buffer).unwrap();
    }
}
