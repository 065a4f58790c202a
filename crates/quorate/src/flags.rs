//! A server's settings: etcd's flags, its `ETCD_*` variables, its config file.
//!
//! [`table`] has one row for each flag that etcd 3.7 knows and a few it knew earlier: what it sets, or why it has no effect
//! here. Order of strength: flag, then variable, then default; a config file makes both be ignored, as in etcd. Every error
//! names the flag (or variable, or file and key) and the value. Sources: `etcd --help` of 3.7.2 and its behaviour.
//!
//! This module turns text into a [`Settings`]; it starts nothing.

mod command_line;
mod config_file;
mod settings;
mod table;
mod values;

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use quorate_server::ServerConfig;

use crate::logging::LogConfig;
use command_line::Given;
use settings::Draft;
use table::{Effect, Flag};
pub(crate) use values::duration;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To run a server.
    Serve(Box<Settings>),
    /// To say how to use it.
    Help,
    /// To say which etcd it stands in for.
    Version(String),
}

/// All that a server process is told.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The server's own.
    pub(crate) server: ServerConfig,
    /// Where its log goes.
    pub(crate) log: LogConfig,
    /// What was given and has no effect.
    pub(crate) warnings: Vec<String>,
}

/// Reads everything. `program` is how it was called, for messages.
///
/// # Errors
/// A text for the user that names what is wrong.
pub(crate) fn read(
    program: &str,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
) -> Result<Asked, String> {
    let arguments = arguments.into_iter().map(text).collect::<Result<Vec<String>, _>>()?;
    let given = command_line::parse(&arguments)
        .map_err(|error| format!("{error}\n{program} --help lists the flags"))?;
    if given.help {
        return Ok(Asked::Help);
    }
    let environment = etcd_variables(environment)?;
    let mut draft = Draft::default();
    let file = given.value("config-file").or_else(|| environment.get(&variable("config-file")));
    match file {
        Some(path) => apply_file(&mut draft, Path::new(path), &given)?,
        None => apply_given(&mut draft, &given, &environment)?,
    }
    if given.version {
        return Ok(Asked::Version(draft.reported_version));
    }
    draft.finish().map(|settings| Asked::Serve(Box::new(settings)))
}

/// All flags, for people.
pub(crate) fn help(program: &str) -> String {
    let mut lines = vec![
        format!("Usage: {program} [flags]"),
        String::new(),
        "Each flag may be given as --flag value, --flag=value, or as a variable ETCD_FLAG."
            .to_owned(),
        String::new(),
    ];
    for flag in table::flags() {
        lines.push(format!("  --{} {}", flag.name, flag.default));
        lines.push(match flag.effect {
            Effect::Set(_, help) => format!("      {help}"),
            Effect::Ignored(reason) => format!("      Accepted without effect: {reason}."),
            Effect::Refused(_, reason) => format!("      Not available: {reason}."),
        });
    }
    lines.join("\n")
}

fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|bad| format!("{}: not UTF-8", bad.display()))
}

/// The variable that stands for a flag.
fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

fn etcd_variables(
    environment: Vec<(OsString, OsString)>,
) -> Result<BTreeMap<String, String>, String> {
    let ours = environment.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("ETCD_"))?;
        Some((name, value))
    });
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(bad) => Err(format!("{name}={}: not UTF-8", bad.display())),
    })
    .collect()
}

fn apply_file(draft: &mut Draft, path: &Path, given: &Given) -> Result<(), String> {
    for (key, value) in config_file::read(path)? {
        match table::find(&key) {
            Some(flag) => apply(draft, flag, &value, &format!("{}: {key}", path.display()))?,
            None => draft.warnings.push(format!("{}: {key} is not known", path.display())),
        }
    }
    let ignored = given.values.iter().filter(|(name, _)| *name != "config-file");
    draft.warnings.extend(
        ignored.map(|(name, _)| format!("--{name}: {} is used, flags are not", path.display())),
    );
    Ok(())
}

fn apply_given(
    draft: &mut Draft,
    given: &Given,
    environment: &BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
        match table::flags().find(|flag| variable(flag.name) == *name) {
            Some(flag) if given.value(flag.name).is_none() => apply(draft, flag, value, name)?,
            Some(flag) => {
                draft.warnings.push(format!("{name}: the flag --{} is given too", flag.name));
            }
            None => draft.warnings.push(format!("{name}: no such setting")),
        }
    }
    for (name, value) in &given.values {
        if let Some(flag) = table::find(name) {
            apply(draft, flag, value, &format!("--{name}"))?;
        }
    }
    Ok(())
}

/// Applies one setting that came from `place`.
fn apply(draft: &mut Draft, flag: &Flag, value: &str, place: &str) -> Result<(), String> {
    match flag.effect {
        Effect::Set(set, _) => {
            set(draft, value)
                .map_err(|problem| format!("invalid value {value:?} for {place}: {problem}"))?;
            draft.given.insert(flag.name);
        }
        Effect::Ignored(reason) => {
            if flag.default.trim_matches('\'') != value {
                draft.warnings.push(format!("{place}={value}: {reason}"));
            }
        }
        Effect::Refused(harmless, reason) => {
            if !harmless.contains(&value) {
                return Err(format!("{place}={value} can't be served: {reason}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
