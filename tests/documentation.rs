//! The README says what the program does: its table of settings is made from the command line itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::fmt::Write;

use clap::CommandFactory;
use systole::cli::Cli;

const BEGIN: &str = "<!-- settings: written by `UPDATE_README=1 cargo test --test documentation` -->\n";
const END: &str = "<!-- end of settings -->";
const COMMANDS: [&str; 4] = ["up", "serve", "batch", "compact"];

/// One row a setting, in the order of the help of the first command that has it.
fn settings() -> String {
    let cli = Cli::command();
    let mut rows: Vec<(String, String, String, Vec<&str>)> = Vec::new();
    for name in COMMANDS {
        let command = cli.find_subcommand(name).unwrap();
        for arg in command.get_arguments() {
            let Some(flag) = arg.get_long().filter(|flag| !matches!(*flag, "help" | "version" | "json")) else {
                continue;
            };
            let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
            let default = defaults.collect::<Vec<_>>().join(",");
            let help = arg.get_help().unwrap().to_string();
            match rows.iter_mut().find(|row| row.0 == flag && row.1 == default) {
                Some(row) => row.3.push(name),
                None => rows.push((flag.to_owned(), default, help, vec![name])),
            }
        }
    }
    let mut table = String::from("\n| setting | default | of | meaning |\n| --- | --- | --- | --- |\n");
    for (flag, default, help, commands) in rows {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        writeln!(table, "| `{flag}` | {default} | {} | {} |", commands.join(", "), help.replace('|', "\\|")).unwrap();
    }
    table.push_str(
        "\nThe variable of a setting is its name in capitals after `SYSTOLE_`: `max-delay` is \
                    `SYSTOLE_MAX_DELAY`.\n\n",
    );
    table
}

#[test]
fn the_settings_in_the_readme_are_those_of_the_program() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let wanted = settings();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    } else {
        assert!(found == wanted, "run: UPDATE_README=1 cargo test --test documentation");
    }
}
