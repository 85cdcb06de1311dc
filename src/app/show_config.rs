//! `systole config`: what is in force, and where each value comes from.

use std::ffi::OsString;

use clap::CommandFactory;

use super::{Done, Outcome, output};
use crate::cli::{Cli, Config};
use crate::config;

/// Prints the settings of one command as lines for `systole.toml`, or as JSON.
pub fn run(args: &Config) -> Outcome {
    let mut arguments = vec![OsString::from("systole")];
    arguments.extend(args.command.iter().cloned());
    if let Some(file) = &args.config {
        arguments.extend(["--config".into(), file.into()]);
    }
    let command = Cli::command();
    let (matches, file) = config::matches(command.clone(), &arguments)?;
    let Some((name, matches)) = matches.subcommand() else {
        return Err(config::Error::new("config: name a command, such as `systole config batch`").into());
    };
    let rules = if matches!(name, "up" | "serve") { file.silence() } else { &[] };
    let settings = config::in_force(&command, name, matches, &file);
    if args.output.json {
        let rules = rules.iter().map(|rule| config::Setting {
            name: "silence".into(),
            value: Some(rule.redacted()),
            source: file.source(),
        });
        output::json(&settings.into_iter().chain(rules).collect::<Vec<_>>())?;
        return Ok(Done::Well);
    }
    output::line(format!("[{name}]"))?;
    for setting in settings {
        output::line(match &setting.value {
            Some(value) => format!("{} = {value:?}  # {}", setting.name, setting.source),
            None => format!("# {} is not set", setting.name),
        })?;
    }
    for rule in rules {
        output::line(format!("\n{}", rule.redacted().trim_end()))?;
    }
    Ok(Done::Well)
}
