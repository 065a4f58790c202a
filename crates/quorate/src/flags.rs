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
use config_file::Setting;
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
        Some(path) => apply_file(&mut draft, Path::new(path), &given, &environment)?,
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

/// The file alone counts. What else is given is named, since whoever gave it believes that it does.
fn apply_file(
    draft: &mut Draft,
    path: &Path,
    given: &Given,
    environment: &BTreeMap<String, String>,
) -> Result<(), String> {
    for Setting { flag, value, place } in config_file::read(path)? {
        match table::find(&flag) {
            Some(flag) => apply(draft, flag, &value, &place)?,
            None => draft.warnings.push(format!("{place}: no such setting")),
        }
    }
    let flags = given.values.iter().filter(|(name, _)| *name != "config-file");
    let flags = flags.map(|(name, value)| format!("--{name}={value}"));
    let is_setting = |name: &str| {
        name != variable("config-file") && table::flags().any(|flag| variable(flag.name) == name)
    };
    let variables =
        environment.iter().filter(|(name, value)| is_setting(name) && !value.is_empty());
    let variables = variables.map(|(name, value)| format!("{name}={value}"));
    let file = path.display();
    let lost = flags.chain(variables).map(|lost| format!("{lost}: not used, only {file} counts"));
    draft.warnings.extend(lost);
    Ok(())
}

fn apply_given(
    draft: &mut Draft,
    given: &Given,
    environment: &BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
        match table::flags().find(|flag| variable(flag.name) == *name) {
            None => draft.warnings.push(format!("{name}: no such setting")),
            Some(flag) => match given.value(flag.name) {
                None => apply(draft, flag, value, name)?,
                Some(stronger) => draft.warnings.push(format!(
                    "{name}={value}: not used, --{}={stronger} is given too",
                    flag.name
                )),
            },
        }
    }
    for (name, value) in &given.values {
        if let Some(flag) = table::find(name) {
            apply(draft, flag, value, &format!("--{name}"))?;
        }
        if let Some(later) = given.value(name).filter(|later| *later != value) {
            let lost = format!("--{name}={value}: not used, --{name}={later} is given later");
            draft.warnings.push(lost);
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
