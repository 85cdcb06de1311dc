//! Settings: built-in defaults < `systole.toml` < `SYSTOLE_*` variables < flags.
//!
//! Constraints: each setting is defined once, as a clap argument in the `Options` of the part that owns it; its flag, its
//! variable, its default, its help and its line in the file all come from there. This module adds what clap lacks: the
//! file as a layer between defaults and environment, errors of one line that say where the value came from, and a print
//! of what is in force with secrets redacted.
//!
//! The file: `key = value` with the names of the flags (`max-delay` or `max_delay`), for every command; a table with the
//! name of a command (`[batch]`) holds what is for that command only. A key that no command knows is refused. Each table
//! `[[silence]]` is a rule (`silence/rule.rs`): the one thing that the file alone can say.

pub mod relations;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::buffer::redis::BufferUrls;
use crate::silence::Rule;

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "systole.toml";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "SYSTOLE_CONFIG";

/// The tables of the file that are rules.
const SILENCE: &str = "silence";

/// What was wrong with the settings, in one line; exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// An error with this one line.
    pub fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

/// The parsed file: values by flag name, apart for all commands and for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    path: Option<PathBuf>,
    common: Values,
    by_command: BTreeMap<String, Values>,
    silence: Vec<Rule>,
}

type Values = BTreeMap<String, Vec<String>>;

impl File {
    /// Reads the file that `--config` or `SYSTOLE_CONFIG` names, else `systole.toml` when it is there.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or holds a key or table that `command` does not know.
    pub fn load(arguments: &[OsString], command: &Command) -> Result<Self, Error> {
        let named = flag_value(arguments, "--config").or_else(|| std::env::var_os(FILE_VARIABLE)).map(PathBuf::from);
        let path = match named {
            Some(path) => path,
            None if Path::new(DEFAULT_FILE).is_file() => DEFAULT_FILE.into(),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error(format!("config: cannot read {}: {error}", path.display())))?;
        let mut file =
            Self::parse(&text, command).map_err(|error| Error(format!("config: {}: {error}", path.display())))?;
        file.path = Some(path);
        Ok(file)
    }

    /// As text that reads as the same.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn print(&self) -> String {
        let table = |values: &Values| -> toml::Table {
            values.iter().map(|(name, values)| (name.clone(), values.clone().into())).collect()
        };
        let mut whole = table(&self.common);
        whole.extend(self.by_command.iter().map(|(name, values)| (name.clone(), table(values).into())));
        let rules: String = self.silence.iter().map(Rule::print).collect();
        whole.to_string() + &rules
    }

    /// How the file is called.
    pub fn source(&self) -> String {
        self.path.as_ref().map_or_else(|| DEFAULT_FILE.to_owned(), |path| path.display().to_string())
    }

    /// The rules about silence, in the order of the file.
    pub fn silence(&self) -> &[Rule] {
        &self.silence
    }

    pub(crate) fn parse(text: &str, command: &Command) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            // The line's number and not its text, which may hold a password.
            let line =
                error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
            line.map_or_else(String::new, |line| format!("line {line}: ")) + &one_line(error.message())
        })?;
        let mut file = Self::default();
        for (key, value) in table {
            match value {
                rules if key == SILENCE => file.silence = Rule::read_all(rules)?,
                toml::Value::Table(section) => {
                    let subcommand = command
                        .find_subcommand(&key)
                        .ok_or_else(|| format!("[{key}] is no command; see `systole --help`"))?;
                    let values = file.by_command.entry(key.clone()).or_default();
                    for (name, value) in section {
                        let name = known_flag(&name, |flag| has_flag(subcommand, flag))
                            .ok_or_else(|| format!("`{name}` is no setting of [{key}]; see `systole {key} --help`"))?;
                        let texts = texts(&name, value)?;
                        add(values, name, texts)?;
                    }
                }
                value => {
                    let known = |flag: &str| command.get_subcommands().any(|command| has_flag(command, flag));
                    let name = known_flag(&key, known)
                        .ok_or_else(|| format!("`{key}` is no setting; `systole config` lists them"))?;
                    let texts = texts(&key, value)?;
                    add(&mut file.common, name, texts)?;
                }
            }
        }
        Ok(file)
    }

    /// Makes the file's values the defaults of `command`'s arguments.
    pub fn apply(&self, mut command: Command) -> Command {
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names {
            command = command.mut_subcommand(&name, |sub| self.apply_to(&name, sub));
        }
        command
    }

    fn apply_to(&self, name: &str, mut command: Command) -> Command {
        let ids: Vec<(clap::Id, String)> = command
            .get_arguments()
            .filter_map(|arg| Some((arg.get_id().clone(), arg.get_long()?.to_owned())))
            .collect();
        for (id, flag) in ids {
            if let Some(values) = self.value(name, &flag) {
                let values: Vec<OsString> = values.iter().map(OsString::from).collect();
                command = command.mut_arg(id, |arg| arg.default_values(values));
            }
        }
        let nested: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for inner in nested {
            command = command.mut_subcommand(inner, |sub| self.apply_to(name, sub));
        }
        command
    }

    fn value(&self, command: &str, flag: &str) -> Option<&Vec<String>> {
        self.by_command.get(command).and_then(|values| values.get(flag)).or_else(|| self.common.get(flag))
    }
}

/// Parses the command line over environment, file and defaults.
///
/// # Errors
/// One line for a person; help and version are printed by clap and end the process with 0.
pub fn matches(command: Command, arguments: &[OsString]) -> Result<(ArgMatches, File), Error> {
    let file = File::load(arguments, &command)?;
    let layered = file.apply(command);
    match layered.clone().try_get_matches_from(arguments) {
        Ok(matches) => Ok((matches, file)),
        // clap's own printing is right for both.
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => error.exit(),
        Err(error) => Err(explain(&error, &layered, arguments, &file)),
    }
}

/// clap's message as one line, with the place that a wrong value came from.
fn explain(error: &clap::Error, command: &Command, arguments: &[OsString], file: &File) -> Error {
    let rendered = error.render().to_string();
    let text: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    let mut line = one_line(text.join(" ").trim_start_matches("error: "));
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(flag) = argument.split([' ', '=']).next().and_then(|flag| flag.strip_prefix("--"))
    {
        line.push_str(&origin(flag, command, arguments, file));
    }
    if !line.contains("--help") {
        line.push_str("; see `systole --help`");
    }
    Error(line)
}

fn origin(flag: &str, command: &Command, arguments: &[OsString], file: &File) -> String {
    let subcommand = command.get_subcommands().find(|sub| arguments.iter().any(|arg| arg == sub.get_name()));
    if flag_value(arguments, &format!("--{flag}")).is_some() {
        return String::new();
    }
    let variable = subcommand
        .and_then(|sub| sub.get_arguments().find(|arg| arg.get_long() == Some(flag)))
        .and_then(Arg::get_env)
        .filter(|variable| std::env::var_os(variable).is_some());
    if let Some(variable) = variable {
        return format!(" (from {})", variable.to_string_lossy());
    }
    match &file.path {
        Some(path) if subcommand.is_some_and(|sub| file.value(sub.get_name(), flag).is_some()) => {
            format!(" (from {})", path.display())
        }
        _ => String::new(),
    }
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// Its name: flag and line in the file.
    pub name: String,
    /// Its value as text, secrets redacted; `None` when unset.
    pub value: Option<String>,
    /// `default`, the file, the variable, or `flag`.
    pub source: String,
}

/// What is in force for one subcommand, in the order of its help.
pub fn in_force(command: &Command, name: &str, matches: &ArgMatches, file: &File) -> Vec<Setting> {
    let Some(subcommand) = command.find_subcommand(name) else {
        return Vec::new();
    };
    subcommand
        .get_arguments()
        .filter_map(|arg| Some((arg, arg.get_long()?)))
        .filter(|(_, flag)| !matches!(*flag, "help" | "version"))
        .map(|(arg, flag)| {
            let id = arg.get_id().as_str();
            let value = matches.try_get_raw(id).ok().flatten().map(|values| {
                let texts: Vec<_> = values.map(|value| shown(flag, &value.to_string_lossy())).collect();
                texts.join(",")
            });
            let from_file = file.value(name, flag).is_some();
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => "flag".to_owned(),
                Some(ValueSource::EnvVariable) => arg.get_env().unwrap_or_default().to_string_lossy().into_owned(),
                Some(_) if from_file => file.source(),
                _ => "default".to_owned(),
            };
            Setting { name: flag.to_owned(), value, source }
        })
        .collect()
}

/// The value as it may be shown: only the buffer's URLs can hold a secret.
fn shown(flag: &str, value: &str) -> String {
    match value.parse::<BufferUrls>() {
        Ok(urls) if flag == "buffer" => urls.redacted(),
        _ => value.to_owned(),
    }
}

fn has_flag(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(flag))
        || command.get_subcommands().any(|inner| has_flag(inner, flag))
}

/// Adds a setting, which may stand there in one spelling only.
fn add(values: &mut Values, name: String, texts: Vec<String>) -> Result<(), String> {
    let again = format!("`{name}` is set twice, with a dash and with an underscore: leave one of them");
    if values.insert(name, texts).is_some() { Err(again) } else { Ok(()) }
}

/// The flag that a key of the file means: underscores are read as dashes.
fn known_flag(key: &str, known: impl Fn(&str) -> bool) -> Option<String> {
    let flag = key.replace('_', "-");
    (flag != "config" && known(&flag)).then_some(flag)
}

fn texts(key: &str, value: toml::Value) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(text) => Ok(vec![text]),
        toml::Value::Integer(number) => Ok(vec![number.to_string()]),
        toml::Value::Float(number) => Ok(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Ok(vec![flag.to_string()]),
        toml::Value::Array(values) => {
            let nested: Result<Vec<_>, _> = values.into_iter().map(|value| texts(key, value)).collect();
            Ok(nested?.into_iter().flatten().collect())
        }
        other => Err(format!("`{key}` must be a string, a number, true or false, or a list, not {}", other.type_str())),
    }
}

fn flag_value(arguments: &[OsString], flag: &str) -> Option<OsString> {
    let mut rest = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if argument == flag {
            return rest.next().cloned();
        }
        if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix(flag)?.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let delay = Arg::new("max_delay").long("max-delay").default_value("5").value_parser(clap::value_parser!(u32));
        let flag = Arg::new("risky").long("risky").action(clap::ArgAction::SetTrue);
        Command::new("systole")
            .subcommand(Command::new("batch").arg(delay).arg(flag))
            .subcommand(Command::new("serve").arg(Arg::new("buffer").long("buffer")))
    }

    fn parse(file: &str, arguments: &[&str]) -> Result<(ArgMatches, File), String> {
        let file = File::parse(file, &command())?;
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let layered = file.apply(command());
        layered
            .clone()
            .try_get_matches_from(&arguments)
            .map(|matches| (matches, file.clone()))
            .map_err(|error| explain(&error, &layered, &arguments, &file).to_string())
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let delay = |file: &str, arguments: &[&str]| {
            let (matches, _) = parse(file, arguments).unwrap();
            *matches.subcommand().unwrap().1.get_one::<u32>("max_delay").unwrap()
        };
        assert_eq!(delay("", &["systole", "batch"]), 5);
        assert_eq!(delay("max_delay = 7", &["systole", "batch"]), 7);
        assert_eq!(delay("max-delay = 7\n[batch]\nmax-delay = 8", &["systole", "batch"]), 8);
        assert_eq!(delay("max_delay = 7", &["systole", "batch", "--max-delay", "9"]), 9);
    }

    #[test]
    fn a_mistake_in_the_file_is_told_with_its_place() {
        let told = |file: &str| parse(file, &["systole", "batch"]).unwrap_err();
        assert!(
            told("risky = true\nmax-delay = \"5").starts_with("line 2: "),
            "{}",
            told("risky = true\nmax-delay = \"5")
        );
        assert!(!told("buffer = \"redis://:s3cret@host").contains("s3cret"));
        assert!(told("max-delay = 1\nmax_delay = 2").starts_with("`max-delay` is set twice"));
        assert!(told("[batch]\nmax-delay = 1\nmax_delay = 2").starts_with("`max-delay` is set twice"));
        assert!(told("[serve]\nbuffer = {url = 1}").starts_with("`buffer` must be"));
    }

    #[test]
    fn a_switch_can_stand_in_the_file() {
        let (matches, _) = parse("risky = true", &["systole", "batch"]).unwrap();
        assert!(matches.subcommand().unwrap().1.get_flag("risky"));
    }

    #[test]
    fn a_wrong_value_is_one_line_that_names_setting_value_and_what_is_allowed() {
        let error = parse("", &["systole", "batch", "--max-delay", "soon"]).unwrap_err();
        assert!(!error.contains('\n') && error.contains("--max-delay") && error.contains("soon"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(parse("max_dealy = 7", &["systole", "batch"]).unwrap_err().contains("max_dealy"));
        assert!(parse("[bach]\nx = 7", &["systole", "batch"]).unwrap_err().contains("bach"));
        assert!(parse("[serve]\nmax-delay = 7", &["systole", "batch"]).unwrap_err().contains("max-delay"));
        assert!(parse("x = [", &["systole", "batch"]).is_err());
    }

    #[test]
    fn rules_about_silence_stand_beside_settings_and_are_read_back() {
        let rule = "[[silence]]\nmatch = \"ada\"\nafter = \"1m\"\nwebhook = \"https://h/\"\n";
        let file = File::parse(&format!("max-delay = 7\n{rule}{}", rule.replace("ada", "bob")), &command()).unwrap();
        assert_eq!(file.silence().len(), 2);
        assert_eq!(File::parse(&file.print(), &command()), Ok(file));
        let error = File::parse(&rule.replace("after", "aftr"), &command()).unwrap_err();
        assert!(error.contains("number 1") && error.contains("aftr"), "{error}");
        assert!(File::parse("silence = 1", &command()).unwrap_err().contains("[[silence]]"));
        assert!(File::parse(&rule.replace("[[silence]]", "[silence]"), &command()).is_err());
    }

    #[test]
    fn what_is_in_force_names_its_source_and_hides_passwords() {
        let arguments = ["systole", "serve", "--buffer", "redis://u:secret@h:1,redis://h:2"];
        let (matches, file) = parse("buffer = 'x'", &arguments).unwrap();
        let settings = in_force(&command(), "serve", matches.subcommand().unwrap().1, &file);
        assert_eq!(settings[0].source, "flag");
        assert_eq!(settings[0].value.as_deref(), Some("redis://u:***@h:1,redis://h:2"));
    }
}
