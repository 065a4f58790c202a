//! etcd's config file, YAML or JSON: the flags' names as keys.
//!
//! Durations are whole numbers of nanoseconds there (those that are flags in milliseconds stay so), and TLS settings stand
//! in blocks of their own. Source: `etcd --help` and the example file of etcd 3.7.

use std::{fs, io, path::Path};

use serde_json::Value;

use super::table::{self, Kind};

/// A config file larger than this is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS blocks: the name of the block, what stands before its keys in the flags' names.
const BLOCKS: [(&str, &str); 2] =
    [("client-transport-security", ""), ("peer-transport-security", "peer-")];

/// One setting of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The flag's name.
    pub(super) flag: String,
    pub(super) value: String,
    /// Where it stands, for messages: `FILE:LINE: KEY`.
    pub(super) place: String,
}

/// The settings in the file at `path`, as flags and values.
///
/// # Errors
/// A text that names the file, the line and what is wrong there.
pub(super) fn read(path: &Path) -> Result<Vec<Setting>, String> {
    let place = path.display();
    let unreadable = |error: io::Error| {
        let why = if error.kind() == io::ErrorKind::InvalidData {
            "it is not UTF-8".to_owned()
        } else {
            error.to_string()
        };
        format!("--config-file {place}: {why}")
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "--config-file {place}: {size} bytes, at most {FILE_BYTES_MAX} are read"
        ));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, &place.to_string())
}

fn parse(text: &str, file: &str) -> Result<Vec<Setting>, String> {
    let whole: Value = serde_saphyr::from_str(text).map_err(|error| syntax(&error, file))?;
    let Value::Object(settings) = whole else {
        return Err(format!("{file}:1: not a list of settings; each is written \"name: value\""));
    };
    let mut flags = Vec::new();
    for (key, value) in settings {
        let line = line_of(text, &key, 0);
        match (BLOCKS.iter().find(|(block, _)| **block == *key), value) {
            (None, value) => flags.extend(setting(&key, "", &value, file, line)),
            (Some((_, prefix)), Value::Object(inner)) => {
                flags.extend(inner.into_iter().filter_map(|(key, value)| {
                    setting(&key, prefix, &value, file, line_of(text, &key, line))
                }));
            }
            (Some(_), Value::Null) => {}
            (Some(_), _) => {
                return Err(format!("{file}:{line}: {key}: its settings stand below it, indented"));
            }
        }
    }
    Ok(flags)
}

/// What is wrong with the text, in our words: those of the library speak of its types.
fn syntax(error: &serde_saphyr::Error, file: &str) -> String {
    let (line, column) =
        error.location().map_or((1, 1), |location| (location.line(), location.column()));
    let twice = error.to_string().contains("duplicate");
    let what =
        if twice { "this name stands there twice" } else { "neither YAML nor JSON from here on" };
    format!("{file}:{line}: {what} (column {column})")
}

/// The line where `key` stands, from line `after` on; counted from 1.
fn line_of(text: &str, key: &str, after: usize) -> usize {
    let is_it = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        let rest = line.strip_prefix(key).map(|rest| rest.trim_start_matches(['"', '\'']));
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    let quoted = format!("\"{key}\"");
    let lines = || (1..).zip(text.lines()).skip(after.saturating_sub(1));
    let found = lines().find(|(_, line)| is_it(line));
    let found = found.or_else(|| lines().find(|(_, line)| line.contains(&quoted)));
    found.map_or(1, |(number, _)| number)
}

/// One setting; nothing when it is null.
fn setting(key: &str, prefix: &str, value: &Value, file: &str, line: usize) -> Option<Setting> {
    let flag = format!("{prefix}{key}");
    let value = match value {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if is_duration(&flag) => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        Value::Object(_) => value.to_string(),
    };
    Some(Setting { place: format!("{file}:{line}: {key}"), flag, value })
}

fn is_duration(key: &str) -> bool {
    table::find(key).is_some_and(|flag| flag.kind == Kind::Duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text, "f").unwrap_err()
    }

    #[test]
    fn each_setting_has_its_line() {
        let text = "# head\nname: n1\npeer-transport-security:\n  cert-file: p\n\
                    client-transport-security:\n  cert-file: c\n\"data-dir\": d\n";
        let places: Vec<_> =
            parse(text, "f").unwrap().into_iter().map(|one| (one.place, one.flag)).collect();
        for (place, flag) in [
            ("f:2: name", "name"),
            ("f:4: cert-file", "peer-cert-file"),
            ("f:6: cert-file", "cert-file"),
            ("f:7: data-dir", "data-dir"),
        ] {
            assert!(places.contains(&(place.to_owned(), flag.to_owned())), "{places:?}");
        }
        let json = parse("{\"name\": \"n1\",\n\"data-dir\": 3}", "f").unwrap();
        assert_eq!((&*json[0].place, &*json[0].value), ("f:2: data-dir", "3"));
    }

    #[test]
    fn what_is_no_list_of_settings_is_told_with_its_line() {
        assert_eq!(
            problem("just words"),
            "f:1: not a list of settings; each is written \"name: value\""
        );
        assert_eq!(problem("- a\n- b"), problem("just words"));
        let block = "f:2: client-transport-security: its settings stand below it, indented";
        assert_eq!(problem("name: a\nclient-transport-security: yes"), block);
        let broken = problem("name: a\ndata-dir: [d");
        assert!(broken.starts_with("f:2: neither YAML nor JSON"), "{broken}");
        let twice = problem("name: a\ndata-dir: d\nname: b");
        assert!(twice.starts_with("f:3: this name stands there twice"), "{twice}");
    }
}
