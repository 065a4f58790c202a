//! A command line as Go's `flag` package reads it, which is what etcd's users write.
//!
//! `-flag` and `--flag` are the same; a value follows behind `=` or as the next argument, but for flags that are true or
//! false: those take a value only behind `=`. The first argument that is no flag is an error, as in etcd.

use super::table::{self, Kind};

/// What was given, in order; the last one of a flag counts.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Flags of the table with their values.
    pub(super) values: Vec<(String, String)>,
    /// `--help`, `-h`.
    pub(super) help: bool,
    /// `--version`.
    pub(super) version: bool,
}

impl Given {
    /// The value of a flag, if it was given.
    pub(super) fn value(&self, flag: &str) -> Option<&String> {
        self.values.iter().rev().find(|(name, _)| name == flag).map(|(_, value)| value)
    }
}

/// Reads `arguments`.
///
/// # Errors
/// A text that names the argument.
pub(super) fn parse(arguments: &[String]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, value) = split(argument)?;
        match name {
            "help" | "h" => given.help = true,
            "version" => given.version = value != Some("false"),
            _ => {
                let flag = table::find(name).ok_or_else(|| format!("unknown flag --{name}"))?;
                let value = match (value, flag.kind) {
                    (Some(value), _) => value.to_owned(),
                    (None, Kind::Bool) => "true".to_owned(),
                    (None, Kind::Text | Kind::Duration) => {
                        rest.next().ok_or_else(|| format!("--{name} needs a value"))?.clone()
                    }
                };
                given.values.push((name.to_owned(), value));
            }
        }
    }
    Ok(given)
}

/// A flag's name, and its value when that stands in the same argument.
fn split(argument: &str) -> Result<(&str, Option<&str>), String> {
    let flag = argument
        .strip_prefix("--")
        .or_else(|| argument.strip_prefix('-'))
        .filter(|flag| !flag.is_empty() && !flag.starts_with(['-', '=']))
        .ok_or_else(|| format!("{argument:?} is not a valid flag"))?;
    Ok(match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    })
}
